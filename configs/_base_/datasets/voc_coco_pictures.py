"""Pictures without labels, for tokenizers: the training pictures of data/VOCdevkit and data/coco_small (471), random crops
of 64 x 64 after the short edge became 256; validation: centre crops of 256 x 256 of the 321 validation pictures of VOC.
"""
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=256, edge="short", interpolation="area"),
    dict(type="RandomCrop", crop_size=64),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=256, edge="short", interpolation="area"),
    dict(type="CenterCrop", crop_size=256),
    dict(type="PackInputs"),
]
voc = dict(type="ImageDataset", data_root="data/VOCdevkit/VOC2012", data_prefix=dict(img_path="JPEGImages"))
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="TrainSampler"),
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(**voc, ann_file="ImageSets/Segmentation/train.txt", pipeline=train_pipeline),
            dict(
                type="ImageDataset",
                data_root="data/coco_small",
                data_prefix=dict(img_path="train2017"),
                pipeline=train_pipeline,
            ),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**voc, ann_file="ImageSets/Segmentation/val.txt", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
