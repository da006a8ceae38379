"""What the guarantees of a training cost, against MMEngine's own Runner in the same run.

    python benchmarks/training.py                   # one thread; about two minutes
    python benchmarks/training.py --iterations 40

Prints three ratios, ours / MMEngine's, medians of alternating measurements:
iteration   a training iteration of a small CrossFormer on drawn pictures (losses, gradients and signals are watched)
save        a checkpoint on the disk: ours is flushed and renamed, MMEngine's is not
resume      from the start of `train` to the first batch at iteration 1,000, and the seconds ours needs at 10,000
"""

import argparse
import copy
import logging
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner as BaseRunner
from rich.console import Console
from rich.table import Table

from visionpatch.datasets.sample_set import make_sample_dataset
from visionpatch.engine import build_runner, load_config

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/crossformer/crossformer-micro_fpn_1xb16-600_sample-96x96.py"


class Clock(Hook):
    """The moment of the end of every iteration."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.moments: list[float] = []

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if not self.moments:
            self.moments.append(time.perf_counter())

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.moments.append(time.perf_counter())


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--iterations", type=int, default=20, help="of a measurement (default: 20)")
    p.add_argument("--rounds", type=int, default=5, help="measurements of each kind (default: 5)")
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    table = Table("what", "ours", "MMEngine", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        cfg = small_config(Path(folder))
        for name, measure in (("iteration", iteration_time), ("save", save_time), ("resume at 1,000", resume_time)):
            ours, theirs = paired(lambda kind, m=measure: m(cfg, kind, args.iterations), args.rounds)
            table.add_row(name, f"{1000 * ours:.1f} ms", f"{1000 * theirs:.1f} ms", f"{ours / theirs:.2f}")
        far = statistics.median(resume_time(cfg, "ours", args.iterations, 10_000) for _ in range(args.rounds))
        table.add_row("resume at 10,000", f"{far:.2f} s", "", "")
    Console().print(table)


def paired(measure: Callable[[str], float], rounds: int) -> tuple[float, float]:
    """Medians of both, measured in turn after one round that does not count."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(rounds + 1):
        for kind, found in times.items():
            seconds = measure(kind)
            if number:
                found.append(seconds)
    return statistics.median(times["ours"]), statistics.median(times["theirs"])


def small_config(folder: Path) -> Config:
    data = make_sample_dataset(folder / "data", train=64, val=4, size=64)
    options = {f"{name}_dataloader.dataset.data_root": str(data) for name in ("train", "val")}
    cfg = load_config(CONFIG, {**options, "train_dataloader.batch_size": 4, "log_level": "ERROR"}, str(folder / "work"))
    cfg.default_hooks.checkpoint.interval = 10**9
    cfg.default_hooks.checkpoint.save_last = False
    cfg.default_hooks.checkpoint.save_best = None
    cfg.train_cfg.val_interval = 10**9
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg.pop(key)
    return cfg


def runner_of(cfg: Config, kind: str, iterations: int, resume: bool = False) -> BaseRunner:
    cfg = copy.deepcopy(cfg)
    cfg.train_cfg.max_iters, cfg.resume, cfg.experiment_name = iterations, resume, uuid.uuid4().hex
    if kind == "ours":
        return build_runner(cfg)
    cfg.default_hooks.checkpoint.type = "mmengine.CheckpointHook"
    cfg.train_dataloader.sampler.type = "mmengine.InfiniteSampler"
    cfg.train_cfg.pop("by_epoch", None)
    cfg.train_cfg.type = "mmengine.IterBasedTrainLoop"
    return RUNNERS.get("mmengine.Runner").from_cfg(cfg)


def iteration_time(cfg: Config, kind: str, iterations: int) -> float:
    clock, runner = Clock(), runner_of(cfg, kind, iterations)
    runner.register_hook(clock)
    runner.train()
    return statistics.median(b - a for a, b in zip(clock.moments[1:], clock.moments[2:]))


def save_time(cfg: Config, kind: str, iterations: int) -> float:
    runner = runner_of(cfg, kind, 2)
    runner.train()
    start = time.perf_counter()
    runner.save_checkpoint(cfg.work_dir, "saved.pth", by_epoch=False)
    return time.perf_counter() - start


def resume_time(cfg: Config, kind: str, iterations: int, position: int = 1000) -> float:
    """Seconds from the start of `train` to the first batch, of a run that resumes at `position`."""
    cfg = copy.deepcopy(cfg)
    first = runner_of(cfg, "ours", 1)
    first.train()
    first.train_loop._iter = position
    cfg.load_from = f"{cfg.work_dir}/position.pth"
    first.save_checkpoint(cfg.work_dir, "position.pth", meta=dict(iter=position), by_epoch=False)
    clock, runner = Clock(), runner_of(cfg, kind, position + 1, resume=True)
    runner.register_hook(clock)
    start = time.perf_counter()
    runner.train()
    return clock.moments[0] - start


if __name__ == "__main__":
    main()
