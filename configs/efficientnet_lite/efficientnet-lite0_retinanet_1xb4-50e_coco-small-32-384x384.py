"""EfficientNet-Lite0 (ImageNet weights) with RetinaNet, fitted to 32 COCO pictures: do targets, losses, decoding and metric agree?

    python tools/train.py configs/efficientnet_lite/efficientnet-lite0_retinanet_1xb4-50e_coco-small-32-384x384.py

Expected: box AP 0.774, AP50 0.948 on the 32 training pictures themselves, measured here; 16 minutes on two CPU cores that were
shared with other work. No estimate of accuracy: on the 158 validation pictures of the same set the AP50 is 0.023.
"""
_base_ = ["../_base_/default_runtime.py"]
model = dict(
    type="RetinaNet",
    data_preprocessor=dict(
        type="DataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0], pad_size_divisor=32
    ),
    backbone=dict(
        type="EfficientNetLite", arch="lite0", pretrained=True, out_indices=(1, 2, 3), norm_eval=True
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
    dict(type="Resize", scale=(384, 384), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(384, 384), keep_ratio=True),
    dict(type="PackInputs"),
]
pictures = dict(
    type="CocoDataset",
    data_root="data/coco_small",
    ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img="train2017"),
    indices=32,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**pictures, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**pictures, filter_cfg=dict(filter_empty_gt=True, min_size=32), pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="CocoMetric", ann_file="data/coco_small/annotations/instances_train2017.json", metric=["bbox"]
)
test_evaluator = val_evaluator
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.0),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.3)}),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=40, by_epoch=False),
    dict(type="CosineAnnealingLR", T_max=360, eta_min=1e-5, begin=40, end=400, by_epoch=False),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=50, val_interval=25)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=8, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=25, save_best="coco/bbox_mAP_50", max_keep_ckpts=1),
)
