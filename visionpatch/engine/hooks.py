"""What is checked around a run: the data fit the model, the loss stays finite, checkpoints hold plain data."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from visionpatch.engine.checkpoint import from_plain, to_plain
from visionpatch.errors import ConfigError, DataError, VisionpatchError
from visionpatch.registry import HOOKS


class NonFiniteLossError(VisionpatchError, ArithmeticError):
    """The loss became NaN or infinite; the message names the iteration, the terms and the samples."""


@HOOKS.register_module()
class CheckHook(Hook):
    """Stops a run that cannot end well.

    Before training, validation and testing: every dataset holds samples and its classes are as many as the model's.
    After each training iteration: every loss term is finite.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        self._check(runner, "train")
        if isinstance(runner._val_loop, BaseLoop):
            self._check(runner, "val")

    def before_val(self, runner: Runner) -> None:
        self._check(runner, "val")

    def before_test(self, runner: Runner) -> None:
        self._check(runner, "test")

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        check_losses(outputs, runner.iter + 1, data_batch)

    def _check(self, runner: Runner, mode: str) -> None:
        dataset = getattr(runner, f"{mode}_dataloader").dataset
        check_dataset(dataset, f"{mode}_dataloader.dataset")
        check_classes(runner.model, dataset, runner.cfg, f"{mode}_dataloader.dataset")


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Writes the log history of a checkpoint as tensors, and reads it back, so that no class is needed to load it."""

    priority = "LOWEST"

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        to_plain(checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        from_plain(checkpoint)


def check_dataset(dataset: Any, path: str) -> None:
    """Raise `DataError` for a dataset without samples; `path` is its place in the config."""
    if len(dataset) == 0:
        raise DataError(f"{path}: {type(dataset).__name__} holds no sample; check its data_root, split and file names")


def check_classes(model: nn.Module, dataset: Any, cfg: Mapping[str, Any], path: str) -> None:
    """Raise `ConfigError` when the model's ``num_classes`` differs from the number of the dataset's classes.

    A model without ``num_classes`` or a dataset without ``classes`` in its ``metainfo`` passes.
    """
    given = getattr(getattr(model, "module", model), "num_classes", None)
    classes = (getattr(dataset, "metainfo", None) or {}).get("classes")
    if given is None or not classes or given == len(classes):
        return
    where = next(_paths_of("num_classes", cfg.get("model", {}), "model"), "model.num_classes")
    source = f"{getattr(cfg, 'filename', None)}: " if getattr(cfg, "filename", None) else ""
    raise ConfigError(
        f"{source}{where} = {given}, but {path} ({type(dataset).__name__}) has {len(classes)} classes; "
        f"set {where} = {len(classes)}"
    )


def check_losses(outputs: Any, iteration: int, data_batch: Any) -> None:
    """Raise `NonFiniteLossError` when a value of `outputs` (name -> scalar) is NaN or infinite."""
    terms = {
        name: float(value.detach() if isinstance(value, torch.Tensor) else value)
        for name, value in (outputs or {}).items()
        if isinstance(value, float) or isinstance(value, torch.Tensor) and value.numel() == 1
    }
    bad = {name: value for name, value in terms.items() if not math.isfinite(value)}
    if bad:
        shown = ", ".join(f"{name} = {value}" for name, value in terms.items())
        raise NonFiniteLossError(
            f"iteration {iteration}: {', '.join(bad)} is not finite ({shown}); "
            f"samples: {', '.join(_files(data_batch))}; lower the learning rate, "
            "clip gradients (optim_wrapper.clip_grad) or check these samples"
        )


def _files(data_batch: Any) -> list[str]:
    samples = data_batch.get("data_samples", []) if isinstance(data_batch, Mapping) else []
    named = [str(sample.get("img_path", sample.get("img_id", "?"))) for sample in samples if hasattr(sample, "get")]
    return named or ["unknown"]


def _paths_of(key: str, value: Any, path: str) -> Iterator[str]:
    """Dotted paths of every `key` below `value`, the shallowest of a branch first."""
    if isinstance(value, Mapping):
        if key in value:
            yield f"{path}.{key}"
        for name, child in value.items():
            yield from _paths_of(key, child, f"{path}.{name}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, child in enumerate(value):
            yield from _paths_of(key, child, f"{path}.{index}")
