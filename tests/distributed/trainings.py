"""Small trainings and evaluations that one process and two can run alike, and what is looked at in them."""

import copy
import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from engine.tiny import TinyBackbone, TinyDataset, TinySegmentor, write_config
from mmengine.config import Config
from mmengine.dist import get_dist_info
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from torch import Tensor, nn

from visionpatch.engine import build_runner, load_config
from visionpatch.engine.predictions import SavePredictionsHook, read_predictions
from visionpatch.evaluation import FewShotMetric
from visionpatch.registry import DATASETS, HOOKS, METRICS, MODELS

ITERATIONS = 6


@MODELS.register_module()
class NormBackbone(TinyBackbone):
    """Running statistics, which each process has of its own, and dropout."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(width)
        self.norm, self.dropout = nn.BatchNorm2d(width), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.dropout(self.norm(self.conv(x)).relu()),)


@MODELS.register_module()
class SegmentorAndClassifier(TinySegmentor):
    """Predicts the classes of pixels and, by their mean scores, of pictures."""

    def forward(self, inputs: list[Tensor], data_samples: Any = None, mode: str = "tensor") -> Any:
        found = super().forward(inputs, data_samples, mode)
        if mode == "predict":
            for sample, score in zip(data_samples, super().forward(inputs).mean((2, 3)).softmax(1)):
                sample.pred_score, sample.pred_label = score, score.argmax(0, keepdim=True)
        return found


@MODELS.register_module()
class OwnStep(TinySegmentor):
    """Decides by itself how it is trained, as a model with two optimisers does."""

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        self.steps = getattr(self, "steps", 0) + 1
        return super().train_step(data, optim_wrapper)


@DATASETS.register_module()
class LabelledDataset(TinyDataset):
    def __getitem__(self, index: int) -> dict:
        item = super().__getitem__(index)
        item["data_samples"].gt_label = torch.tensor([index % 3])
        return item


@METRICS.register_module()
class Seen(BaseMetric):
    """Which samples were evaluated, in order, as one text."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.extend(str(sample["img_path"]) for sample in data_samples)

    def compute_metrics(self, results: list) -> dict:
        return {"seen": " ".join(results)}


@METRICS.register_module()
class Confidence(BaseMetric):
    """The mean of the highest scores, which any change of the model changes."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.extend(sample["pred_score"].max().item() for sample in data_samples)

    def compute_metrics(self, results: list) -> dict:
        return {"confidence": sum(results) / len(results)}


@HOOKS.register_module()
class StopOne(Hook):
    """SIGTERM for the second process alone, after the third iteration has begun."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.rank == 1 and runner.iter == 2:
            os.kill(os.getpid(), signal.SIGTERM)


class Notes(Hook):
    """The loss and a copy of the weights of every iteration; the warnings."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.weights: list[list[float]] = []
        self.warnings: list[str] = []

    def before_run(self, runner: Any) -> None:
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.warnings.append(record.getMessage())  # type: ignore[method-assign]
        runner.logger.addHandler(handler)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.losses.append(outputs["loss"].item())
        self.weights.append(torch.cat([p.detach().flatten() for p in runner.model.parameters()]).tolist())


def write(folder: Path) -> None:
    """The config that all processes read."""
    write_config(folder, ("max_epochs=2", "max_epochs=3"), ("save_best='acc'", "by_epoch=False"))


def config(folder: Path, work_dir: Path, **options: Any) -> Config:
    """That config, changed; with ``by_epoch=False`` a training of `ITERATIONS` iterations."""
    if options.pop("by_epoch", True):
        options["train_cfg.max_epochs"] = 3
    else:
        options["train_cfg"] = dict(by_epoch=False, max_iters=ITERATIONS, val_interval=3, _delete_=True)
    cfg = load_config(folder / "tiny.py", copy.deepcopy(options), work_dir=str(work_dir))
    cfg.log_level, cfg.experiment_name = "ERROR", uuid.uuid4().hex
    cfg.launcher = "pytorch" if "RANK" in os.environ else "none"
    return cfg


def train(cfg: Config) -> tuple[Any, Notes]:
    """A training, and the notes taken; the runner of it too."""
    runner, notes = build_runner(cfg), Notes()
    runner.register_hook(notes)
    runner.train()
    return runner, notes


def curve(folder: Path, work_dir: Path, processes: int, by_epoch: bool) -> dict:
    """The losses and the last weights of a training whose batches hold 4 samples, however many processes share them.

    Three epochs of 8 samples, or 6 iterations over 7 samples, whose batches cross the ends of epochs.
    """
    options = {"train_dataloader.batch_size": 4 // processes, "train_dataloader.dataset.length": 8 if by_epoch else 7}
    options |= {} if by_epoch else {"train_dataloader.sampler.type": "InfiniteSampler"}
    notes = train(config(folder, work_dir, by_epoch=by_epoch, **options))[1]
    return dict(losses=notes.losses, weights=notes.weights[-1])


def evaluate(folder: Path, work_dir: Path, checkpoint: Path, length: int, batch_size: int) -> dict:
    """The metrics of a checkpoint and the predictions written, on `length` samples."""
    loader = dict(batch_size=batch_size, dataset=dict(type="LabelledDataset", length=length))
    single = dict(type="SingleLabelMetric", items=["f1-score", "mcc"])
    metrics = [dict(type="IoUMetric"), dict(type="Accuracy", topk=(1, 2)), single, dict(type="Seen")]
    cfg = config(folder, work_dir, test_dataloader=loader, **{"model.type": "SegmentorAndClassifier"})
    cfg.test_evaluator, cfg.load_from = metrics, str(checkpoint)
    runner, out = build_runner(cfg), work_dir / "predictions.npz"
    runner.register_hook(SavePredictionsHook(out))
    metrics = runner.test()
    if runner.rank:
        return dict(metrics=metrics)
    found = [[r["img_path"], r["sem_seg"].tolist(), r["score"].tolist()] for r in read_predictions(out)]
    return dict(metrics=metrics, predictions=found)


@contextmanager
def files_written(folder: Path) -> Iterator[list[str]]:
    """Names of the files in `folder` that this process opens to write within the context."""
    names: list[str] = []
    active = True

    def hear(event: str, arguments: tuple) -> None:
        if active and event == "open" and isinstance(arguments[0], str | os.PathLike) and arguments[2] & os.O_ACCMODE:
            path = Path(arguments[0]).resolve()
            if folder.resolve() in path.parents:
                names.append(path.name)

    sys.addaudithook(hear)
    yield names
    active = False


def few_shot(number: int) -> dict[str, float]:
    """The few-shot metric of `number` made-up episodes in two runs, dealt to the processes as a sampler deals them."""
    metric = FewShotMetric(classwise=True)
    metric.dataset_meta = dict(classes=("background", "ant", "bee"), novel_ids=(1, 2))
    rank, world = get_dist_info()
    for index in range(rank, number + -number % world, world):
        index %= number
        maps = torch.randint(0, 2, (2, 1, 8, 9), generator=torch.Generator().manual_seed(index))
        sample = dict(pred_sem_seg=dict(data=maps[0]), gt_sem_seg=dict(data=maps[1]))
        metric.process({}, [sample | dict(class_id=1 + index % 2, run=index // 4)])
    return metric.evaluate(number)
