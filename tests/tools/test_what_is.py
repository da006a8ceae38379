"""tools/what_is.py tells what is in a file, and runs nothing of it."""

import hashlib
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tool import run

from visionpatch.engine.predictions import write_predictions

TOOL = "tools/what_is.py"
META = dict(
    iter=120,
    epoch=3,
    seed=7,
    time="20261122_101112",
    experiment_name="tiny",
    command="tools/train.py tiny.py",
    config_file="configs/tiny.py",
    config_sha256="ab" * 32,
    cfg="lr = 0.1\nname = 'x'\n",
    versions=dict(torch="2.13.0", visionpatch="0.1"),
    metrics=dict(mIoU=61.23456789, best=True),
    dataset_meta=dict(classes=("sky", "tree", "road")),
)
STATE = {"backbone.w": torch.ones(3, 4), "backbone.n": torch.ones(2, dtype=torch.int64), "head.w": torch.ones(5).half()}


def told(path: Path, capsys: pytest.CaptureFixture, *flags: str) -> dict[str, str]:
    """First column -> the rest, of every line printed."""
    assert run(TOOL, path, *flags) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    return {
        parts[0]: parts[1] if len(parts) > 1 else "" for parts in (re.split(r" {2,}", x, maxsplit=1) for x in lines)
    }


def test_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "iter_120.pth"
    training = dict(optimizer={"state": {}}, param_schedulers=[{"a": 1}], ranks=[{"random": {}}, {"random": {}}])
    torch.save(dict(meta=META, state_dict=STATE, **training), path)
    found = told(path, capsys, "--keys")
    assert found["kind"] == "torch zip" and found["size"] == f"{path.stat().st_size:,} bytes"
    assert found["SHA-256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["iteration, epoch"] == "120, 3" and found["seed"] == "7" and found["saved"] == "20261122_101112"
    assert found["command"] == "tools/train.py tiny.py" and found["experiment"] == "tiny"
    assert found["config file"] == "configs/tiny.py" and found["config SHA-256"] == "ab" * 32
    assert found["versions"] == "torch 2.13.0, visionpatch 0.1" and found["metrics"] == "mIoU 61.2346, best True"
    assert found["classes"] == "3" and found["tensors"] == "3 of 19 values"
    assert found["float32"] == "1 tensors, 48 bytes" and found["float16"] == "1 tensors, 10 bytes"
    assert re.fullmatch(r"2 +14 +64", found["backbone"]) and re.fullmatch(r"1 +5 +10", found["head"])
    assert re.fullmatch(r"\(3, 4\) +float32", found["backbone.w"]) and re.fullmatch(r"\(5,\) +float16", found["head.w"])
    assert [found[k] for k in ("optimiser", "schedulers", "random states", "averaged weights (EMA)")] == [
        "yes",
        "yes",
        "yes",
        "no",
    ]
    assert found["can be resumed"] == "yes, to the last bit, with 2 process(es)"


def test_checkpoint_of_another_program(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """What is missing, or not of the expected kind, is a dash."""
    path = tmp_path / "old.pth"
    meta = dict(epoch=[1], iter=2, versions=3, metrics={"a": [1]}, mmengine_version="0.10", dataset_meta=4)
    torch.save(dict(meta=meta, state_dict=STATE, optimizer={"x": 1}), path, _use_new_zipfile_serialization=False)
    found = told(path, capsys)
    assert found["kind"] == "torch legacy" and found["iteration, epoch"] == "2, -" and found["metrics"] == "a -"
    assert {found[k] for k in ("seed", "versions", "classes", "command", "config SHA-256")} == {"-"}
    assert found["can be resumed"] == "yes, but without its random states"


def test_bare_tensors(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(STATE, tmp_path / "w.safetensors")
    found = told(tmp_path / "w.safetensors", capsys)
    assert found["kind"] == "safetensors" and found["can be resumed"] == "no, weights alone"


def test_config_is_text(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save(dict(meta={**META, "cfg": META["cfg"] + "\x1b[2J"}, state_dict={}), tmp_path / "f.pth")
    assert run(TOOL, tmp_path / "f.pth", "--config") == 0
    assert capsys.readouterr().out == META["cfg"] + "?[2J\n"


class Payload:
    def __init__(self, trap: Path) -> None:
        self.trap = str(trap)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.trap,)


def test_what_would_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, trap = tmp_path / "evil.pth", tmp_path / "trap"
    for zipped, kind in ((True, "torch zip"), (False, "torch legacy")):
        torch.save(dict(state_dict={}, x=Payload(trap)), path, _use_new_zipfile_serialization=zipped)
        found = told(path, capsys)
        assert found["kind"] == f"{kind}, refused: it would run code"
        assert found["would import"] == f"{os.mkdir.__module__}.mkdir"
    for protocol in range(6):
        path.write_bytes(pickle.dumps([1, "a", Payload(trap)], protocol))
        assert told(path, capsys)["would import"] == f"{os.mkdir.__module__}.mkdir"
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_predictions(tmp_path: Path, capsys: pytest.CaptureFixture, suffix: str) -> None:
    records = [dict(img_path=f"{i}.png", label=np.array([i]), score=np.array([0.5])) for i in range(3)]
    write_predictions(tmp_path / f"p{suffix}", records)
    found = told(tmp_path / f"p{suffix}", capsys)
    assert found["samples"] == "3" and found["label"] == "of 3" and found["first, last"] == "0.png, 2.png"


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One line each, status 2, and the files after them are still described."""
    (tmp_path / "empty.pth").touch()
    (tmp_path / "note.pth").write_text("hello")
    torch.save({"w": torch.ones(1)}, tmp_path / "good.pth")
    names = ("godo.pth", "empty.pth", "note.pth", "good.pth")
    assert run(TOOL, *(tmp_path / name for name in names)) == 2
    out, err = capsys.readouterr()
    assert [line.partition(".pth: ")[2].split(",")[0] for line in err.strip().splitlines()] == [
        'no such checkpoint file; did you mean "good.pth" or "note.pth"?',
        "is empty (0 bytes)",
        "5 bytes that cannot be read as a checkpoint",
    ]
    assert "good.pth" in out and "torch zip" in out
