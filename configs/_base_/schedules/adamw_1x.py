"""12 epochs of AdamW (1x), learning rate 1e-4 for batch 16, a tenth of it after 8 and again after 11 epochs."""
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, begin=0, end=500, by_epoch=False),
    dict(type="MultiStepLR", milestones=[8, 11], gamma=0.1, begin=0, end=12, by_epoch=True),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
auto_scale_lr = dict(base_batch_size=16)
