"""Prototypes of frozen EfficientNet-Lite0 features (ImageNet weights), a baseline that needs no training, on 318 pictures of COCO.

    python tools/test.py configs/sccan/prototype_efficientnet-lite0_coco-20i-small-480x480.py none --cfg-options fold=0 shot=1

Expected: 16.6 mIoU and 42.5 FB-IoU with one shot, 20.8 and 46.5 with five, means of the four folds, measured here on 1,000
episodes in each.
"""
_base_ = ["../_base_/datasets/coco_20i_small.py", "../_base_/default_runtime.py"]
fold = 0  # 0 to 3
shot = 1
model = dict(
    type="FewShotSegmentor",
    data_preprocessor=dict(type="FewShotDataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(type="EfficientNetLite", arch="lite0", pretrained=True, out_indices=(1, 2), norm_eval=True),
    cached_pictures=1000,
    decode_head=dict(type="PrototypeHead", in_channels=(40, 112), in_index=(0, 1)),
)
val_dataloader = dict(dataset=dict(fold=fold, shot=shot))
test_dataloader = val_dataloader
test_cfg = dict(type="TestLoop")
