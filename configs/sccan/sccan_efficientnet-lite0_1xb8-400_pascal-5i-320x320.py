"""SCCAN on frozen EfficientNet-Lite0 features (ImageNet weights), meta-trained on PASCAL-5i, 400 iterations of batch 8.

    python tools/train.py configs/sccan/sccan_efficientnet-lite0_1xb8-400_pascal-5i-320x320.py --cfg-options fold=0
    python tools/test.py configs/sccan/sccan_efficientnet-lite0_1xb8-400_pascal-5i-320x320.py CHECKPOINT --cfg-options fold=0 shot=5

Expected: 47.0 mIoU and 66.3 FB-IoU with one shot, 49.9 and 69.1 with five, means of the four folds, measured here on 1,000
episodes of the 321 validation pictures that data/VOCdevkit has in each; a fold takes 10 to 15 minutes on one CPU core.
"""
_base_ = ["../_base_/datasets/pascal_5i.py", "../_base_/default_runtime.py"]
fold = 0  # 0 to 3
shot = 1
model = dict(
    type="FewShotSegmentor",
    data_preprocessor=dict(type="FewShotDataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        type="EfficientNetLite",
        arch="lite0",
        pretrained=True,
        out_indices=(1, 2, 3),
        with_head_conv=True,
        norm_eval=True,
    ),
    cached_pictures=1000,
    decode_head=dict(
        type="SCCANHead",
        in_channels=(40, 112),
        in_index=(0, 1),
        high_index=2,
        channels=32,
        map_size=40,
        depth=2,
        num_heads=4,
        patch_size=8,
        prior_range=(-5.0, 5.0),
        mid_dropout=0.2,
    ),
)
label = [dict(type="LoadAnnotations"), dict(type="SelectClass")]
pipeline = [dict(type="LoadImage"), dict(type="ResizeToCanvas", size=320), *label, dict(type="PackInputs")]
support_pipeline = [dict(type="LoadImage"), *label, dict(type="ResizeToCanvas", size=320), dict(type="PackInputs")]
train_pipeline = [
    dict(type="LoadImage"),
    *label,
    dict(type="RandomFlip", prob=0.5),
    dict(type="ResizeToCanvas", size=320),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(fold=fold, shot=shot, beside_prob=0.7, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(fold=fold, shot=shot, pipeline=pipeline, support_pipeline=support_pipeline),
)
test_dataloader = val_dataloader
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="PolyLR", eta_min=0.0, power=0.9, begin=50, end=400, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=400, val_interval=400)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=20),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=400, max_keep_ckpts=1),
)
