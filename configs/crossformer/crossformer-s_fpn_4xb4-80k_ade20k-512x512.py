"""CrossFormer-S with Semantic FPN on ADE20K, 80 000 iterations of batch 16.

    tools/dist_train.sh configs/crossformer/crossformer-s_fpn_4xb4-80k_ade20k-512x512.py 4

Expected: 46.4 mIoU (quoted from the README of github.com/cheerss/CrossFormer; not reproduced here). Time and hardware of that result are not stated there.
`load_from` takes the converted ImageNet checkpoint of the backbone (tools/convert_checkpoint.py crossformer).
Groups are those whose FLOPs equal the published row: lda="global", (14, 14, 7, 7) / (16, 8, 2, 1).
"""
_base_ = ["../_base_/datasets/ade20k.py", "../_base_/schedules/adamw_poly_80k.py", "../_base_/default_runtime.py"]
model = dict(
    type="Segmentor",
    data_preprocessor=dict(type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="CrossFormer", arch="small", group_sizes=(14, 14, 7, 7), intervals=(16, 8, 2, 1), lda="global"),
    neck=dict(type="FPN", in_channels=(96, 192, 384, 768), out_channels=256, num_outs=4),
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
