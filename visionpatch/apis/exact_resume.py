"""Whether a training that was broken off and resumed equals the uninterrupted one, bit by bit."""

import copy
import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import Tensor

from visionpatch.engine import build_runner
from visionpatch.engine.checkpoint import load_checkpoint_file
from visionpatch.engine.loading import build_loader
from visionpatch.engine.resuming import POINTER
from visionpatch.errors import ConfigError

# what tells of the moment and the place, not of the training
CLOCK = ("time", "data_time", "memory", "iter_time")
PLACE = ("cfg", "config_sha256", "experiment_name", "command", "last_ckpt", "best_ckpt", "work_dir")


class BrokenOff(Exception):  # noqa: N818
    """Stands for a crash: nothing after it is written."""


class BreakOff(Hook):
    """Ends a training abruptly after an iteration, when everything else of the iteration has been done."""

    priority = "LOWEST"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == self.iteration:
            raise BrokenOff


def differences(
    cfg: Config, folder: str | Path, iterations: int, breaks: Sequence[int], interval: int = 1
) -> list[str]:
    """Train twice, once as a whole and once broken off after each iteration of `breaks` and resumed.

    Args:
        cfg: of the training; it is shortened, logs every iteration and validates at the first break.
        folder: for the two work_dirs, ``whole`` and ``resumed``.
        iterations: the length of both trainings; of an epoch-based one rounded up to whole epochs.
        breaks: iterations after which the second training crashes, ascending.
        interval: checkpoints are saved every so many iterations, and at the end.

    Returns:
        what differs in the last checkpoints (weights, averaged weights, optimisers, schedulers, scaler, message hub,
        random states) and in the logged losses; empty when the two are equal to the last bit.
    """
    if not breaks or sorted(set(breaks)) != list(breaks) or not interval <= breaks[0] <= breaks[-1] < iterations:
        raise ConfigError(
            f"a training of {iterations} iterations, saved every {interval}, cannot be broken off after {breaks}"
        )
    whole, resumed = Path(folder) / "whole", Path(folder) / "resumed"
    cfg = _shortened(cfg, iterations, breaks[0], interval)
    build_runner(_placed(cfg, whole)).train()
    for number, stop in enumerate([*breaks, None]):
        part = _placed(cfg, resumed)
        part.resume, part.load_from = number > 0, None if number else part.get("load_from")
        runner = build_runner(part)
        if stop is not None:
            runner.register_hook(BreakOff(stop))
        try:
            runner.train()
        except BrokenOff:
            continue
    found = [f"checkpoint: {line}" for line in compare(last_checkpoint(whole), last_checkpoint(resumed))]
    return found + [f"log: {line}" for line in compare(logged(whole), logged(resumed))]


def compare(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Dotted paths at which two nests of plain data differ, the clock and the place aside; NaN equals NaN."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted(set(a) | set(b), key=str):
            if str(key).split("/")[-1] in CLOCK + PLACE:
                continue
            here = f"{path}.{key}".lstrip(".")
            if key in a and key in b:
                yield from compare(a[key], b[key], here)
            else:
                yield f"{here} is missing in one"
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b)):
            yield from compare(x, y, f"{path}.{index}")
    elif isinstance(a, Tensor) and isinstance(b, Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and a.cpu().numpy().tobytes() == b.cpu().numpy().tobytes()
        if not same:
            yield f"{path}: {_distance(a, b)}"
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        yield from compare(torch.from_numpy(a), torch.from_numpy(b), path)
    elif a != b and not (a != a and b != b):
        yield f"{path}: {a!r} and {b!r}"


def last_checkpoint(work_dir: Path) -> dict:
    """The last checkpoint of a run, without what tells of when it was saved."""
    checkpoint = load_checkpoint_file((work_dir / POINTER).read_text())
    return {key: value for key, value in checkpoint.items() if key != "meta"} | dict(
        position={key: checkpoint["meta"][key] for key in ("epoch", "iter", "seed")}
    )


def logged(work_dir: Path) -> dict[str, dict]:
    """Step -> what was logged there, of all the runs in a work_dir; of a repeated step the last."""
    steps: dict[str, dict] = {}
    for file in sorted(work_dir.glob("*/vis_data/scalars.json"), key=lambda f: f.stat().st_mtime_ns):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            kind = "train" if "loss" in record else "val"
            steps[f"{kind} {record['step']}"] = record
    return steps


def _shortened(cfg: Config, iterations: int, val_interval: int, interval: int) -> Config:
    cfg = copy.deepcopy(cfg)
    loop = cfg.train_cfg
    if loop.get("by_epoch", "Epoch" in str(loop.get("type", ""))):
        length = len(build_loader(cfg.train_dataloader, seed=0, diff_rank_seed=False, training=True))
        loop.max_epochs = math.ceil(iterations / length)
    else:
        loop.max_iters, loop.val_interval = iterations, val_interval
    hooks = cfg.setdefault("default_hooks", {})
    saving = dict(type="CheckpointHook", by_epoch=False, interval=interval, save_last=True)
    hooks.checkpoint = dict(hooks.get("checkpoint") or {}) | saving
    hooks.logger = dict(type="LoggerHook", interval=1)
    return cfg


def _placed(cfg: Config, work_dir: Path) -> Config:
    """The config for a run in `work_dir`; two runs of one name and second would share their logs."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir, cfg.experiment_name = str(work_dir), uuid.uuid4().hex
    return cfg


def _distance(a: Tensor, b: Tensor) -> str:
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{tuple(a.shape)} {a.dtype} and {tuple(b.shape)} {b.dtype}"
    return f"largest difference {(a.double() - b.double()).abs().max().item():.3g}"
