"""EfficientNet-Lite0 (ImageNet weights) with RetinaNet on the boxes of PASCAL VOC 2012, 1000 iterations of batch 8.

    python tools/train.py configs/efficientnet_lite/efficientnet-lite0_retinanet_1xb8-1k_voc12-384x384.py

Expected: 0.494 mAP (at IoU 0.5, area under the curve), measured here on 321 of the validation pictures after training on 311,
those of the segmentation lists that data/VOCdevkit has; 0.928 on the 311 themselves. 65 minutes on two CPU cores that were shared
with other work. The stem, the first two stages and all batch norms stay as ImageNet left them.
"""
_base_ = ["../_base_/default_runtime.py"]
model = dict(
    type="RetinaNet",
    data_preprocessor=dict(
        type="DataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0], pad_size_divisor=32
    ),
    backbone=dict(
        type="EfficientNetLite", arch="lite0", pretrained=True, out_indices=(1, 2, 3), frozen_stages=2, norm_eval=True
    ),
    neck=dict(
        type="FPN",
        in_channels=(40, 112, 320),
        out_channels=96,
        num_outs=4,
        add_extra_convs="on_input",
        in_strides=(8, 16, 32),
    ),
    bbox_head=dict(
        type="RetinaHead",
        num_classes=20,
        in_channels=96,
        feat_channels=96,
        stacked_convs=2,
        norm_cfg=dict(type="GN", num_groups=16),
        anchor_generator=dict(
            type="AnchorGenerator",
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=(0.5, 1.0, 2.0),
            strides=(8, 16, 32, 64),
        ),
    ),
)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_bbox=True, with_seg=False),
    dict(type="RandomResize", scale=(384, 384), ratio_range=(0.6, 1.4), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(384, 384)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(384, 384), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_seg=False),
    dict(type="PackInputs"),
]
pictures = dict(type="VOCDetectionDataset", data_root="data/VOCdevkit/VOC2012")
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(**pictures, ann_file="ImageSets/Segmentation/train.txt", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**pictures, ann_file="ImageSets/Segmentation/val.txt", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="VOCMetric", eval_mode="area")
test_evaluator = val_evaluator
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.3)}, norm_decay_mult=0.0),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", T_max=950, eta_min=1e-5, begin=50, end=1000, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=500)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=20),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=250, save_best="pascal_voc/mAP", max_keep_ckpts=2),
)
