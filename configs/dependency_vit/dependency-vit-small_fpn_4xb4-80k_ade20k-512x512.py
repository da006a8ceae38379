"""DependencyViT-Small with Semantic FPN on ADE20K, 80 000 iterations of batch 16.

    tools/dist_train.sh configs/dependency_vit/dependency-vit-small_fpn_4xb4-80k_ade20k-512x512.py 4

Expected: unknown. This file has not been trained, and what the paper attaches to its backbone for dense prediction is not known; heads and
schedule are those of CrossFormer's configs (our choice). `load_from` takes an ImageNet checkpoint of
dependency-vit-small_8xb128-300e_in1k.py, whose blocks and last norm fit; the other norms and the neck start new.
"""
_base_ = ["../_base_/datasets/ade20k.py", "../_base_/schedules/adamw_poly_80k.py", "../_base_/default_runtime.py"]
model = dict(
    type="Segmentor",
    data_preprocessor=dict(type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="DependencyViT", arch="small", out_indices=(3, 5, 7, 11)),
    neck=[
        dict(type="FeaturePyramidFromPlain", in_channels=(384, 384, 384, 384)),
        dict(type="FPN", in_channels=(384, 384, 384, 384), out_channels=256, num_outs=4),
    ],
    decode_head=dict(
        type="FPNHead",
        in_channels=(256, 256, 256, 256),
        feature_strides=(4, 8, 16, 32),
        channels=128,
        dropout_ratio=0.1,
        num_classes=150,
        loss_decode=dict(type="CrossEntropyLoss"),
    ),
    test_cfg=dict(mode="whole"),
)
