"""The budget that all patch matchers share: NAdam, learning rate 5e-4 falling to 0 on a straight line, 1,000 iterations.

The line ends where the training does, so `--cfg-options train_cfg.max_iters=3000` gives all of them another budget. The last iteration
is kept: nothing is chosen on a test set.
"""
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="NAdam", lr=5e-4))
param_scheduler = [dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=1000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
