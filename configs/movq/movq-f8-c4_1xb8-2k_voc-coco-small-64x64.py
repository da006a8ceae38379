"""A small MoVQ tokenizer: factor 8, four codes a point of one codebook of 1,024; crops of 471 pictures of VOC and COCO, 2,000
iterations of batch 8, tested on centre crops of 256 x 256.

    python tools/train.py configs/movq/movq-f8-c4_1xb8-2k_voc-coco-small-64x64.py
    python tools/train.py configs/movq/movq-f8-c4_1xb8-2k_voc-coco-small-64x64.py --cfg-options modulated=False

Expected: not measured yet.
"""
_base_ = ["../_base_/datasets/voc_coco_pictures.py", "../_base_/default_runtime.py"]
modulated = True  # False: plain group norms in the decoder; nothing else differs
model = dict(
    type="ImageTokenizer",
    channels=32,
    channel_mult=(1, 2, 2, 4),
    num_res_blocks=1,
    attn_levels=(),
    z_channels=16,
    embed_channels=16,
    codebook_size=1024,
    code_channels=4,
    ema_decay=0.99,
    revive_below=0.1,
    modulated=modulated,
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
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2000, val_interval=2000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
val_evaluator = [dict(type="ImageQuality"), dict(type="CodebookUsage", codebook_size=1024)]
test_evaluator = val_evaluator
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=500, max_keep_ckpts=1, save_best=None),
)
