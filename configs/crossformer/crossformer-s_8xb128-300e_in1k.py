"""CrossFormer-S on ImageNet-1K, 300 epochs of batch 1024, 224 x 224.

    tools/dist_train.sh configs/crossformer/crossformer-s_8xb128-300e_in1k.py 8 --amp

Expected: top-1 82.5 on the validation set (quoted from the README of github.com/cheerss/CrossFormer; not reproduced here, nor has this
file been trained). Time and hardware of that result are not stated there. Recipe of the published code: label smoothing 0.1, one of
Mixup 0.8 and CutMix 1.0 for every batch, drop path 0.2, mixed precision.
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
    backbone=dict(type="CrossFormer", arch="small", drop_path_rate=0.2, out_indices=(3,), out_norm=True),
    head=dict(type="LinearClsHead", in_channels=768, num_classes=1000, label_smoothing=0.1),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)], probs=(0.5, 0.5)),
)
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=100, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=1, save_best="accuracy/top1", max_keep_ckpts=2),
)
