"""COCO-20i: one fold of twenty novel classes of COCO 2014, sixty base classes; 473 x 473, 1-shot.

An experiment sets `fold` (0 to 3) and `shot`, and passes them on: ``train_dataloader = dict(dataset=dict(fold=fold,
shot=shot))``, and the same for validation and testing. Fold i has the classes i, i + 4, i + 8, ... (FWB's split, that
of SCCAN's released models); ``split="blocks"`` gives PANet's. Transforms and episodes are SCCAN's published ones (arXiv
2308.09294); evaluation asks for 4,000 episodes, always the same ones.

Label maps are painted from the objects of the annotation file; the published ones are PNGs painted by an unknown rule,
and listed in another order. Their pixels are counted once and kept below work_dirs.
"""
size = 473
label = [dict(type="LoadAnnotations"), dict(type="SelectClass")]
train_pipeline = [
    dict(type="LoadImage"),
    *label,
    dict(type="RandomScale", scale_range=(0.8, 1.25)),
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
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(
        type="EpisodeDataset",
        dataset=dict(
            type="CocoSegDataset",
            data_root="data/coco",
            ann_file="annotations/instances_train2014.json",
            data_prefix=dict(img="train2014"),
        ),
        fold=0,
        split="interleaved",
        shot=1,
        count_cache="work_dirs/episodes/coco_train2014.npz",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="EpisodeDataset",
        dataset=dict(
            type="CocoSegDataset",
            data_root="data/coco",
            ann_file="annotations/instances_val2014.json",
            data_prefix=dict(img="val2014"),
        ),
        fold=0,
        split="interleaved",
        shot=1,
        num_episodes=4000,
        count_cache="work_dirs/episodes/coco_val2014.npz",
        pipeline=test_pipeline,
        support_pipeline=support_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="FewShotMetric")
test_evaluator = val_evaluator
