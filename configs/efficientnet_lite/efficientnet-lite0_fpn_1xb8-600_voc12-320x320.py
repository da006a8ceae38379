"""EfficientNet-Lite0 (ImageNet weights) with Semantic FPN on PASCAL VOC 2012, 600 iterations of batch 8.

    python tools/train.py configs/efficientnet_lite/efficientnet-lite0_fpn_1xb8-600_voc12-320x320.py

Expected: 51.6 mIoU, measured here on 311 of the 1464 training and 321 of the 1449 validation pictures; 22 minutes on two
CPU cores that were shared with other work. The counterpart of crossformer-t_fpn_1xb8-600_voc12-224x224, of the same length.
"""
_base_ = ["../_base_/datasets/voc12.py", "../_base_/default_runtime.py"]
model = dict(
    type="Segmentor",
    data_preprocessor=dict(type="DataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        type="EfficientNetLite",
        arch="lite0",
        pretrained=True,
        out_indices=(1, 2, 3),
        with_head_conv=True,
        frozen_stages=2,
        norm_eval=True,
    ),
    neck=dict(type="FPN", in_channels=(40, 112, 1280), out_channels=128, num_outs=3, in_strides=(8, 16, 32)),
    decode_head=dict(
        type="FPNHead",
        in_channels=(128, 128, 128),
        feature_strides=(8, 16, 32),
        channels=128,
        dropout_ratio=0.1,
        num_classes=21,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
    test_cfg=dict(mode="whole"),
)
crop_size = (320, 320)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(384, 384), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="Pad", size=crop_size),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(400, 400), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.2)}, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="PolyLR", eta_min=0.0, power=0.9, begin=50, end=600, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=600, val_interval=600)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=300, save_best="mIoU"))
