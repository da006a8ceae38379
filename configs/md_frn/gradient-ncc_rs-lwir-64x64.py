"""Correlation of gradient magnitudes on RS-LWIR: the floor, without learning.

    python tools/test.py configs/md_frn/gradient-ncc_rs-lwir-64x64.py none

Expected: FPR95 of 60.4 on R, 58.6 on S, 64.2 on H, measured here on roadscene_test; 84.9, 84.8, 85.2 on
msrs_test. Half a minute on a CPU.
"""
_base_ = [
    "../_base_/datasets/rs_lwir.py",
    "../_base_/default_runtime.py",
]
model = dict(
    type="PatchMatcher",
    data_preprocessor=dict(type="PatchPairPreprocessor", input_norm="standardize"),
    backbone=None,
    head=dict(type="GradientNCCHead"),
)
train_dataloader = None
val_dataloader = None
val_evaluator = None
test_cfg = dict(type="TestLoop")
