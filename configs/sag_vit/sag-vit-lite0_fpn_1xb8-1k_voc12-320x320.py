"""SAG-ViT on EfficientNet-Lite0 (ImageNet weights) with Semantic FPN on PASCAL VOC 2012, 1000 iterations of batch 8.

    python tools/train.py configs/sag_vit/sag-vit-lite0_fpn_1xb8-1k_voc12-320x320.py

Expected: not measured yet. The counterpart of efficientnet-lite0_fpn_1xb8-1k_voc12-320x320.py: the same data, schedule and head, with the
graph of patches and its transformer in place of the trunk's last stage (stride 32).
"""
_base_ = ["../_base_/datasets/voc12.py", "../_base_/default_runtime.py"]
model = dict(
    type="Segmentor",
    data_preprocessor=dict(type="DataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        type="SAGViT",
        trunk=dict(
            type="EfficientNetLite",
            arch="lite0",
            pretrained=True,
            out_indices=(0, 1, 2),
            frozen_stages=2,
            norm_eval=True,
        ),
        patch_size=2,
        tokens="nodes",
        refine=True,
        out_indices=(1, 2, 3),
    ),
    neck=dict(type="FPN", in_channels=(40, 112, 64), out_channels=128, num_outs=3, in_strides=(8, 16, 32)),
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
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={"backbone.trunk": dict(lr_mult=0.3)}, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="PolyLR", eta_min=0.0, power=0.9, begin=50, end=1000, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=1000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
tta = dict(scales=(0.75, 1.0, 1.25), flip=True)
default_hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=250, save_best="mIoU"))
