"""A small CrossFormer with Semantic FPN on the procedural sample set, from scratch: the quick start.

    python tools/dataset_converters/make_sample_dataset.py data/sample
    python tools/train.py configs/crossformer/crossformer-micro_fpn_1xb16-600_sample-96x96.py

Expected: 71.7 mIoU on the validation split of the sample set, measured here; about 3 minutes on two CPU cores.
"""
_base_ = ["../_base_/default_runtime.py"]
colours = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black")
shapes = ("disc", "square", "triangle", "cross", "ring")  # colour i comes in the shapes i and i + 2
classes = ("background", *(f"{c} {shapes[(i + step) % 5]}" for i, c in enumerate(colours) for step in (0, 2)))
model = dict(
    type="Segmentor",
    data_preprocessor=dict(type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type="CrossFormer",
        arch=dict(embed_dims=32, depths=(1, 2, 2, 1), num_heads=(1, 2, 4, 8)),
        group_sizes=(6, 6, 6, 3),
        intervals=(4, 2, 1, 1),
        drop_path_rate=0.0,
    ),
    neck=dict(type="FPN", in_channels=(32, 64, 128, 256), out_channels=48, num_outs=4),
    decode_head=dict(
        type="FPNHead",
        in_channels=(48, 48, 48, 48),
        feature_strides=(4, 8, 16, 32),
        channels=48,
        dropout_ratio=0.0,
        num_classes=21,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomFlip", prob=(0.25, 0.25, 0.25), direction=("horizontal", "vertical", "diagonal")),
    dict(type="PackInputs"),
]
test_pipeline = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="PackInputs")]
sample_set = dict(type="PascalVOCDataset", data_root="data/sample/VOCdevkit/VOC2012", metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="TrainSampler"),
    dataset=dict(**sample_set, ann_file="ImageSets/Segmentation/train.txt", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**sample_set, ann_file="ImageSets/Segmentation/val.txt", pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type="PolyLR", eta_min=0.0, power=0.9, begin=50, end=600, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=600, val_interval=600)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=600, save_best="mIoU"))
