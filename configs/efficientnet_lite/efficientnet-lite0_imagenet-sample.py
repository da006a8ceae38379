"""EfficientNet-Lite0 on 100 ImageNet pictures: a check of the weights and of the preprocessing, not of accuracy.

    python tools/convert_checkpoint.py efficientnet_lite lite0 lite0.pth
    python tools/test.py configs/efficientnet_lite/efficientnet-lite0_imagenet-sample.py lite0.pth

Expected: top-1 87.0, top-5 98.0, measured with this command on a CPU (2 cores, 20 seconds).
The centre crop of 224 of a short edge of 256, bicubic, and (x - 127) / 128 in RGB are the published protocol.
"""
_base_ = ["../_base_/default_runtime.py"]
model = dict(
    type="Classifier",
    data_preprocessor=dict(type="DataPreprocessor", mean=[127, 127, 127], std=[128, 128, 128], bgr_to_rgb=True),
    backbone=dict(type="EfficientNetLite", arch="lite0", with_head_conv=True),
    head=dict(type="LinearClsHead", in_channels=1280, num_classes=1000),
)
test_dataloader = dict(
    batch_size=20,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ListFileDataset",
        data_root="data/imagenet_sample",
        ann_file="labels.csv",
        data_prefix=dict(img_path="images"),
        num_classes=1000,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="ResizeEdge", scale=256, edge="short", interpolation="bicubic"),
            dict(type="CenterCrop", crop_size=224),
            dict(type="PackInputs"),
        ],
    ),
)
test_evaluator = dict(type="Accuracy", topk=(1, 5))
test_cfg = dict(type="TestLoop")
