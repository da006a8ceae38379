"""ImageNet-1K, one folder of pictures for each class (`train/n01440764/*.JPEG`, `val/n01440764/*.JPEG`), 224 x 224 crops.

Training: random crop resized with bicubic interpolation, flip, RandAugment (timm's rand-m9-mstd0.5-inc1), random erasing of a
quarter of the pictures. Colour jitter, which timm's recipes name as well, has no effect there beside RandAugment and is left out.
Validation: short edge 256, bicubic, centre crop. OpenCV's bicubic, other than Pillow's, does not smooth when it makes smaller.
"""
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="RandomResizedCrop", scale=224, interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandAugment", magnitude_level=9, magnitude_std=0.5, num_policies=2, interpolation="bicubic"),
    dict(type="RandomErasing", erase_prob=0.25, mode="rand"),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=256, edge="short", interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="ImageFolderDataset", data_root="data/imagenet/train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ImageFolderDataset", data_root="data/imagenet/val", pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_evaluator = val_evaluator
