"""HyNet (Tian et al., 2020) on RS-LWIR: a descriptor for each patch, from the matching half of each batch.

    python tools/train.py configs/md_frn/hynet_1xb64_rs-lwir-64x64.py
    python tools/test.py configs/md_frn/hynet_1xb64_rs-lwir-64x64.py CHECKPOINT

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
    backbone=dict(type="PatchEncoder", arch="hynet", shared=True),
    head=dict(type="DescriptorHead", in_channels=(128,), loss="hynet"),
)
default_hooks = dict(checkpoint=dict(interval=500, save_best=None, max_keep_ckpts=1))
