"""The prior mask of frozen EfficientNet-Lite0 features (ImageNet weights) alone, a baseline without training, on 318 pictures of COCO.

    python tools/test.py configs/sccan/prior_efficientnet-lite0_coco-20i-small-480x480.py none --cfg-options fold=0 shot=1

Expected: 14.6 mIoU and 20.7 FB-IoU with one shot, 14.3 and 16.9 with five, means of the four folds, measured here on 1,000
episodes in each.
"""
_base_ = ["../_base_/datasets/coco_20i_small.py", "../_base_/default_runtime.py"]
fold = 0  # 0 to 3
shot = 1
model = dict(
    type="FewShotSegmentor",
    data_preprocessor=dict(type="FewShotDataPreprocessor", mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        type="EfficientNetLite",
        arch="lite0",
        pretrained=True,
        out_indices=(3,),
        with_head_conv=True,
        norm_eval=True,
    ),
    cached_pictures=1000,
    decode_head=dict(type="PriorHead", in_channels=1280, in_index=-1, map_size=30),
)
val_dataloader = dict(dataset=dict(fold=fold, shot=shot))
test_dataloader = val_dataloader
test_cfg = dict(type="TestLoop")
