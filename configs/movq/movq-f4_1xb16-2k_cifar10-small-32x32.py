"""A MoVQ tokenizer of CIFAR-10's pictures: factor 4, 8 x 8 codes of a codebook of 512; 3,000 pictures, 2,000 iterations of batch 16.

    python tools/train.py configs/movq/movq-f4_1xb16-2k_cifar10-small-32x32.py

Expected: not measured yet.
"""
_base_ = ["../_base_/datasets/cifar10_small_32.py", "../_base_/default_runtime.py"]
model = dict(
    type="ImageTokenizer",
    channels=32,
    channel_mult=(1, 2, 4),
    num_res_blocks=1,
    attn_levels=(),
    z_channels=8,
    embed_channels=8,
    codebook_size=512,
    ema_decay=0.99,
    revive_below=0.1,
    loss=dict(type="TokenizerLoss", pixel="l2", perceptual=dict(type="FeatureDistance"), perceptual_weight=0.1),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="Adam", lr=1e-3, betas=(0.5, 0.9)),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, T_max=1900, begin=100, end=2000, by_epoch=False),
]
train_dataloader = dict(batch_size=16)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2000, val_interval=2000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
val_evaluator = [dict(type="ImageQuality"), dict(type="CodebookUsage", codebook_size=512)]
test_evaluator = val_evaluator
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=500, max_keep_ckpts=1, save_best=None),
)
