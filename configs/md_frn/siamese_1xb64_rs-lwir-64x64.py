"""Siamese network (Aguilera et al., 2016) on RS-LWIR.

    python tools/train.py configs/md_frn/siamese_1xb64_rs-lwir-64x64.py
    python tools/test.py configs/md_frn/siamese_1xb64_rs-lwir-64x64.py CHECKPOINT

Expected: not measured yet.
"""
_base_ = [
    "../_base_/datasets/rs_lwir.py",
    "../_base_/schedules/nadam_matching.py",
    "../_base_/default_runtime.py",
]
model = dict(
    type="PatchMatcher",
    data_preprocessor=dict(type="PatchPairPreprocessor", input_norm="standardize"),
    backbone=dict(type="PatchEncoder", arch="aguilera", shared=True),
    head=dict(type="SiameseHead", in_channels=(256,)),
)
default_hooks = dict(checkpoint=dict(interval=500, save_best=None, max_keep_ckpts=1))
