"""DependencyViT-Small with RetinaNet on COCO, 12 epochs of batch 16: the recipe of the CrossFormer detectors, our choice.

    tools/dist_train.sh configs/dependency_vit/dependency-vit-small_retinanet_8xb2-1x_coco.py 8

Expected: not measured yet. The pyramid of strides 4 to 32 is our choice too; no published detection model of it was at hand.
"""
_base_ = ["../_base_/datasets/coco_detection.py", "../_base_/schedules/adamw_1x.py", "../_base_/default_runtime.py"]
model = dict(
    type="RetinaNet",
    data_preprocessor=dict(
        type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], pad_size_divisor=32
    ),
    backbone=dict(type="DependencyViT", arch="small", out_indices=(3, 5, 7, 11)),
    neck=[
        dict(type="FeaturePyramidFromPlain", in_channels=(384, 384, 384, 384)),
        dict(
            type="FPN",
            in_channels=(384, 384, 384, 384),
            out_channels=256,
            start_level=1,
            add_extra_convs="on_input",
            num_outs=5,
        ),
    ],
    bbox_head=dict(type="RetinaHead", num_classes=80, in_channels=256, stacked_convs=4, feat_channels=256),
)
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=1, save_best="coco/bbox_mAP", max_keep_ckpts=2),
)
