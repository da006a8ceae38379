"""Started by torchrun with a folder: every process makes every check and writes what it found to ``<rank>.json``."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, get_rank
from trainings import config, curve, evaluate, few_shot, files_written, train

import visionpatch.engine.runner
from visionpatch.apis.cli import leave_group
from visionpatch.apis.exact_resume import differences
from visionpatch.engine.checkpoint import load_checkpoint_file
from visionpatch.errors import SaveError, VisionpatchError

NOISY = {"model.backbone.type": "NormBackbone"}
EMA = [dict(type="EMAHook", momentum=0.1)]


def losses(folder: Path) -> dict:
    with files_written(folder / "epochs") as written:
        epochs = curve(folder, folder / "epochs", 2, by_epoch=True)
    return dict(epochs=epochs, iterations=curve(folder, folder / "iterations", 2, by_epoch=False), written=written)


def evaluation(folder: Path) -> dict:
    cases = [(length, size) for length in (5, 7) for size in (1, 2)]
    checkpoint = folder / "epochs/iter_6.pth"
    return {f"{n} {size}": evaluate(folder, folder / f"test_{n}_{size}", checkpoint, n, size) for n, size in cases}


def episodes(folder: Path) -> dict:
    return {str(number): few_shot(number) for number in (6, 7)}


def validation(folder: Path) -> dict:
    """The metric of a model whose running statistics differ between the processes, and those afterwards."""
    options = {"val_dataloader.dataset.length": 5, "model.type": "SegmentorAndClassifier"}
    cfg = config(folder, folder / "validated", **NOISY, **options)
    cfg.val_evaluator = dict(type="Confidence")
    runner, _ = train(cfg)
    metric = runner.message_hub.get_scalar("val/confidence").current()
    return dict(metric=metric, mean=runner.model.module.backbone.norm.running_mean.tolist())


def exactness(folder: Path) -> dict:
    """Broken off within an accumulation of three, within an epoch and at its end; with averaged weights.

    Once with the same random numbers in both processes, once with different ones.
    """
    options = {**NOISY, "custom_hooks": EMA, "train_dataloader.dataset.length": 8}
    iterations = config(folder, folder, by_epoch=False, **options, **{"optim_wrapper.accumulative_counts": 3})
    found = differences(iterations, folder / "exact", 6, [2, 4])
    saved = load_checkpoint_file(folder / "exact/resumed/iter_6.pth")
    epochs = config(folder, folder, **options, **{"randomness.diff_rank_seed": True})
    return dict(
        iterations=found,
        epochs=differences(epochs, folder / "exact_epochs", 6, [2, 3]),
        buffers=[sorted(state["buffers"]) for state in saved["ranks"]],
    )


def guard(folder: Path) -> dict:
    """One sample of eight is not finite: one process meets it."""
    poisoned = {"train_dataloader.dataset": dict(type="TinyDataset", length=8, poison=5), **NOISY}
    cfg = config(folder, folder / "skip", custom_hooks=[dict(type="CheckHook", non_finite="skip(2)")], **poisoned)
    _, notes = train(cfg)
    stopped = _error(config(folder, folder / "raise", **poisoned))
    return dict(weights=notes.weights, warnings=notes.warnings, error=stopped)


def other_number(folder: Path) -> dict:
    """A training that one process began."""
    cfg = config(folder, folder / "alone", by_epoch=False)
    cfg.resume = True
    runner, notes = train(cfg)
    return dict(iterations=len(notes.losses), iteration=runner.iter, warnings=notes.warnings)


def failures(folder: Path) -> dict:
    """The first process alone finds the work_dir taken, the checkpoint damaged, the disk full."""
    taken = _error(config(folder, folder / "taken"))
    cfg = config(folder, folder / f"seen_by_{get_rank()}")
    cfg.resume = True
    unlike = _error(cfg)
    save = visionpatch.engine.runner.atomic_save

    def full(*args: Any) -> None:
        raise SaveError("the disk is full")

    visionpatch.engine.runner.atomic_save = full
    disk = _error(config(folder, folder / "full"))
    visionpatch.engine.runner.atomic_save = save
    return dict(taken=taken, unlike=unlike, disk=disk)


def sync_bn(folder: Path) -> str:
    cfg = config(folder, folder / "sync_bn", **NOISY)
    cfg.sync_bn = "torch"
    return _error(cfg)


def own_step(folder: Path) -> dict:
    """A model that decides itself how it is trained, and the same again, resumed at its end."""
    cfg = config(folder, folder / "own_step", by_epoch=False, **{"model.type": "OwnStep"})
    runner, notes = train(cfg)
    cfg.resume = True
    resumed = train(cfg)[0].iter
    return dict(steps=runner.model.module.steps, weights=notes.weights[-1], resumed=resumed)


def _error(cfg: Any) -> str:
    try:
        train(cfg)
    except VisionpatchError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    found = {}
    for check in (
        losses,
        evaluation,
        episodes,
        validation,
        exactness,
        guard,
        other_number,
        failures,
        sync_bn,
        own_step,
    ):
        found[check.__name__] = check(folder)
        barrier()
    (folder / f"{get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_group()
