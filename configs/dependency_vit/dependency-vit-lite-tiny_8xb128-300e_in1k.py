"""DependencyViT-Lite-Tiny on ImageNet-1K, 300 epochs of batch 1024, 224 x 224.

    tools/dist_train.sh configs/dependency_vit/dependency-vit-lite-tiny_8xb128-300e_in1k.py 8 --amp

Expected: unknown. This file has not been trained, no figure of the paper was at hand to quote, and none is claimed. The recipe is that of the
paper's first author's previous code (github.com/dingmyu/davit), but for 20 epochs of warm-up instead of 5 (our choice): see README.md.
`prune=dict()` is the schedule of DependencyViT-Lite, in training too.
"""
_base_ = [
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet_adamw_300e.py",
    "../_base_/default_runtime.py",
]
model = dict(
    type="Classifier",
    data_preprocessor=dict(
        type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        type="DependencyViT", arch="tiny", out_indices=-1, pool="message", drop_path_rate=0.1, prune=dict()
    ),
    head=dict(type="LinearClsHead", in_channels=192, num_classes=1000, label_smoothing=0.1),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)], probs=(0.5, 0.5)),
)
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=100, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=1, save_best="accuracy/top1", max_keep_ckpts=2),
)
