"""What stands out in PASCAL VOC pictures to the small DependencyViT that CIFAR-10 has trained, against the union of all objects.

    python tools/test.py configs/dependency_vit/dependency-vit-nano_saliency_voc12-64x64.py CHECKPOINT

Expected: maxF 45.5, IoU 34.0, accuracy 62.0 % on 321 of the 1449 validation pictures, with epoch 30 of
dependency-vit-nano_1xb50-30e_cifar10-small-32x32.py, measured once. A Gaussian at the centre, which SaliencyMetric measures beside it (`centre`),
has 45.9, 33.3 and 67.6: the map is no better than that. Another reading: --cfg-options model.saliency=received. Reading, size and Gaussian
are our choice. With model.parts=5 the parts of the tree come as pred_sem_seg, for PartMetric on a data set of parts.
"""
_base_ = ["../_base_/datasets/voc12.py", "../_base_/default_runtime.py"]
model = dict(
    type="DependencyReader",
    data_preprocessor=dict(type="DataPreprocessor", mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7]),
    backbone=dict(
        type="DependencyViT",
        arch=dict(embed_dims=96, num_layers=4, num_heads=4),
        img_size=32,
        patch_size=4,
        stem="conv",
        out_indices=-1,
        pool="message",
        drop_path_rate=0.0,
        layer_scale_init=0.1,
        controller_bias=2.0,
    ),
    saliency="message",
)
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(64, 64), keep_ratio=False, interpolation="area"),
    dict(type="LoadAnnotations"),
    dict(type="PackInputs"),
]
test_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
test_evaluator = dict(_delete_=True, type="SaliencyMetric", centre=0.3)
test_cfg = dict(type="TestLoop")
