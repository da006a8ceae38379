"""SCCAN on frozen EfficientNet-Lite0 features (ImageNet weights), meta-trained on 318 pictures of COCO, 400 iterations of batch 8.

    python tools/train.py configs/sccan/sccan_efficientnet-lite0_1xb8-400_coco-20i-small-480x480.py --cfg-options fold=0
    python tools/test.py configs/sccan/sccan_efficientnet-lite0_1xb8-400_coco-20i-small-480x480.py CHECKPOINT --cfg-options fold=0 shot=5

Expected: 20.1 mIoU and 52.1 FB-IoU with one shot, 22.5 and 54.6 with five, means of the four folds, measured here on 1,000
episodes in each.
"""
_base_ = ["../_base_/datasets/coco_20i_small.py", "../_base_/default_runtime.py"]
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
    cached_pictures=2000,
    decode_head=dict(
        type="SCCANHead",
        in_channels=(40, 112),
        in_index=(0, 1),
        high_index=2,
        channels=32,
        map_size=30,
        depth=2,
        num_heads=4,
        patch_size=6,
        prior_range=(-5.0, 5.0),
        mid_dropout=0.2,
    ),
)
train_dataloader = dict(dataset=dict(fold=fold, shot=shot))
val_dataloader = dict(dataset=dict(fold=fold, shot=shot))
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
