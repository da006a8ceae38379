"""The tokenizer demo with small untrained models."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from small_tokenizers import write_models
from tool import run

DEMO = "demo/tokenizer_demo.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_models(tmp_path_factory.mktemp("demo"))
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"in/{name}.png"), rng.integers(0, 256, (38, 50, 3), dtype=np.uint8))
    (folder / "in/note.txt").write_text("no picture")
    return folder


def flags(folder: Path, name: str) -> list:
    model = ["--config", folder / f"{name}.py", "--weights", folder / f"{name}.pth", "--device", "cpu"]
    return [*model, "--out-dir", folder / "out"]


def test_a_folder_there_and_back(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(DEMO, folder / "in", *flags(folder, "tokenizer")) == 0
    text = capsys.readouterr().out
    assert "a.png: 10 x 13 x 2 codes, " in text and "PSNR " in text and "note.txt: not a picture" in text
    drawn = cv2.imread(str(folder / "out/b_reconstructed.png"))
    assert drawn.shape[1] == 2 * 50 * 6 + 8  # enlarged by 6
    given = cv2.resize(cv2.imread(str(folder / "in/b.png")), None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(drawn[30 : 30 + 228, :300], given)
    assert run(DEMO, folder / "in/a.png", *flags(folder, "tokenizer"), "--tile", 6) == 0


def test_a_box_drawn_anew(folder: Path, capsys: pytest.CaptureFixture) -> None:
    box = ["--box", 5, 5, 25, 20, "--label", 1, "--guidance", 2]
    assert run(DEMO, folder / "in/a.png", *flags(folder, "generator"), *box) == 0
    assert "a.png: the part 0 0 50 33 with the box anew" in capsys.readouterr().out
    assert cv2.imread(str(folder / "out/a_inpainted.png")).shape == (16 * 12 + 30, 2 * 24 * 12 + 8, 3)


def test_a_grid_of_new_pictures(folder: Path, capsys: pytest.CaptureFixture) -> None:
    grids = []
    for seed in (3, 3, 4):
        assert run(DEMO, "--generate", 5, "--seed", seed, "--steps", 2, *flags(folder, "generator")) == 0
        grids.append(cv2.imread(str(folder / f"out/generated_{seed}.png")))
    assert grids[0].shape == (2 * 18 - 2, 3 * 26 - 2, 3)
    assert np.array_equal(grids[0], grids[1]) and not np.array_equal(grids[0], grids[2])
    assert "5 picture(s), seed 3; wrote" in capsys.readouterr().out


def test_wrong_flags(folder: Path, capsys: pytest.CaptureFixture) -> None:
    picture = folder / "in/a.png"
    for given, name, text in [
        ([], "tokenizer", "give either a picture or --generate NUMBER"),
        ([picture, "--generate", 2], "generator", "give either a picture or --generate NUMBER"),
        (["--generate", 0], "generator", "--generate 0; expected 1 or more"),
        (["--generate", 2, "--box", 1, 1, 2, 2], "generator", "--box goes with a picture"),
        ([picture, "--label", 1, "--steps", 2], "generator", "--label --steps: goes with --box or --generate"),
        ([picture, "--box", 1, 1, 2, 2, "--tile", 4], "generator", "--tile goes with a picture alone"),
        ([picture, "--box", 1, 1, 2, 2], "tokenizer", "inpaint needs a model of type MaskedTokenGenerator"),
        ([picture, "--box", 90, 1, 99, 2], "generator", "lies outside the picture of 50 x 38 pixels"),
        (["--generate", 2, "--steps", 0], "generator", "steps = 0"),
    ]:
        assert run(DEMO, *given, *flags(folder, name)) == 2
        assert text in " ".join(capsys.readouterr().err.split()), text
