"""CIFAR-10 at its own 32 x 32, the first 300 training and 100 test pictures of each class."""
train_pipeline = [dict(type="LoadImage"), dict(type="RandomFlip", prob=0.5), dict(type="PackInputs")]
test_pipeline = [dict(type="LoadImage"), dict(type="PackInputs")]
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type="TrainSampler"),
    dataset=dict(type="ImageFolderDataset", data_root="data/cifar10_small/train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ImageFolderDataset", data_root="data/cifar10_small/test", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
