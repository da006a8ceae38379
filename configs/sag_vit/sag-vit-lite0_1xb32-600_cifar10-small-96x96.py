"""SAG-ViT on EfficientNet-Lite0 (ImageNet weights), CIFAR-10, 3000 pictures: 600 iterations of batch 32.

    python tools/train.py configs/sag_vit/sag-vit-lite0_1xb32-600_cifar10-small-96x96.py

Expected: top-1 72.9 %, macro F1 72.3 %, means of three seeds, measured here. The trunk alone, with the same budget, is lite0-trunk_1xb32-600_cifar10-small-96x96.py. For the form of
the paper's figure: --cfg-options tokens=nodes edges=similarity; for another seed: --cfg-options randomness.seed=1
"""
_base_ = ["../_base_/datasets/cifar10_small.py", "../_base_/default_runtime.py"]
tokens = "pooled"  # or "nodes", a token for each patch
edges = "adjacency"  # or "similarity"
model = dict(
    type="Classifier",
    data_preprocessor=dict(type="DataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        type="SAGViT",
        trunk=dict(
            type="EfficientNetLite",
            arch="lite0",
            pretrained=True,
            out_indices=(2,),
            frozen_stages=1,
            norm_eval=True,
        ),
        patch_size=2,
        tokens=tokens,
        edges=edges,
        out_indices=(1,),
    ),
    head=dict(type="MLPClsHead", in_channels=64, num_classes=10),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={"backbone.trunk": dict(lr_mult=0.3)}, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, begin=0, end=50, by_epoch=False),
    dict(type="CosineAnnealingLR", T_max=550, eta_min=1e-5, begin=50, end=600, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=600, val_interval=600)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=600, save_best="single-label/f1-score")
)
