"""SCCAN on PASCAL-5i, 200 epochs of batch 8; ResNet-50 (or -101 by depth=101), any fold and number of shots.

    python tools/train.py configs/sccan/sccan_r50_1xb8-200e_pascal-5i-473x473.py --cfg-options fold=0 shot=1 depth=50
    python tools/test.py configs/sccan/sccan_r50_1xb8-200e_pascal-5i-473x473.py CKPT --cfg-options fold=0 shot=1 depth=50

Expected: 67.5, 72.6, 67.2, 60.5 mIoU in folds 0 to 3 with one shot, 69.9, 74.3, 70.1, 66.9 with five (quoted from the README of
github.com/Sam1224/SCCAN; not reproduced here). They are the best of all epochs on the test episodes, and of one GPU.
Start the frozen backbone from its converted ImageNet file (tools/convert_checkpoint.py sccan resnet50_v2.pth r50.pth) by
--cfg-options model.backbone.pretrained=r50.pth.
The published training list holds 5,953 pictures with the masks of SBD; see the note in _base_/datasets/pascal_5i.py.
"""
_base_ = ["../_base_/datasets/pascal_5i.py", "../_base_/default_runtime.py"]
fold = 0  # 0 to 3
shot = 1
depth = 50
epochs = 200
model = dict(
    type="FewShotSegmentor",
    data_preprocessor=dict(type="FewShotDataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type="ResNet",
        depth=depth,
        deep_stem=True,
        stem_channels=128,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        out_indices=(1, 2, 3),
        frozen_stages=4,
        norm_eval=True,
    ),
    decode_head=dict(
        type="SCCANHead",
        in_channels=(512, 1024),
        in_index=(0, 1),
        high_index=2,
        channels=256,
        map_size=64,
        depth=8,
        num_heads=8,
        patch_size=8,
    ),
    test_cfg=dict(resize="square"),
)
episodes = dict(fold=fold, shot=shot)
train_dataloader = dict(
    batch_size=8, drop_last=True, sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True), dataset=episodes
)
val_dataloader = dict(dataset=episodes)
test_dataloader = val_dataloader
optim_wrapper = dict(
    constructor="OptimizerPerPart",
    transformer=dict(parts=["decode_head.transformer"], optimizer=dict(type="AdamW", lr=6e-5, weight_decay=0.01)),
    convs=dict(optimizer=dict(type="SGD", lr=0.05, momentum=0.9, weight_decay=1e-4)),
)
param_scheduler = dict(
    transformer=[], convs=[dict(type="PolyLR", power=0.9, eta_min=0.0, end=epochs, convert_to_iter_based=True)]
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=1, save_best="mIoU", max_keep_ckpts=2),
)
find_unused_parameters = True  # the support half of the last attention block
