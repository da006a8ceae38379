"""AFD-Net (Quan et al., 2019) on RS-LWIR: differences of features at five scales.

    python tools/train.py configs/md_frn/afd-net_1xb64_rs-lwir-64x64.py
    python tools/test.py configs/md_frn/afd-net_1xb64_rs-lwir-64x64.py CHECKPOINT

Expected: not measured yet.
"""
_base_ = [
    "../_base_/datasets/rs_lwir.py",
    "../_base_/schedules/nadam_matching.py",
    "../_base_/default_runtime.py",
]
width = 32  # as published
model = dict(
    type="PatchMatcher",
    data_preprocessor=dict(type="PatchPairPreprocessor", input_norm="standardize"),
    backbone=dict(type="PatchEncoder", arch="afd_net", shared=False, width=width),
    head=dict(type="AFDNetHead", in_channels=(width, width, 2 * width, 4 * width, 8 * width)),
)
default_hooks = dict(checkpoint=dict(interval=500, save_best=None, max_keep_ckpts=1))
