"""demo/matching_demo.py: points and grids from files to pictures."""

from pathlib import Path

import cv2
import pytest
from tool import run

from visionpatch.apis.matching import moved_by
from visionpatch.datasets.synthetic_pairs import draw_scene


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("COLUMNS", "300")
    visible, thermal = draw_scene(1, (160, 128), thermal_bits=16)
    paths = tmp_path / "scene.png", tmp_path / "thermal.png"
    cv2.imwrite(str(paths[0]), visible)
    cv2.imwrite(str(paths[1]), moved_by(thermal, (4, -2)))
    return paths


def test_points(files: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    out = files[0].parent / "out"
    flags = ["--point", 70, 64, "--point", 80, 60, "--radius", 8, "--device", "cpu", "--out-dir", out]
    assert run("demo/matching_demo.py", *files, *flags) == 0
    text = capsys.readouterr().out
    assert "70, 64 -> 74, 62: score 0." in text and "80, 60 -> 84, 58: score 0." in text
    drawn = cv2.imread(str(out / "scene_70_64.png"))
    assert drawn.shape[1] == 160 + 8 + 160 + 8 + 9 * (320 // 9) and (out / "scene_80_60.png").is_file()


def test_a_grid_and_a_known_shift(files: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    out = files[0].parent / "out"
    flags = ["--grid", 16, "--radius", 8, "--shift", -4, 2, "--device", "cpu", "--out-dir", out]
    assert run("demo/matching_demo.py", *files, *flags) == 0  # moved back to where it was, nearly: 4 from there
    text = capsys.readouterr().out
    assert "of 35 points are found back" in text and "within 4 pixels of the true place: " in text
    assert cv2.imread(str(out / "scene_matches.png")).shape[1] == 160 + 8 + 160


def test_wrong_flags(files: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    for flags, text in [
        (["--point", 70, 64, "--shift", 1, 1], "--shift goes with --grid"),
        (["--grid", 0], "--grid 0; expected 1 or more"),
        (["--point", 5, 64], "around the point (5, 64) is not inside the picture of 160 x 128"),
        (["--point", 70, 64, "--config", "sifd"], "no config is called"),
    ]:
        assert run("demo/matching_demo.py", *files, *flags, "--device", "cpu") == 2
        assert text in capsys.readouterr().err


def test_pairs_of_a_data_set_are_drawn(files: tuple[Path, Path]) -> None:
    root = files[0].parent
    for folder, file in zip(("vis", "ir"), files):
        (root / folder).mkdir()
        (root / folder / "a.png").write_bytes(file.read_bytes())
    (root / "m.csv").write_text("set,image,vx,vy,image2,tx,ty,label\nR,a,70,64,a,70,64,1\nR,a,70,64,a,40,40,0\n")
    data = [f"test_dataloader.dataset.{key}" for key in (f"manifest={root}/m.csv", f"data_root={root}", "sets=['R']")]
    flags = ["configs/md_frn/sift_rs-lwir-64x64.py", "--split", "test", "--out-dir", root / "out", "--cfg-options"]
    assert run("tools/analysis_tools/browse_dataset.py", *flags, *data) == 0
    drawn = [cv2.imread(str(root / f"out/000{i}_a.png")) for i in (0, 1)]
    assert drawn[0].shape[1] == 320 + 8 + 320
    assert (drawn[0][-320:, :320] == drawn[1][-320:, :320]).all() and (drawn[0] != drawn[1]).any()
