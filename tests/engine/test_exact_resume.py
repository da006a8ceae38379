"""A resumed training equals the uninterrupted one to the last bit, whatever is random in it."""

import random
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.utils.data import Dataset

from engine.tiny import write_config
from visionpatch import random_state
from visionpatch.apis.exact_resume import compare, differences, logged
from visionpatch.engine import build_runner, load_config
from visionpatch.engine.checkpoint import load_checkpoint_file
from visionpatch.engine.loading import batches, build_loader, endless
from visionpatch.errors import ConfigError
from visionpatch.registry import DATA_SAMPLERS, DATASETS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

EMA = dict(type="EMAHook", momentum=0.1)
ITERATIONS = {"train_cfg": dict(by_epoch=False, max_iters=7, val_interval=3, _delete_=True)}


@DATASETS.register_module()
class NoisyDataset(Dataset):
    """As another library would write it: plain indices, and noise from all three global generators."""

    metainfo = dict(classes=("sky", "tree", "road"))

    def __init__(self, length: int = 7) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        noise = random.random() + np.random.rand() + torch.rand(3, 4, 4)
        return dict(inputs=index + noise, data_samples=torch.tensor(index % 3))


@MODELS.register_module()
class DropoutModel(BaseModel):
    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor") -> Any:
        logits = self.head(self.features(torch.stack(list(inputs))).mean((2, 3)))
        if mode == "predict":
            return []
        return {"loss": nn.functional.cross_entropy(logits + 0.1 * torch.randn(3), torch.stack(list(data_samples)))}


@MODELS.register_module()
class TwoOptimisers(DropoutModel):
    """A generator's and a critic's step from one batch, the first of which leaves gradients in the other's part."""

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        losses, _ = self.parse_losses(self(**data, mode="loss"))
        optim_wrapper["features"].update_params(losses)
        second, log = self.parse_losses({"loss_head": self(**data, mode="loss")["loss"]})
        optim_wrapper["head"].update_params(second)
        return log


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PartConstructor:
    """One optimiser for each named part of the model."""

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.parts = dict(optim_wrapper_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        built = {}
        for name, part in self.parts.items():
            parameters = dict(params=getattr(model, name).parameters())
            built[name] = OptimWrapper(OPTIMIZERS.build(dict(part), default_args=parameters))
        return OptimWrapperDict(**built)


@DATA_SAMPLERS.register_module()
class ForeignSampler(torch.utils.data.Sampler):
    """As another library would write it: an epoch of plain indices, drawn with replacement."""

    def __init__(self, dataset: Any, seed: int, shuffle: bool = True) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, 0

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(torch.randint(len(self.dataset), (len(self),), generator=generator).tolist())

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


@OPTIM_WRAPPERS.register_module()
class ScaledOptimWrapper(OptimWrapper):
    """What float16 training does on a GPU: a scaler whose first scales are far too large."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        self.scaler.scale(64 * loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict:
        return {**super().state_dict(), "loss_scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        self.scaler.load_state_dict(state_dict.pop("loss_scaler"))
        super().load_state_dict(state_dict)


DATA_SAMPLERS.register_module(name="PairSampler", module=torch.utils.data.BatchSampler)


def config(folder: Path, workers: int = 0, persistent: bool = False, **options: Any) -> Config:
    cfg = load_config(write_config(folder))
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg.pop(key)
    cfg.default_hooks.checkpoint.pop("save_best")
    loader = dict(dataset=dict(type="NoisyDataset"), num_workers=workers, persistent_workers=persistent)
    cfg.merge_from_dict(
        {"train_dataloader": loader, "model": dict(type="DropoutModel", _delete_=True)} | deepcopy(options)
    )
    cfg.log_level = "ERROR"
    return cfg


@pytest.mark.parametrize("by_epoch", [True, False], ids=["epochs", "iterations"])
@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_random_everything(tmp_path: Path, by_epoch: bool, workers: int, persistent: bool) -> None:
    """Shuffling, augmentation, dropout, averaged weights, warm-up: broken off within and between epochs."""
    options = {"custom_hooks": [EMA]} | ({} if by_epoch else ITERATIONS)
    cfg = config(tmp_path, workers, persistent, **options)
    assert differences(cfg, tmp_path, iterations=8, breaks=[3, 4]) == []


@pytest.mark.parametrize(("interval", "breaks"), [(1, [1, 2, 5, 6]), (2, [3, 5]), (3, [4])])
def test_broken_off_anywhere(tmp_path: Path, interval: int, breaks: list[int]) -> None:
    cfg = config(tmp_path, **ITERATIONS)
    assert differences(cfg, tmp_path, 7, breaks, interval) == []
    epochs = config(tmp_path)
    assert differences(epochs, tmp_path / "epochs", 7, breaks, interval) == []


def test_without_workers_equals_with(tmp_path: Path) -> None:
    """The same numbers whoever reads; compared by the logged losses of whole runs."""
    logs = []
    for workers in (0, 2):
        differences(config(tmp_path, workers), tmp_path / str(workers), 4, [2])
        logs.append(logged(tmp_path / str(workers) / "whole"))
    assert list(compare(*logs)) == [] and len(logs[0]) == 4


@pytest.mark.parametrize(
    ("by_epoch", "sampler"),
    [
        *((by_epoch, name) for by_epoch in (True, False) for name in ("ForeignSampler", "mmengine.DefaultSampler")),
        (False, "mmengine.InfiniteSampler"),  # has no epochs
    ],
)
def test_parts_of_other_libraries(tmp_path: Path, by_epoch: bool, sampler: str) -> None:
    """Samplers that know nothing of resuming, within an epoch and at its end."""
    options = {"train_dataloader.sampler.type": sampler} | ({} if by_epoch else ITERATIONS)
    assert differences(config(tmp_path, **options), tmp_path, 8, [2, 4, 5]) == []


def test_a_batch_sampler_of_another_library(tmp_path: Path) -> None:
    """Its batches of two are skipped whole."""
    cfg = config(tmp_path, **ITERATIONS, **{"train_dataloader.sampler.type": "ForeignSampler"})
    cfg.train_dataloader.batch_sampler = dict(type="PairSampler", drop_last=False)
    assert differences(cfg, tmp_path, 7, [2, 5]) == []


def test_no_draw_repeats_its_random_numbers() -> None:
    """An index that a sampler yields again, in the same epoch or in another, comes with other noise."""
    cfg = dict(batch_size=2, dataset=dict(type="NoisyDataset"), sampler=dict(type="ForeignSampler"))
    loader = build_loader(cfg, seed=3, diff_rank_seed=False, training=True)
    noise = [float((x - x.floor()).sum()) for batch in islice(endless(loader), 40) for x in batch["inputs"]]
    assert len(noise) == 70 and len(set(noise)) == len(noise)
    evaluated = build_loader(cfg, seed=3, diff_rank_seed=False, training=False)
    first, second = ([x for batch in batches(evaluated) for x in batch["inputs"]] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_gradients_in_accumulation(tmp_path: Path) -> None:
    cfg = config(tmp_path, **ITERATIONS, **{"optim_wrapper.accumulative_counts": 3})
    assert differences(cfg, tmp_path, 7, [1, 2, 4]) == []


def test_two_optimisers(tmp_path: Path) -> None:
    cfg = config(tmp_path, **ITERATIONS, **{"model.type": "TwoOptimisers"})
    cfg.optim_wrapper = dict(
        constructor="PartConstructor", features=dict(type="AdamW", lr=1e-2), head=dict(type="SGD", lr=1e-2)
    )
    cfg.param_scheduler = dict(
        features=[dict(type="LinearLR", start_factor=0.5, begin=0, end=3, by_epoch=False)],
        head=[dict(type="PolyLR", begin=0, end=7, by_epoch=False)],
    )
    assert differences(cfg, tmp_path, 7, [2, 5]) == []


def test_mixed_precision(tmp_path: Path) -> None:
    cfg = config(tmp_path, **ITERATIONS, **{"optim_wrapper.type": "AmpOptimWrapper"})
    assert differences(cfg, tmp_path, 5, [2]) == []


def test_scaler(tmp_path: Path) -> None:
    """A gradient scaler in the midst of lowering its scale; its overflows are no concern of the check of gradients."""
    cfg = config(tmp_path, **ITERATIONS)
    cfg.optim_wrapper.type = "ScaledOptimWrapper"
    assert differences(cfg, tmp_path, 7, [2, 4]) == []
    scales = [load_checkpoint_file(tmp_path / f"whole/iter_{i}.pth")["optimizer"]["loss_scaler"] for i in (1, 7)]
    assert scales[0]["scale"] == 2.0**126 and scales[1]["scale"] < 2.0**123  # it was lowered, so steps overflowed


def test_the_comparison_sees_what_differs() -> None:
    a = {"w": torch.zeros(2), "n": [1, float("nan")], "train/time": 1.0, "x": 1}
    assert list(compare(a, {**a, "train/time": 2.0})) == []
    assert list(compare(a, {**a, "w": torch.tensor([0.0, -0.0])})) == ["w: largest difference 0"]
    assert list(compare(a, {**a, "n": [2, float("nan")]})) == ["n.0: 1 and 2"]
    assert list(compare(a, {k: v for k, v in a.items() if k != "x"})) == ["x is missing in one"]


def test_a_difference_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the saved random state dropout draws other numbers: the proof can fail."""
    monkeypatch.setattr(random_state, "set_state", lambda state: None)
    found = differences(config(tmp_path, **ITERATIONS), tmp_path, 4, [2])
    assert any(line.startswith("checkpoint: state_dict.head.weight") for line in found)
    assert any(line.startswith("log: train 3.loss") for line in found)
    with pytest.raises(ConfigError, match="of 4 iterations, saved every 2, cannot be broken off after .1."):
        differences(config(tmp_path), tmp_path, 4, [1], interval=2)


@pytest.mark.parametrize("sampler", ["TrainSampler", "ForeignSampler"])
def test_far_positions_are_reached_without_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    """At iteration 10,000 two iterations read four samples, none of those that were trained on before."""
    cfg = config(tmp_path, **ITERATIONS, **{"train_dataloader.sampler.type": sampler})
    cfg.work_dir, cfg.train_cfg.max_iters, cfg.train_cfg.val_interval = str(tmp_path / "work"), 1, 10**6
    cfg.default_hooks.checkpoint.by_epoch = False
    build_runner(cfg).train()
    checkpoint = load_checkpoint_file(tmp_path / "work/iter_1.pth")
    checkpoint["meta"]["iter"] = 10_000
    torch.save(checkpoint, tmp_path / "work/iter_1.pth")
    read: list[int] = []
    original = NoisyDataset.__getitem__
    monkeypatch.setattr(NoisyDataset, "__getitem__", lambda self, index: read.append(index) or original(self, index))
    cfg.train_cfg.max_iters, cfg.resume, cfg.experiment_name = 10_002, True, "far"
    assert build_runner(cfg).train() is not None
    assert len(read) == 4
