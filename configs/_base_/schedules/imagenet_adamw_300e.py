"""300 epochs of AdamW, learning rate 1e-3 for batch 1024, 20 of them warm-up, a cosine down to a hundredth.

Decay 0.05, none for biases, norms and other one-dimensional parameters; gradients clipped at norm 5. Both schedules count from the
first iteration, as timm's does: the cosine goes on beneath the warm-up, 1 % below timm's at its end and equal to it after that.
"""
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=20, by_epoch=True, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=300,
        eta_min_ratio=0.01,
        begin=0,
        end=300,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=300, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
auto_scale_lr = dict(base_batch_size=1024)
