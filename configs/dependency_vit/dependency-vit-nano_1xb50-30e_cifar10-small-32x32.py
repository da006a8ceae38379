"""A small DependencyViT on CIFAR-10, 3000 pictures of 32 x 32, from scratch: 30 epochs of batch 50.

    python tools/train.py configs/dependency_vit/dependency-vit-nano_1xb50-30e_cifar10-small-32x32.py

Expected: top-1 47.2 %, macro F1 45.8 % on 1000 test pictures after the last epoch (47.6 and 46.5 after 25), measured once, seed 0. 1800 iterations of
0.4 to 1.5 s on one thread of a busy CPU. Width, depth, stem of convolutions, the controller's bias and the recipe are our choice.
Pruned: --cfg-options "model.backbone.prune.blocks=(2,3,4)". With attention as usual, to compare: --cfg-options
model.backbone.attention=forward. Another seed: --cfg-options randomness.seed=1
"""
_base_ = ["../_base_/datasets/cifar10_small.py", "../_base_/default_runtime.py"]
model = dict(
    type="Classifier",
    data_preprocessor=dict(type="DataPreprocessor", mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7]),
    backbone=dict(
        type="DependencyViT",
        arch=dict(embed_dims=96, num_layers=4, num_heads=4),
        img_size=32,
        patch_size=4,
        stem="conv",
        out_indices=-1,
        pool="message",
        drop_path_rate=0.0,
        layer_scale_init=0.1,
        controller_bias=2.0,
    ),
    head=dict(type="LinearClsHead", in_channels=96, num_classes=10, label_smoothing=0.1),
)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="RandomResizedCrop", scale=32, crop_ratio_range=(0.6, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ColorJitter", brightness=0.2, contrast=0.2, saturation=0.2),
    dict(type="PackInputs"),
]
test_pipeline = [dict(type="LoadImage"), dict(type="PackInputs")]
train_dataloader = dict(
    batch_size=50,
    sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=100, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1.5e-3, weight_decay=0.05),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=3, by_epoch=True, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", T_max=27, eta_min=1e-5, begin=3, end=30, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=30, val_interval=5)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=60, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=10, save_best="accuracy/top1", max_keep_ckpts=1),
)
