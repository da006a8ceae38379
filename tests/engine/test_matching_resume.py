"""Training on patch pairs: the configs of MD-FRN on drawn data, resumed to the last bit, trained, saved and tested."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from visionpatch.apis.exact_resume import differences
from visionpatch.datasets.pair_folder import PairFolder
from visionpatch.datasets.patch_protocol import make_manifests
from visionpatch.datasets.synthetic_pairs import make_synthetic_pairs
from visionpatch.engine import build_runner, load_config

CONFIGS = Path(__file__).parents[2] / "configs/md_frn"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    make_synthetic_pairs(root, 6, thermal_bits=16)
    names = PairFolder(str(root)).images("synthetic")
    splits = dict(roadscene_train=("train", names[:4]), roadscene_val=("test", names[4:]))
    make_manifests(splits, str(root), str(root), limit=4)
    return root


def config(root: Path, work: Path, stem: str, **options: Any) -> Config:
    overrides: dict[str, Any] = {"train_dataloader.batch_size": 2, "default_hooks.checkpoint.interval": 2}
    for name, split in (("train", "train"), ("val", "val"), ("test", "val")):
        loader = f"{name}_dataloader"
        overrides |= {f"{loader}.dataset.manifest": f"{root}/roadscene_{split}.csv", f"{loader}.num_workers": 0}
        overrides |= {f"{loader}.dataset.data_root": str(root)}
    cfg = load_config(CONFIGS / f"{stem}_1xb64_rs-lwir-64x64.py", overrides | options, work_dir=str(work))
    cfg.log_level = "ERROR"
    return cfg


def test_a_training_that_was_broken_off_goes_on_exactly(drawn: Path, tmp_path: Path) -> None:
    cfg = config(drawn, tmp_path, "md-frn-w8", width=2, channels=4)
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg.pop(key)
    assert differences(cfg, tmp_path, iterations=4, breaks=[2]) == []


def test_a_training_its_validation_and_a_test_of_its_checkpoint(drawn: Path, tmp_path: Path) -> None:
    options = {"train_cfg.max_iters": 5, "width": 2, "channels": 4}
    runner = build_runner(config(drawn, tmp_path, "md-frn-w8", **options))
    runner.train()
    logged = runner.message_hub.log_scalars
    assert {"val/FPR95", "val/FPR95_R", "val/FPR95_H", "val/AUC", "train/loss_main", "train/loss_cs"} <= set(logged)
    rates = logged["train/lr"].data[0].tolist()
    assert rates == pytest.approx([5e-4, 3.75e-4, 2.5e-4, 1.25e-4, 0.0])
    cfg = config(drawn, tmp_path, "md-frn-w8", **options)
    cfg.load_from = str(tmp_path / "iter_5.pth")
    found = build_runner(cfg).test()
    assert found["FPR95"] == pytest.approx(logged["val/FPR95"].current()) and "accuracy_S" in found
