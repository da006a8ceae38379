"""Two processes do what one does: the losses, the evaluation, the resume, and what happens when one of them fails."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import config, curve, evaluate, few_shot, train, write

from visionpatch.engine import build_runner, load_checkpoint_file
from visionpatch.engine.work_dir import training_in

TESTS = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-6  # of losses near 1 and weights below 1, after 6 iterations; float32 has 6e-8
pytestmark = pytest.mark.xdist_group("two processes")  # one run of torchrun serves all of them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """What each of two processes found, after one process began two trainings that they go on with."""
    for name, length in (("alone", 2), ("seen_by_0", 2), ("seen_by_1", 1)):
        cfg = config(folder, folder / name, by_epoch=False)
        cfg.train_cfg.max_iters = length
        train(cfg)
    script = Path(__file__).with_name("ranks.py")
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script), str(folder)]
    paths = [str(TESTS.parent), str(TESTS)]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([os.environ.get("PYTHONPATH", ""), *paths]).strip(os.pathsep))
    env |= dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    (folder / "taken").mkdir()
    with training_in(folder / "taken"):
        done = subprocess.run(
            [sys.executable, "-m", *launch], env=env, cwd=folder, capture_output=True, text=True, timeout=300
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("kind", ["epochs", "iterations"])
def test_losses_of_the_doubled_batch(ranks: list[dict], folder: Path, tmp_path: Path, kind: str) -> None:
    """Batches of 2 in two processes and of 4 in one: the same losses, logged as the mean, and the same weights."""
    alone = curve(folder, tmp_path, 1, by_epoch=kind == "epochs")
    for rank in ranks:
        found = rank["losses"][kind]
        assert len(found["losses"]) == 6
        assert found["losses"] == pytest.approx(alone["losses"], rel=TOLERANCE)
        assert found["weights"] == pytest.approx(alone["weights"], rel=0, abs=TOLERANCE)
    assert ranks[0]["losses"][kind] == ranks[1]["losses"][kind]


@pytest.mark.parametrize(("length", "batch_size"), [(5, 1), (5, 2), (7, 1), (7, 2)])
def test_evaluation_counts_every_sample_once(
    ranks: list[dict], folder: Path, tmp_path: Path, length: int, batch_size: int
) -> None:
    """An odd number of samples, which two processes share only with one of them twice."""
    alone = evaluate(folder, tmp_path, folder / "epochs/iter_6.pth", length, batch_size)
    found = [rank["evaluation"][f"{length} {batch_size}"] for rank in ranks]
    names = [f"picture_{index}.png" for index in range(length)]
    assert found[0]["metrics"]["seen"].split() == names
    assert found[0]["metrics"] == found[1]["metrics"] == alone["metrics"]
    assert set(alone["metrics"]) > {"mIoU", "aAcc", "accuracy/top1", "single-label/f1-score"}
    assert [name for name, _, _ in found[0]["predictions"]] == names
    assert [maps for _, maps, _ in found[0]["predictions"]] == [maps for _, maps, _ in alone["predictions"]]
    for (_, _, score), (_, _, expected) in zip(found[0]["predictions"], alone["predictions"]):
        assert score == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("number", [6, 7])
def test_episodes_count_once(ranks: list[dict], number: int) -> None:
    first, second = (rank["episodes"][str(number)] for rank in ranks)
    assert first == second == few_shot(number) and 0 < first["mIoU"] < 100 and "mIoU_ci95" in first


def test_validation_is_of_the_saved_model(ranks: list[dict], folder: Path, tmp_path: Path) -> None:
    """Running statistics differ between the processes; all of them evaluate with those that are saved."""
    means = [torch.tensor(rank["validation"]["mean"]) for rank in ranks]
    assert (means[0] - means[1]).abs().max() > 1e-4
    options = {"model.backbone.type": "NormBackbone", "model.type": "SegmentorAndClassifier"}
    cfg = config(folder, tmp_path, **options, **{"test_dataloader.dataset.length": 5})
    cfg.test_evaluator, cfg.load_from = dict(type="Confidence"), str(folder / "validated/iter_3.pth")
    alone = build_runner(cfg).test()["confidence"]
    assert [rank["validation"]["metric"] for rank in ranks] == pytest.approx([alone, alone], rel=TOLERANCE)


@pytest.mark.parametrize("kind", ["iterations", "epochs"])
def test_resume_is_exact(ranks: list[dict], kind: str) -> None:
    """Dropout, averaged weights, running statistics; within an accumulation of three, within and between epochs."""
    assert [rank["exactness"][kind] for rank in ranks] == [[], []]
    assert ranks[0]["exactness"]["buffers"] == [[], ["backbone.norm.running_mean", "backbone.norm.running_var"]]


def test_a_step_is_skipped_by_all(ranks: list[dict]) -> None:
    """The sample that is not finite is drawn by one process; the step changes nothing in both."""
    first, second = (rank["guard"] for rank in ranks)
    assert first["weights"] == second["weights"] and torch.tensor(first["weights"]).isfinite().all()
    skipped = [line for line in first["warnings"] if "skipped" in line]
    assert skipped == [line for line in second["warnings"] if "skipped" in line] and len(skipped) == 3
    assert all("loss_ce is not finite" in line and "picture_5.png" in line for line in skipped)
    unchanged = [i for i in range(2, 7) if first["weights"][i - 1] == first["weights"][i - 2]]
    assert unchanged == [int(line.split(":")[0].split()[1]) for line in skipped if "iteration 1:" not in line]


def test_an_error_of_one_ends_all(ranks: list[dict], folder: Path) -> None:
    first, second = (rank["guard"]["error"] for rank in ranks)
    assert first == second and first.startswith("NonFiniteLossError: iteration 1: loss_ce is not finite (loss_ce = nan")
    assert "picture_5.png; the weights are those before this step" in first
    first, second = (rank["failures"] for rank in ranks)
    taken = f"work_dir {folder / 'taken'}: process {os.getpid()} on "
    assert first["taken"].startswith(f"ConfigError: {taken}")
    assert second["taken"].startswith(f"ConfigError: process 0: {taken}")
    assert (first["disk"], second["disk"]) == ("SaveError: the disk is full", "SaveError: process 0: the disk is full")
    other = "the processes found checkpoints of different iterations (2, 1): the work_dir must be one folder that all"
    assert other in first["unlike"] and other in second["unlike"]


def test_sync_bn_needs_gpus(ranks: list[dict]) -> None:
    for rank in ranks:
        assert rank["sync_bn"] == (
            'ConfigError: sync_bn = "torch": it works on GPUs only; in CPU processes use "BN" and leave sync_bn out'
        )


def test_only_the_first_writes(ranks: list[dict]) -> None:
    first, second = (rank["losses"]["written"] for rank in ranks)
    assert any(name.startswith(".iter_6.pth.") for name in first) and "scalars.json" in first
    assert [name for name in second if ".writable." not in name] == []  # the test of the folder


def test_a_step_of_its_own(ranks: list[dict], folder: Path, tmp_path: Path) -> None:
    """A model with a `train_step` of its own is trained by it, and saved under the names it has in one process."""
    _, alone = train(config(folder, tmp_path, by_epoch=False, **{"train_dataloader.batch_size": 4}))
    for rank in ranks:
        assert rank["own_step"]["steps"] == 6
        assert rank["own_step"]["weights"] == pytest.approx(alone.weights[-1], rel=0, abs=TOLERANCE)
    saved = load_checkpoint_file(folder / "own_step/iter_6.pth")
    assert sorted(saved["state_dict"])[0] == "backbone.conv.bias" and len(saved["state_dict"]) == 4
    assert ranks[0]["own_step"]["resumed"] == 6


def test_resumed_by_another_number_of_processes(ranks: list[dict], folder: Path) -> None:
    """From one process to two and from two to one: the training goes on, and says that it is another one."""
    words = "the run goes on, but not bit by bit"
    for rank in ranks:
        assert (rank["other_number"]["iterations"], rank["other_number"]["iteration"]) == (4, 6)
        assert any(words in line and "'processes': 2}: " in line for line in rank["other_number"]["warnings"])
    cfg = config(folder, folder / "iterations", by_epoch=False, **{"train_dataloader.dataset.length": 7})
    cfg.train_dataloader.sampler.type = "InfiniteSampler"
    cfg.train_cfg.max_iters, cfg.resume = 8, True
    runner, notes = train(cfg)
    assert (len(notes.losses), runner.iter) == (2, 8)
    assert any(words in line and "'processes': 1}: " in line for line in notes.warnings)
