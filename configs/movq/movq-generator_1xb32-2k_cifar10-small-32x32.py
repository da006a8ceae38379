"""The masked-token generator on the codes of movq-f4_1xb16-2k_cifar10-small-32x32: ten classes, 2,000 iterations of batch 32.

    python tools/train.py configs/movq/movq-f4_1xb16-2k_cifar10-small-32x32.py
    python tools/train.py configs/movq/movq-generator_1xb32-2k_cifar10-small-32x32.py --cfg-options tokenizer=CHECKPOINT

Expected: not measured yet.
"""
_base_ = ["../_base_/datasets/cifar10_small_32.py", "../_base_/default_runtime.py"]
tokenizer = "work_dirs/movq-f4_1xb16-2k_cifar10-small-32x32/iter_2000.pth"  # its checkpoint
model = dict(
    type="MaskedTokenGenerator",
    tokenizer=dict(
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
        init_cfg=dict(type="Pretrained", checkpoint=tokenizer),
    ),
    transformer=dict(
        type="MaskedTokenTransformer",
        codebook_size=512,
        map_size=(8, 8),
        channels=192,
        depth=4,
        num_heads=4,
        mlp_channels=768,
        num_classes=10,
    ),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.96), weight_decay=0.045),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=200, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, T_max=1800, begin=200, end=2000, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2000, val_interval=2000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
val_evaluator = dict(type="FrechetDistance")
test_evaluator = val_evaluator
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1000, max_keep_ckpts=1, save_best=None),
)
