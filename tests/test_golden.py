"""Stored outputs, losses and gradients of the published implementations, under tests/golden."""

import json
import shutil
from pathlib import Path

import check_golden
import numpy as np
import pytest
from golden import rule

CASES = sorted(path.parent for path in (Path(__file__).parent / "golden").rglob("case.json"))


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_outputs_losses_and_gradients_are_the_published_ones(folder):
    errors = check_golden.check_case(folder)
    case = json.loads((folder / "case.json").read_text())
    with np.load(folder / "output.npz") as file:
        described = check_golden.described_outputs(case, file.files)
    assert set(errors) == {name for name, text in described.items() if not text.startswith("INPUT")} != set()
    bars = {name: check_golden.BARS.get(name, check_golden.BAR) for name in errors}
    assert {name: error for name, error in errors.items() if not error <= bars[name]} == {}


def test_a_wrong_argument_fails_the_case(tmp_path, monkeypatch, capsys):
    source = next(folder for folder in CASES if folder.name == "dense_small_odd")
    case = json.loads((source / "case.json").read_text())
    case["model"]["group_size"] = [5, 7, 7, 7]
    _copy(source, tmp_path / "wrong_groups", case)
    case["source"] = "somebody/else, class SomethingElse"
    _copy(source, tmp_path / "wrong_source", case)
    monkeypatch.setattr("sys.argv", ["check_golden.py", str(tmp_path)])
    assert check_golden.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("wrong_groups  max_rel_err=") and "FAIL (stage" in lines[0]
    assert "no adapter for the source: somebody/else" in lines[1] and lines[1].endswith("FAIL")


def _copy(source: Path, target: Path, case: dict) -> None:
    target.mkdir()
    shutil.copy(source / "output.npz", target)
    (target / "case.json").write_text(json.dumps(case))


def test_the_drawing_rule():
    assert rule.draw("image", (2,)).tolist() == pytest.approx(rule.draw("image", (2, 1)).flatten().tolist())
    norm, bias, variance = (rule.value(f"bn.{leaf}", (4096,)) for leaf in ("weight", "bias", "running_var"))
    assert norm.mean() == pytest.approx(1, abs=0.01) and bias.std() == pytest.approx(0.1, rel=0.1)
    assert variance.min() >= 0.5
    assert rule.value("conv.weight", (64, 16, 3, 3)).std() == pytest.approx(1 / 12, rel=0.05)
    assert set(rule.fill({"a": {"b": [2]}})["a"]) == {"b"}
