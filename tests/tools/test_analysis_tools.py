"""The analysis tools and the demo on made-up logs, matrices and pictures."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from engine.tiny import write_config
from tool import load, run

from visionpatch.apis import cli

FOLDER = "tools/analysis_tools/"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def test_analyze_logs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two runs of one work directory: the resumed one replaces the steps it repeats."""
    for run_name, entries in (("1", [(1, 3.0), (2, 2.0), (3, 9.0)]), ("2", [(3, 1.5), (4, 1.75)])):
        folder = tmp_path / "work" / run_name / "vis_data"
        folder.mkdir(parents=True)
        lines = [json.dumps(dict(loss=loss, lr=0.1, time=1.0, step=step)) for step, loss in entries]
        (folder / "scalars.json").write_text("\n".join([*lines, json.dumps(dict(mIoU=10.0 * int(run_name), step=4))]))
    tool = load(FOLDER + "analyze_logs.py")
    assert tool.read_curves(tmp_path / "work")["loss"] == [(1, 3.0), (2, 2.0), (3, 1.5), (4, 1.75)]
    assert run(FOLDER + "analyze_logs.py", "work", "--out", "c.png") == 0
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line[0] == "│"
    ]
    assert ["work", "loss", "4", "1.75", "1.5", "3"] in rows and ["work", "mIoU", "1", "20", "20", "4"] in rows
    assert cv2.imread("c.png").shape == (600, 1800, 3)
    assert run(FOLDER + "analyze_logs.py", "work", "--out", "c.png", "--keys", "lsos") == 2
    assert 'did you mean "loss"' in capsys.readouterr().err
    assert run(FOLDER + "analyze_logs.py", "nowhere") == 2


def test_confusion_matrix(tmp_path: Path) -> None:
    tool = load(FOLDER + "confusion_matrix.py")
    shares = tool.draw_matrix(np.array([[8, 2, 0], [0, 0, 0], [3, 1, 4]]), ["a", "b", "c"], "t", tmp_path / "m.png")
    assert np.allclose(shares[[0, 2]], [[0.8, 0.2, 0], [0.375, 0.125, 0.5]]) and np.isnan(shares[1]).all()
    assert tool.confused(shares) == [(0.375, 2, 0), (0.2, 0, 1), (0.125, 2, 1)]
    assert cv2.imread(str(tmp_path / "m.png")).std() > 10


def test_print_config(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_config(tmp_path)
    assert (
        run(FOLDER + "print_config.py", path, "--cfg-options", "train_cfg.max_epochs=77", "--save-path", "full.py") == 0
    )
    assert "max_epochs=77" in capsys.readouterr().out and "max_epochs=77" in Path("full.py").read_text()
    assert run(FOLDER + "print_config.py", "full.py") == 0


def test_browse_dataset(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_config(tmp_path)
    assert run(FOLDER + "browse_dataset.py", path, "--number", "3") == 0
    assert sorted(p.name for p in Path("browse").iterdir()) == [f"000{i}_picture_{i}.png" for i in range(3)]
    assert "wrote 3 of 4 samples" in capsys.readouterr().out
    assert cv2.imread("browse/0000_picture_0.png").shape[1] == 320  # 16 pixels, enlarged by 20


def test_get_flops(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """TinySegmentor at 64 x 32: 32*16 positions of 8 * 27 and of 8 * 3 products."""
    path = write_config(tmp_path)
    assert run(FOLDER + "get_flops.py", path, "--shape", "2048", "1024") == 0
    rows = [
        [c.strip() for c in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines() if line[:1] == "│"
    ]
    assert ["backbone", f"{1024 * 512 * 8 * 27 / 1e9:.3f} G", "0.000 M"] in rows
    assert rows[-1][1] == f"{1024 * 512 * (8 * 27 + 8 * 3) / 1e9:.3f} G"
    assert run(FOLDER + "get_flops.py", path, "--shape", "1", "2", "3") == 2


def test_demo_finds_pictures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    pictures, skipped = cli.find_pictures(tmp_path)
    assert [p.name for p in pictures] == ["a.png", "b.JPG"] and skipped == [f"{tmp_path / 'notes.txt'}: not a picture"]
    assert run("demo/image_demo.py", "none", "x") == 2
    assert "none: no such picture or folder" in capsys.readouterr().err
    assert run("demo/image_demo.py", tmp_path / "sub", "x") == 2
    assert "holds no picture (.jpg" in capsys.readouterr().err
