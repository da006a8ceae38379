"""CrossFormer-L with UPerNet on ADE20K, 160 000 iterations of batch 16.

    tools/dist_train.sh configs/crossformer/crossformer-l_upernet_8xb2-160k_ade20k-512x512.py 8

Expected: 50.4 mIoU, 51.4 with --tta over scales 0.5 to 1.75 (quoted from the README of github.com/cheerss/CrossFormer; not reproduced here).
Time and hardware of that result are not stated there. `load_from` takes the converted ImageNet checkpoint of the backbone.
Groups are those whose FLOPs equal the published row: lda="global", (7, 7, 7, 7) / (8, 4, 2, 1).
"""
_base_ = ["../_base_/datasets/ade20k.py", "../_base_/schedules/adamw_poly_160k.py", "../_base_/default_runtime.py"]
model = dict(
    type="Segmentor",
    data_preprocessor=dict(type="DataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="CrossFormer", arch="large", group_sizes=(7, 7, 7, 7), intervals=(8, 4, 2, 1), lda="global"),
    decode_head=dict(
        type="UPerHead",
        in_channels=(128, 256, 512, 1024),
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        loss_decode=dict(type="CrossEntropyLoss"),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=512,
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
