"""What is checked around a run: the data fit the model, the metrics and each other, and the loss stays finite."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from visionpatch.engine.config_files import Origin
from visionpatch.engine.guard import FiniteGuard
from visionpatch.engine.loading import unwrapped
from visionpatch.errors import ConfigError, DataError
from visionpatch.registry import HOOKS


@HOOKS.register_module()
class CheckHook(Hook):
    """Stops a run that cannot end well.

    Before training, validation and testing: every dataset holds samples, its classes are as many as the model's, and
    the metrics find what they compare with. Before each step of an optimiser: losses and gradients are finite.

    Args:
        non_finite: ``"raise"``, or ``"skip(n)"``, which leaves out up to n steps in a row; see `FiniteGuard`.
    """

    priority = "VERY_HIGH"

    def __init__(self, non_finite: str = "raise") -> None:
        self.guard = FiniteGuard(non_finite)
        self._checked: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        self._check(runner, "train")
        if isinstance(runner._val_loop, BaseLoop):
            self._check(runner, "val")
            train, val = (unwrapped(getattr(runner, f"{mode}_dataloader").dataset) for mode in ("train", "val"))
            check_same_classes(train, val, "val_dataloader.dataset")
        self.guard.attach(runner)

    def before_val(self, runner: Runner) -> None:
        self._check(runner, "val")

    def before_test(self, runner: Runner) -> None:
        self._check(runner, "test")

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.guard.before_iteration(data_batch)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.guard.after_iteration(outputs)

    def after_train(self, runner: Runner) -> None:
        self.guard.detach()
        report = getattr(runner.train_dataloader.dataset, "report", None)
        if report and report.is_file():
            count = len(report.read_text(encoding="utf-8").splitlines())
            runner.logger.warning(f"{count} samples could not be read and were replaced by others; see {report}")

    def _check(self, runner: Runner, mode: str) -> None:
        """Look at a dataset once: not before each of many validations."""
        if mode in self._checked:
            return
        self._checked.add(mode)
        dataset = unwrapped(getattr(runner, f"{mode}_dataloader").dataset)
        check_dataset(dataset, f"{mode}_dataloader.dataset")
        check_classes(runner.model, dataset, runner.cfg, f"{mode}_dataloader.dataset")
        if mode != "train":
            check_truth(dataset, getattr(runner, f"{mode}_loop").evaluator.metrics, f"{mode}_dataloader.dataset")


def check_dataset(dataset: Any, path: str) -> None:
    """Raise `DataError` for a dataset without samples; `path` is its place in the config."""
    if len(dataset) == 0:
        raise DataError(f"{path}: {type(dataset).__name__} holds no sample; check its data_root, split and file names")


def check_truth(dataset: Any, metrics: Iterable[Any], path: str) -> None:
    """Let each metric with a ``check_sample`` look at the first sample: `DataError` where no truth is there."""
    checks = [metric.check_sample for metric in metrics if hasattr(metric, "check_sample")]
    if checks and dataset is not None:
        sample = dataset[0]["data_samples"]
        for check in checks:
            try:
                check(sample)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error


def check_classes(model: nn.Module, dataset: Any, cfg: Any, path: str) -> None:
    """Raise `ConfigError` when the model's ``num_classes`` differs from the number of the dataset's classes.

    A model without ``num_classes`` or a dataset without ``classes`` in its ``metainfo`` passes.
    """
    given = getattr(getattr(model, "module", model), "num_classes", None)
    classes = (getattr(dataset, "metainfo", None) or {}).get("classes")
    if given is None or not classes or given == len(classes):
        return
    where = next(_paths_of("num_classes", cfg.get("model", {}), "model"), "model.num_classes")
    other = "" if path.startswith("train") else ", or the data set's metainfo=dict(classes=...) to those of training"
    source = f"{Origin(cfg.filename)(where)}: " if getattr(cfg, "filename", None) else ""
    raise ConfigError(
        f"{source}{where} = {given}, but {path} ({type(dataset).__name__}) has {len(classes)} classes; "
        f"set {where} = {len(classes)}{other}"
    )


def check_same_classes(train: Any, other: Any, path: str) -> None:
    """Raise `DataError` when as many classes have other names, or another order, than in training."""
    names = [(getattr(dataset, "metainfo", None) or {}).get("classes") or () for dataset in (train, other)]
    if len(names[0]) != len(names[1]):
        return
    for index, (trained, evaluated) in enumerate(zip(*names)):
        if trained != evaluated:
            raise DataError(
                f'{path}: class {index} is "{evaluated}", and "{trained}" in train_dataloader.dataset; is a folder or '
                "name misspelt? metainfo=dict(classes=...) of both data sets sets the names and their order"
            )


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
