"""EfficientNet-Lite0 (ImageNet weights) with RetinaNet on the 160 training pictures of coco_small, 30 epochs of batch 8.

    python tools/train.py configs/efficientnet_lite/efficientnet-lite0_retinanet_1xb8-30e_coco-small-384x384.py

Expected: box AP 0.023, AP50 0.059 on the 158 validation pictures of the same set, measured here; 58 minutes on one to two CPU
cores, beside other work.
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
        num_outs=5,
        add_extra_convs="on_input",
        in_strides=(8, 16, 32),
    ),
    bbox_head=dict(
        type="RetinaHead",
        num_classes=80,
        in_channels=96,
        feat_channels=96,
        stacked_convs=2,
        norm_cfg=dict(type="GN", num_groups=16),
        anchor_generator=dict(
            type="AnchorGenerator",
            octave_base_scale=2,
            scales_per_octave=3,
            ratios=(0.5, 1.0, 2.0),
            strides=(8, 16, 32, 64, 128),
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
    dict(type="PackInputs"),
]
pictures = dict(type="CocoDataset", data_root="data/coco_small")
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        **pictures,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        **pictures,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", ann_file="data/coco_small/annotations/instances_val2017.json", metric=["bbox"])
test_evaluator = val_evaluator
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.3)}, norm_decay_mult=0.0),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", T_max=550, eta_min=1e-5, begin=50, end=600, by_epoch=False),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=30, val_interval=30)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=10, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=10, save_best="coco/bbox_mAP", max_keep_ckpts=1),
)
