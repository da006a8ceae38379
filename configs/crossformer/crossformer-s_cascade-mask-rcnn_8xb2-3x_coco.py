"""CrossFormer-S with Cascade Mask R-CNN on COCO, 36 epochs of batch 16, sizes drawn at random.

    tools/dist_train.sh configs/crossformer/crossformer-s_cascade-mask-rcnn_8xb2-3x_coco.py 8

Expected: 52.2 box AP, 45.2 mask AP on val2017 (quoted from the README of github.com/cheerss/CrossFormer; not reproduced here). Time and hardware of that
result are not stated there. Start the backbone from its converted ImageNet checkpoint (tools/convert_checkpoint.py crossformer) by
model.backbone.init_cfg = dict(type="Pretrained", checkpoint=..., prefix="backbone.").

Quoted: 88.0 M parameters, 769.7 G multiply-accumulates at 1280 x 800, the 3x schedule. No config was published for this row. Inferred from these figures:
box heads of four convolutions and one fully connected layer with a box for each class (87.996 M; the published Mask R-CNN's heads, without the classes'
boxes, would make it 83.1 M), which are those of the Swin Transformer's Cascade Mask R-CNN; their synchronised batch norm and GIoU loss are taken with them;
groups (14, 14, 7, 7) / (16, 8, 2, 1), with which the published 3x rows of Mask R-CNN (S 291.1 G, B 398.1 G) agree as well. Assumed, as is usual for 3x: steps
after 27 and 33 epochs, a short side of 480 to 800 in steps of 32 with the long side at most 1333; the optimiser is that of the published 1x recipe.
"""
_base_ = ["../_base_/datasets/coco_instance.py", "../_base_/schedules/adamw_1x.py", "../_base_/default_runtime.py"]
model = dict(
    type="CascadeRCNN",
    data_preprocessor=dict(
        type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], pad_size_divisor=32
    ),
    backbone=dict(type="CrossFormer", arch="small", group_sizes=(14, 14, 7, 7), intervals=(16, 8, 2, 1), lda="global"),
    neck=dict(type="FPN", in_channels=(96, 192, 384, 768), out_channels=256, num_outs=5),
    rpn_head=dict(type="RPNHead", in_channels=256, feat_channels=256),
    roi_head=dict(
        type="CascadeRoIHead",
        num_stages=3,
        stage_loss_weights=(1.0, 0.5, 0.25),
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=(4, 8, 16, 32),
        ),
        bbox_head=[
            dict(
                type="ConvFCBBoxHead",
                num_shared_convs=4,
                num_shared_fcs=1,
                in_channels=256,
                conv_out_channels=256,
                fc_out_channels=1024,
                norm_cfg=dict(type="BN"),
                roi_feat_size=7,
                num_classes=80,
                bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_stds=stds),
                reg_decoded_bbox=True,
                loss_bbox=dict(type="GIoULoss", loss_weight=10.0),
            )
            for stds in ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
        ],
        mask_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=(4, 8, 16, 32),
        ),
        mask_head=dict(type="FCNMaskHead", num_convs=4, in_channels=256, conv_out_channels=256, num_classes=80),
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                assigner=dict(
                    type="MaxIoUAssigner", pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou, match_low_quality=False
                ),
                sampler=dict(type="RandomSampler", num=512, pos_fraction=0.25, add_gt_as_proposals=True),
                mask_size=28,
            )
            for iou in (0.5, 0.6, 0.7)
        ],
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)),
)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True, with_seg=False),
    dict(type="RandomChoiceResize", scales=[(1333, side) for side in range(480, 801, 32)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, begin=0, end=500, by_epoch=False),
    dict(type="MultiStepLR", milestones=[27, 33], gamma=0.1, begin=0, end=36, by_epoch=True),
]
train_cfg = dict(max_epochs=36)
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=1, save_best="coco/bbox_mAP", max_keep_ckpts=2),
)
