"""DependencyViT-Small with UPerNet on ADE20K, 160 000 iterations of batch 16.

    tools/dist_train.sh configs/dependency_vit/dependency-vit-small_upernet_8xb2-160k_ade20k-512x512.py 8

Expected: unknown. This file has not been trained, and what the paper attaches to its backbone for dense prediction is not known; heads and
schedule are those of CrossFormer's configs (our choice). `load_from` takes an ImageNet checkpoint of
dependency-vit-small_8xb128-300e_in1k.py, whose blocks and last norm fit; the other norms and the neck start new.
"""
_base_ = ["../_base_/datasets/ade20k.py", "../_base_/schedules/adamw_poly_160k.py", "../_base_/default_runtime.py"]
model = dict(
    type="Segmentor",
    data_preprocessor=dict(type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="DependencyViT", arch="small", out_indices=(3, 5, 7, 11)),
    neck=dict(type="FeaturePyramidFromPlain", in_channels=(384, 384, 384, 384)),
    decode_head=dict(
        type="UPerHead",
        in_channels=(384, 384, 384, 384),
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        loss_decode=dict(type="CrossEntropyLoss"),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=384,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        loss_decode=dict(type="CrossEntropyLoss", loss_weight=0.4),
    ),
    test_cfg=dict(mode="whole"),
)
train_dataloader = dict(batch_size=2)
