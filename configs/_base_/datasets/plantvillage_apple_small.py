"""Apple leaves of PlantVillage, 4 classes of 40 training and 15 test pictures; 128 x 128."""
size = (128, 128)
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
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(type="ImageFolderDataset", data_root="data/plantvillage_apple_small/train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ImageFolderDataset", data_root="data/plantvillage_apple_small/test", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="Accuracy", topk=1),
    dict(type="SingleLabelMetric", items=["precision", "recall", "f1-score"]),
]
test_evaluator = val_evaluator
