"""EfficientNet-Lite0 (ImageNet weights) with Mask R-CNN, fitted to 16 COCO pictures: do boxes, masks and metric agree?

    python tools/train.py configs/efficientnet_lite/efficientnet-lite0_mask-rcnn_1xb4-80e_coco-small-16-384x384.py

Expected: box AP 0.845 (AP50 0.903) and mask AP 0.489 (AP50 0.769) on the 16 training pictures themselves, measured here; 21 minutes
on one CPU core, beside other work. No estimate of accuracy.
"""
_base_ = ["../_base_/default_runtime.py"]
strides = (4, 8, 16, 32)
model = dict(
    type="MaskRCNN",
    data_preprocessor=dict(
        type="DataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0], pad_size_divisor=32
    ),
    backbone=dict(type="EfficientNetLite", arch="lite0", pretrained=True, out_indices=(0, 1, 2, 3), norm_eval=True),
    neck=dict(type="FPN", in_channels=(24, 40, 112, 320), out_channels=96, num_outs=5),
    rpn_head=dict(
        type="RPNHead",
        in_channels=96,
        feat_channels=96,
        anchor_generator=dict(type="AnchorGenerator", scales=(4,), ratios=(0.5, 1.0, 2.0), strides=(4, 8, 16, 32, 64)),
    ),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=2),
            out_channels=96,
            featmap_strides=strides,
            finest_scale=28,
        ),
        bbox_head=dict(type="Shared2FCBBoxHead", in_channels=96, fc_out_channels=512, roi_feat_size=7, num_classes=80),
        mask_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=2),
            out_channels=96,
            featmap_strides=strides,
            finest_scale=28,
        ),
        mask_head=dict(type="FCNMaskHead", num_convs=2, in_channels=96, conv_out_channels=96, num_classes=80),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=True
            ),
            sampler=dict(type="RandomSampler", num=128, pos_fraction=0.25),
        ),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True, with_seg=False),
    dict(type="Resize", scale=(384, 384), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(384, 384), keep_ratio=True),
    dict(type="PackInputs"),
]
pictures = dict(
    type="CocoDataset",
    data_root="data/coco_small",
    ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img="train2017"),
    indices=16,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**pictures, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**pictures, filter_cfg=dict(filter_empty_gt=True, min_size=32), pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="CocoMetric", ann_file="data/coco_small/annotations/instances_train2017.json", metric=["bbox", "segm"]
)
test_evaluator = val_evaluator
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.0),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.3)}),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=40, by_epoch=False),
    dict(type="CosineAnnealingLR", T_max=280, eta_min=1e-5, begin=40, end=320, by_epoch=False),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=80, val_interval=80)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=4, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=40, save_best="coco/bbox_mAP", max_keep_ckpts=1),
)
