"""SIFT descriptors of OpenCV on RS-LWIR, without learning.

    python tools/test.py configs/md_frn/sift_rs-lwir-64x64.py none

Expected: FPR95 of 71.9 on R, 71.7 on S, 85.7 on H, measured here on roadscene_test; 93.1, 92.8, 93.0 on
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
    head=dict(type="SIFTHead"),
)
train_dataloader = None
val_dataloader = None
val_evaluator = None
test_cfg = dict(type="TestLoop")
