"""PASCAL-5i: one fold of five novel classes of PASCAL VOC 2012, fifteen base classes; 473 x 473, 1-shot.

An experiment sets `fold` (0 to 3) and `shot`, and passes them on: ``train_dataloader = dict(dataset=dict(fold=fold,
shot=shot))``, and the same for validation and testing. Transforms and episodes are SCCAN's published ones (arXiv
2308.09294); evaluation asks for 1,000 episodes of the validation pictures, always the same ones.

The published training list is not VOC's train.txt (1,464 pictures) but 5,953 pictures with the masks of SBD
(SegmentationClassAug): set ``train_dataloader.dataset.dataset.ann_file`` and ``.data_prefix`` to such a list and folder.
"""
size = 473
label = [dict(type="LoadAnnotations"), dict(type="SelectClass")]
train_pipeline = [
    dict(type="LoadImage"),
    *label,
    dict(type="RandomScale", scale_range=(0.9, 1.1)),
    dict(type="RandomRotate", degree=10, prob=0.5),
    dict(type="RandomGaussianBlur", kernel_size=5, prob=0.5),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ForegroundCrop", crop_size=size),
    dict(type="PackInputs"),
]
# float32 until the model normalises: the published code resizes so, and no rounding lies between
test_pipeline = [
    dict(type="LoadImage", to_float32=True),
    dict(type="ResizeToCanvas", size=size),
    *label,
    dict(type="PackInputs"),
]
support_pipeline = [
    dict(type="LoadImage", to_float32=True),
    *label,
    dict(type="ResizeToCanvas", size=size),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(
        type="EpisodeDataset",
        dataset=dict(
            type="PascalVOCDataset",
            data_root="data/VOCdevkit/VOC2012",
            ann_file="ImageSets/Segmentation/train.txt",
        ),
        fold=0,
        split="blocks",
        shot=1,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="EpisodeDataset",
        dataset=dict(
            type="PascalVOCDataset",
            data_root="data/VOCdevkit/VOC2012",
            ann_file="ImageSets/Segmentation/val.txt",
        ),
        fold=0,
        split="blocks",
        shot=1,
        num_episodes=1000,
        pipeline=test_pipeline,
        support_pipeline=support_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="FewShotMetric")
test_evaluator = val_evaluator
