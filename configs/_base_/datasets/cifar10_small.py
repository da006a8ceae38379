"""CIFAR-10, the first 300 training and 100 test pictures of each class; 96 x 96."""
size = (96, 96)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="RandomResizedCrop", scale=size, crop_ratio_range=(0.5, 1.0)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=size),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(type="ImageFolderDataset", data_root="data/cifar10_small/train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ImageFolderDataset", data_root="data/cifar10_small/test", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="Accuracy", topk=1),
    dict(type="SingleLabelMetric", items=["precision", "recall", "f1-score"]),
]
test_evaluator = val_evaluator
