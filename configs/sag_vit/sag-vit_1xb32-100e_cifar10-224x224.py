"""SAG-ViT on CIFAR-10 as pictures, 224 x 224, by the published recipe: Adam 1e-4, batch 32, at most 100 epochs, no augmentation.

    python tools/train.py configs/sag_vit/sag-vit_1xb32-100e_cifar10-224x224.py
    python tools/convert_checkpoint.py sag_vit SAG-ViT_CIFAR10.pth sag_vit.pth
    python tools/test.py configs/sag_vit/sag-vit_1xb32-100e_cifar10-224x224.py sag_vit.pth

Expected: macro F1 95.74 (quoted from the README of github.com/shravan-18/SAG-ViT; not reproduced here). There 20 % of the pictures,
drawn at random, serve both to stop and to report; here data/cifar10/test does, and training stops after 8 epochs without a better
accuracy instead of a lower loss. For any folder of classes: --cfg-options data_root=data/NAME num_classes=N
"""
_base_ = ["../_base_/default_runtime.py"]
data_root = "data/cifar10"
num_classes = 10
model = dict(
    type="Classifier",
    data_preprocessor=dict(
        type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        type="SAGViT",
        trunk=dict(type="EfficientNetV2", arch="s", out_indices=(2,)),
        patch_size=4,
        tokens="pooled",
        node_order="insertion",
        edges="adjacency",
        remainder="drop",
        out_indices=(1,),
    ),
    head=dict(type="MLPClsHead", in_channels=64, num_classes=num_classes),
)
pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(224, 224)),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="ImageFolderDataset", data_root=f"{data_root}/train", pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ImageFolderDataset", data_root=f"{data_root}/test", test_mode=True, pipeline=pipeline),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="Accuracy", topk=1),
    dict(type="SingleLabelMetric", items=["precision", "recall", "f1-score", "kappa", "mcc"]),
]
test_evaluator = val_evaluator
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-4))
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=100, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", by_epoch=True, interval=1, save_best="accuracy/top1", max_keep_ckpts=1),
)
custom_hooks = [dict(type="EarlyStoppingHook", monitor="accuracy/top1", rule="greater", patience=8)]
