"""ImageNet's pictures without their labels, the short edge resized to 256 (bicubic), centre crops of 256 x 256; for tokenizers."""
pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=256, edge="short", interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=256),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=20,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(type="ImageDataset", data_root="data/imagenet/train", pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=20,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ImageDataset", data_root="data/imagenet/val", pipeline=pipeline, test_mode=True),
)
test_dataloader = val_dataloader
