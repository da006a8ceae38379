"""COCO-20i on the 318 COCO pictures of data/coco_small, at 480 x 480: the pictures without a novel class train, those with
one test, of both annotation files together, so none does both. An experiment sets `fold` (0 to 3) and `shot` and passes
them on.

Novel classes that fewer than six pictures show are left out, whatever the shot: 9 to 13 remain in a fold, the same for
one and five shots. 1,000 test episodes, always the same ones.
"""
pictures = dict(
    type="ConcatDataset",
    datasets=[
        dict(
            type="CocoSegDataset",
            data_root="data/coco_small",
            ann_file=f"annotations/instances_{part}2017.json",
            data_prefix=dict(img=f"{part}2017"),
        )
        for part in ("train", "val")
    ],
)
label = [dict(type="LoadAnnotations"), dict(type="SelectClass")]
train_pipeline = [
    dict(type="LoadImage"),
    *label,
    dict(type="RandomFlip", prob=0.5),
    dict(type="ResizeToCanvas", size=480),
    dict(type="PackInputs"),
]
test_pipeline = [dict(type="LoadImage"), dict(type="ResizeToCanvas", size=480), *label, dict(type="PackInputs")]
support_pipeline = [dict(type="LoadImage"), *label, dict(type="ResizeToCanvas", size=480), dict(type="PackInputs")]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="TrainSampler"),
    dataset=dict(
        type="EpisodeDataset",
        dataset=pictures,
        fold=0,
        split="interleaved",
        shot=1,
        rare_classes="drop",
        beside_prob=0.7,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="EpisodeDataset",
        dataset=pictures,
        fold=0,
        split="interleaved",
        shot=1,
        rare_classes="drop",
        min_pictures=6,
        num_episodes=1000,
        pipeline=test_pipeline,
        support_pipeline=support_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="FewShotMetric")
test_evaluator = val_evaluator
