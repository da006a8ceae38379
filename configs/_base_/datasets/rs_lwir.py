"""RS-LWIR: visible and thermal patches of 64 x 64 pixels; RoadScene to train and test on, MSRS as another domain to test on.

Pictures: `data/lwir_visible/SCENE/vis/NAME`, `ir/NAME` and `splits/*.txt`. The manifests are made once by

python tools/dataset_converters/make_patch_manifest.py data/lwir_visible data/rs_lwir --splits splits

Training: each patch with its own place and, anew in every epoch, with another one (a third each: another image, the same
image without common pixels, the same image at least 30 pixels away). Testing: sets R (random), S (same image), H (hard);
the main figure is the mean of FPR95 on R and S. The epoch to keep is chosen on `roadscene_val`, never on a test set. Across
domains: `test_dataloader.dataset.manifest="data/rs_lwir/msrs_test.csv"`.
"""
pictures = "data/lwir_visible"
manifests = "data/rs_lwir"
train_pipeline = [dict(type="LoadPatchPair", size=64), dict(type="AugmentPatchPair"), dict(type="PackPatchPair")]
test_pipeline = [dict(type="LoadPatchPair", size=64), dict(type="PackPatchPair")]
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(
        type="PatchPairTrainDataset",
        manifest=f"{manifests}/roadscene_train.csv",
        data_root=pictures,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="PatchPairDataset",
        manifest=f"{manifests}/roadscene_val.csv",
        data_root=pictures,
        sets=("R", "S", "H"),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="PatchPairDataset",
        manifest=f"{manifests}/roadscene_test.csv",
        data_root=pictures,
        sets=("R", "S", "H"),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
val_evaluator = dict(type="FPR95")
test_evaluator = val_evaluator
