"""The prior mask of frozen EfficientNet-Lite0 features (ImageNet weights) alone, a baseline without training, on PASCAL-5i.

    python tools/test.py configs/sccan/prior_efficientnet-lite0_pascal-5i-320x320.py none --cfg-options fold=0 shot=1

Expected: 25.8 mIoU and 32.3 FB-IoU with one shot, 26.6 and 31.3 with five, means of the four folds, measured here on 1,000
episodes of the 321 validation pictures that data/VOCdevkit has in each; 1,000 episodes take 1 to 2 minutes on one CPU core.
"""
_base_ = ["../_base_/datasets/pascal_5i.py", "../_base_/default_runtime.py"]
fold = 0  # 0 to 3
shot = 1
model = dict(
    type="FewShotSegmentor",
    data_preprocessor=dict(type="FewShotDataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(type="EfficientNetLite", arch="lite0", pretrained=True, out_indices=(3,), norm_eval=True),
    cached_pictures=1000,
    decode_head=dict(type="PriorHead", in_channels=320, in_index=-1, map_size=40),
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
