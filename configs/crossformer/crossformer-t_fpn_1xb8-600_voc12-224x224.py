"""CrossFormer-T with Semantic FPN on PASCAL VOC 2012, from scratch, 600 iterations of batch 8.

    python tools/train.py configs/crossformer/crossformer-t_fpn_1xb8-600_voc12-224x224.py

Expected: 3.4 mIoU (every pixel background), measured here on 311 of the 1464 training and 321 of the 1449 validation
pictures; 34 minutes on two CPU cores that were shared with other work. A transformer needs pretrained weights here.
"""
_base_ = ["../_base_/datasets/voc12.py", "../_base_/default_runtime.py"]
model = dict(
    type="Segmentor",
    data_preprocessor=dict(type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="CrossFormer", arch="tiny", out_indices=(1, 2, 3)),
    neck=dict(type="FPN", in_channels=(128, 256, 512), out_channels=128, num_outs=3, in_strides=(8, 16, 32)),
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
crop_size = (224, 224)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(336, 336), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="Pad", size=crop_size),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="PolyLR", eta_min=0.0, power=0.9, begin=50, end=600, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=600, val_interval=600)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
tta = dict(scales=(0.75, 1.0, 1.25), flip=True)
default_hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=300, save_best="mIoU"))
