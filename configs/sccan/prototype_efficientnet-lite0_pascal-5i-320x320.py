"""Prototypes of frozen EfficientNet-Lite0 features (ImageNet weights), a baseline that needs no training, on PASCAL-5i.

    python tools/test.py configs/sccan/prototype_efficientnet-lite0_pascal-5i-320x320.py none --cfg-options fold=0 shot=1

Expected: 32.0 mIoU and 49.5 FB-IoU with one shot, 38.8 and 55.2 with five, means of the four folds, measured here on 1,000
episodes of the 321 validation pictures that data/VOCdevkit has in each; 1,000 episodes take 1 to 2 minutes on one CPU core.
"""
_base_ = ["../_base_/datasets/pascal_5i.py", "../_base_/default_runtime.py"]
fold = 0  # 0 to 3
shot = 1
model = dict(
    type="FewShotSegmentor",
    data_preprocessor=dict(type="FewShotDataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(type="EfficientNetLite", arch="lite0", pretrained=True, out_indices=(1, 2), norm_eval=True),
    cached_pictures=1000,
    decode_head=dict(type="PrototypeHead", in_channels=(40, 112), in_index=(0, 1)),
)
label = [dict(type="LoadAnnotations"), dict(type="SelectClass")]
pipeline = [dict(type="LoadImage"), dict(type="ResizeToCanvas", size=320), *label, dict(type="PackInputs")]
support_pipeline = [dict(type="LoadImage"), *label, dict(type="ResizeToCanvas", size=320), dict(type="PackInputs")]
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(fold=fold, shot=shot, pipeline=pipeline, support_pipeline=support_pipeline),
)
test_dataloader = val_dataloader
test_cfg = dict(type="TestLoop")
