"""tools/benchmark_matching.py: what is done is not repeated, a stopped run is reported, the table is right."""

import json
from pathlib import Path
from typing import Any

import pytest
from tool import load, run

TOOL = "tools/benchmark_matching.py"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str]]]:
    """Trainings and tests that only write down what they were asked for."""
    module, seen = load(TOOL), []

    def call(tool: str, path: str, *arguments: str, folder: Path, options: list[str]) -> int:
        seen.append((tool, Path(path).stem, [*arguments, *options]))
        seed = int(folder.parent.name.removeprefix("seed"))
        if tool == "train.py":
            folder.mkdir(parents=True)
            (folder / "last_checkpoint").write_text(f"{folder}/iter_9.pth\n")
        else:
            (folder / "1").mkdir(parents=True)
            values = {"FPR95": 10 + 2 * seed, "FPR95_R": 8, "FPR95_S": 12, "FPR95_H": 30}
            (folder / "1/1.json").write_text(json.dumps(values))
        return 75 if "siamese" in path and tool == "test.py" else 0

    monkeypatch.setattr(module, "call", call)
    monkeypatch.setattr(module, "speed", lambda *_: dict(parameters=1234, milliseconds=56.7))
    return seen


def test_rows_are_trained_tested_and_not_repeated(calls: list[Any], tmp_path: Path) -> None:
    flags = [tmp_path, "--only", "sift", "two-*", "--seeds", 0, 1, "--cfg-options", "train_cfg.max_iters=9"]
    assert run(TOOL, *flags) == 0
    assert [name for name, *_ in calls] == ["test.py"] * 2 + ["train.py", "test.py", "test.py"] * 2
    assert calls[0][2] == ["none", "test_dataloader.dataset.manifest=data/rs_lwir/roadscene_test.csv"]
    assert calls[2][2] == ["--resume", "if-any", "train_cfg.max_iters=9", "randomness.seed=0"]
    checkpoint = str(tmp_path / "two-channel/seed0/train/iter_9.pth")
    assert calls[4][2][:2] == [checkpoint, "train_cfg.max_iters=9"] and "msrs_test" in calls[4][2][2]
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2] == "| sift | 1 | 1,234 | 57 | 10.0 | 8.0 | 12.0 | 30.0 | 10.0 | 8.0 | 12.0 | 30.0 |"
    assert "| two-channel | 2 | 1,234 | 57 | 11.0 ± 1.4 | 8.0 ± 0.0 |" in lines[3]
    assert len({line.count("|") for line in lines}) == 1
    done = len(calls)
    assert run(TOOL, *flags) == 0 and len(calls) == done


def test_a_stopped_run_is_reported_and_goes_on(calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(TOOL, tmp_path, "--only", "siamese", "--seeds", 0) == 75
    assert "siamese, seed 0: stopped with status 75" in capsys.readouterr().out
    assert run(TOOL, tmp_path, "--only", "siamese", "--seeds", 0, "--table") == 0
    assert [name for name, *_ in calls] == ["train.py", "test.py"]


def test_another_budget_in_the_same_folder_and_unknown_rows(
    calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(TOOL, tmp_path, "--table") == 0
    assert run(TOOL, tmp_path, "--table", "--cfg-options", "train_cfg.max_iters=9") == 2
    assert "holds runs with --cfg-options (none)" in capsys.readouterr().err
    assert run(TOOL, tmp_path, "--only", "resnet") == 2
    assert "no such row; there are sift, gradient-ncc" in capsys.readouterr().err


def test_every_row_has_a_config_and_every_config_a_row() -> None:
    module = load(TOOL)
    configs = {path.stem for path in (module.ROOT / "configs/md_frn").glob("*.py")}
    assert {config for config, _ in module.ROWS.values()} == configs


def test_speed_and_parameters() -> None:
    module = load(TOOL)
    found = module.speed(str(module.ROOT / "configs/md_frn/gradient-ncc_rs-lwir-64x64.py"), ())
    assert found["parameters"] == 0 and found["milliseconds"] > 0
