"""CrossFormer-B with Mask R-CNN on COCO, 12 epochs of batch 16.

    tools/dist_train.sh configs/crossformer/crossformer-b_mask-rcnn_8xb2-1x_coco.py 8

Expected: 47.2 box AP, 42.7 mask AP on val2017 (quoted from the README of github.com/cheerss/CrossFormer; not reproduced here). Time and hardware of that
result are not stated there. Start the backbone from its converted ImageNet checkpoint (tools/convert_checkpoint.py crossformer) by
model.backbone.init_cfg = dict(type="Pretrained", checkpoint=..., prefix="backbone.").
Groups are those whose FLOPs equal the published row: lda="global", (7, 7, 7, 7) / (8, 4, 2, 1).
"""
_base_ = ["../_base_/datasets/coco_instance.py", "../_base_/schedules/adamw_1x.py", "../_base_/default_runtime.py"]
model = dict(
    type="MaskRCNN",
    data_preprocessor=dict(
        type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], pad_size_divisor=32
    ),
    backbone=dict(type="CrossFormer", arch="base", group_sizes=(7, 7, 7, 7), intervals=(8, 4, 2, 1), lda="global"),
    neck=dict(type="FPN", in_channels=(96, 192, 384, 768), out_channels=256, num_outs=5),
    rpn_head=dict(type="RPNHead", in_channels=256, feat_channels=256),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=(4, 8, 16, 32),
        ),
        bbox_head=dict(type="Shared2FCBBoxHead", in_channels=256, fc_out_channels=1024, roi_feat_size=7, num_classes=80),
        mask_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=(4, 8, 16, 32),
        ),
        mask_head=dict(type="FCNMaskHead", num_convs=4, in_channels=256, conv_out_channels=256, num_classes=80),
    ),
    train_cfg=dict(
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=True
            ),
        ),
    ),
)
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=1, save_best="coco/bbox_mAP", max_keep_ckpts=2),
)
