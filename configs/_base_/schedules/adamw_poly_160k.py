"""160 000 iterations of AdamW, warm-up over 1500, learning rate 6e-5 falling linearly to 0 (published UPerNet recipe).

No decay for parameters with `norm` in their name. As published, this leaves the LayerNorms inside the position bias
(`attn.pos.pos*.0`) and the cooling layers (`ex_ln`) decayed.
"""
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={"norm": dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type="PolyLR", eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=160000, val_interval=16000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
