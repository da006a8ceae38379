"""tools/train.py and tools/test.py on a tiny model, in this process."""

import json
import logging
from pathlib import Path

import pytest
import torch
from engine.tiny import write_config
from tool import load, run
from torch.utils.data import Dataset

from visionpatch.apis import cli
from visionpatch.engine.predictions import read_predictions
from visionpatch.errors import BadSampleError
from visionpatch.registry import DATASETS

TRAIN, TEST = "tools/train.py", "tools/test.py"


@DATASETS.register_module()
class BadDataset(Dataset):
    metainfo = dict(classes=("sky", "tree", "road"))

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        raise BadSampleError("bad.png: is empty (0 bytes)")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return write_config(
        tmp_path, ("width = 8", f"width = 8; log_level = 'WARNING'; experiment_name = '{tmp_path.name}'")
    )


def error_of(capsys: pytest.CaptureFixture, *arguments: object, status: int = 2) -> str:
    capsys.readouterr()
    assert run(*arguments) == status  # type: ignore[arg-type]
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def test_train_resume_test(tiny: Path, capsys: pytest.CaptureFixture) -> None:
    """From nothing to predictions, in ./work_dirs/<config name>."""
    assert run(TRAIN, tiny, "--cfg-options", "train_cfg.max_epochs=1") == 0
    work = tiny.parent / "work_dirs/tiny"
    assert (work / "epoch_1.pth").is_file() and (work / "tiny.py").is_file()
    assert run(TRAIN, tiny, "--resume", "--amp") == 0
    steps = [
        json.loads(line)["step"]
        for f in sorted(work.glob("*/vis_data/scalars.json"))
        for line in f.read_text().splitlines()
        if "loss" in line
    ]
    assert steps == [1, 2, 3, 4]
    assert run(TEST, tiny, work / "epoch_2.pth", "--out", "p.npz", "--work-dir", "elsewhere") == 0
    assert run(TEST, tiny, work / "epoch_2.pth", "--out", "p.json") == 0
    capsys.readouterr()
    assert run(TEST, tiny, work / "epoch_2.pth", "--expect", "acc=0") == 0
    assert run(TEST, tiny, work / "epoch_2.pth", "--expect", "acc=101") == 1
    out = capsys.readouterr().out
    assert "reaches the expected 0" in out and "does not reach the expected 101" in out
    assert 'no such metric; did you mean "acc"' in error_of(
        capsys, TEST, tiny, work / "epoch_2.pth", "--expect", "ac=1"
    )
    maps = [[r["sem_seg"].tolist() for r in read_predictions(name)] for name in ("p.npz", "p.json")]
    assert maps[0] == maps[1] and len(maps[0]) == 2 and (tiny.parent / "elsewhere").is_dir()


def test_dry_run(tiny: Path, capsys: pytest.CaptureFixture) -> None:
    before = sorted(tiny.parent.iterdir())
    assert run(TRAIN, tiny, "--dry-run") == 0
    assert sorted(tiny.parent.iterdir()) == before  # nothing is left behind
    rows = dict(line.strip("│ ").split("│", 1) for line in capsys.readouterr().out.splitlines() if line.startswith("│"))
    rows = {key.strip(): value.strip() for key, value in rows.items()}
    assert (
        rows["parameters"] == "251"
        and rows["backbone"] in ("(2, 8, 6, 8)", "224")
        and rows["decode_head"] in ("27", "(2, 3, 6, 8)")
    )
    assert rows["raw output"] == "(2, 3, 12, 16)" and rows["validation iteration"].startswith("acc 0.")
    assert rows["training iteration"].startswith("loss 1.") and rows["peak memory"].split()[1] == "MiB"


def test_dry_run_tells_of_weights(tiny: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"state_dict": {"decode_head.bias": torch.zeros(3), "extra": torch.zeros(1)}}, "w.pth")
    assert run(TRAIN, tiny, "--dry-run", "--cfg-options", "load_from=w.pth", "allow_partial_load=True") == 0
    assert "1 keys matched, 3 missing" in capsys.readouterr().out.replace("\n", " ")


def test_user_errors_are_one_line(tiny: Path, capsys: pytest.CaptureFixture) -> None:
    assert 'did you mean "tiny.py"' in error_of(capsys, TRAIN, "tiney.py")
    assert 'did you mean "train_cfg"' in error_of(capsys, TRAIN, tiny, "--cfg-options", "train_cgf.max_epochs=1")
    assert "--auto-scale-lr needs auto_scale_lr" in error_of(capsys, TRAIN, tiny, "--auto-scale-lr")
    assert "no such checkpoint file" in error_of(capsys, TEST, tiny, "none.pth")
    assert "expected a name that ends in .npz or .json" in error_of(capsys, TEST, tiny, "none.pth", "--out", "p.pkl")
    assert "set model.num_classes = 3" in error_of(
        capsys, TRAIN, tiny, "--dry-run", "--cfg-options", "model.num_classes=4"
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_is_one_line_from_a_worker_too(tiny: Path, capsys: pytest.CaptureFixture, workers: int) -> None:
    options = ("train_dataloader.dataset.type=BadDataset", f"train_dataloader.num_workers={workers}")
    logging.disable(logging.CRITICAL)
    try:
        text = error_of(capsys, TRAIN, tiny, "--cfg-options", *options)
    finally:
        logging.disable(logging.NOTSET)
    assert text == "error: bad.png: is empty (0 bytes)"


def test_traceback_on_request(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(ValueError, match="no such config file"):
        cli.run(lambda: load(TRAIN).main(["nothing.py"]))


def test_tta_reaches_the_model(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        load(TEST), "build_tester", lambda cfg, args: seen.append(cfg) or type("T", (), {"test": lambda s: None})()
    )
    assert run(TEST, tiny, "x.pth", "--tta") == 0 and run(TEST, tiny, "x.pth") == 0
    assert seen[0].model.test_cfg.tta == dict(scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True)
    assert "test_cfg" not in seen[1].model and seen[1].load_from == "x.pth"
    tiny.write_text(tiny.read_text() + "tta = dict(scales=(1.0,), flip=True)\n")
    assert run(TEST, tiny, "x.pth", "--tta") == 0 and list(seen[2].model.test_cfg.tta.scales) == [1.0]
