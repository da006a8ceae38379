"""MD-FRN with base width 8 and 32 relation channels on RS-LWIR, for one CPU core.

    python tools/train.py configs/md_frn/md-frn-w8_1xb64_rs-lwir-64x64.py
    python tools/test.py configs/md_frn/md-frn-w8_1xb64_rs-lwir-64x64.py CHECKPOINT

Expected: not measured yet. One module less each, for the ablation, by --cfg-options:
    no DIM              use_dim=False
    no SCM              use_dim=False use_scm=False
    no MSAG             use_dim=False use_msag=False
    none of them        use_dim=False use_scm=False use_msag=False
    siamese             sharing=siamese
The size between this one and the large one: width=16 channels=64; another seed: randomness.seed=1
"""
_base_ = [
    "../_base_/datasets/rs_lwir.py",
    "../_base_/schedules/nadam_matching.py",
    "../_base_/default_runtime.py",
]
width = 8
channels = 32
sharing = "hybrid"  # or "siamese", "pseudo", "none"
use_scm = True
use_msag = True
use_dim = True
model = dict(
    type="PatchMatcher",
    data_preprocessor=dict(type="PatchPairPreprocessor", input_norm="standardize"),
    backbone=dict(type="FourBranchEncoder", width=width, sharing=sharing, num_scales=3),
    head=dict(
        type="MDFRNHead",
        in_channels=(2 * width, 4 * width, 8 * width),
        channels=channels,
        use_scm=use_scm,
        use_msag=use_msag,
        use_dim=use_dim,
        depth=1,
    ),
)
default_hooks = dict(checkpoint=dict(interval=500, save_best=None, max_keep_ckpts=1))
