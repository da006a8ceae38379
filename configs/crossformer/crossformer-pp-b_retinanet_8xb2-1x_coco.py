"""CrossFormer++-B with RetinaNet on COCO, 12 epochs of batch 16.

    tools/dist_train.sh configs/crossformer/crossformer-pp-b_retinanet_8xb2-1x_coco.py 8

Expected: 46.6 box AP on val2017 (quoted from the README of github.com/cheerss/CrossFormer; not reproduced here). Time and hardware of that
result are not stated there. Start the backbone from its converted ImageNet checkpoint (tools/convert_checkpoint.py crossformer) by
model.backbone.init_cfg = dict(type="Pretrained", checkpoint=..., prefix="backbone.").
Groups are those whose FLOPs equal the published row: lda="global", (7, 7, 7, 7) / (8, 4, 2, 1).
"""
_base_ = ["../_base_/datasets/coco_detection.py", "../_base_/schedules/adamw_1x.py", "../_base_/default_runtime.py"]
model = dict(
    type="RetinaNet",
    data_preprocessor=dict(
        type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], pad_size_divisor=32
    ),
    backbone=dict(type="CrossFormer", arch="pp-base", group_sizes=(7, 7, 7, 7), intervals=(8, 4, 2, 1), lda="global"),
    neck=dict(
        type="FPN",
        in_channels=(96, 192, 384, 768),
        out_channels=256,
        start_level=1,
        add_extra_convs="on_input",
        num_outs=5,
    ),
    bbox_head=dict(type="RetinaHead", num_classes=80, in_channels=256, stacked_convs=4, feat_channels=256),
)
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=1, save_best="coco/bbox_mAP", max_keep_ckpts=2),
)
