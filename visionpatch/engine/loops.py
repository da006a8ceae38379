"""Loops that go on where they were stopped, and stop when they are asked to."""

import bisect
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import EMAHook
from mmengine.runner import EpochBasedTrainLoop as BaseEpochLoop
from mmengine.runner import IterBasedTrainLoop as BaseIterLoop
from mmengine.runner import TestLoop as BaseTestLoop
from mmengine.runner import ValLoop as BaseValLoop
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch import Tensor

from visionpatch import random_state
from visionpatch.engine.loading import batches, build_loader, endless, is_infinite, set_epoch
from visionpatch.engine.processes import buffers_of_first
from visionpatch.engine.stopping import StopRequest
from visionpatch.errors import ConfigError
from visionpatch.registry import LOOPS


class ResumableLoop:
    """What both training loops share; see `EpochBasedTrainLoop` and `IterBasedTrainLoop`."""

    runner: Any
    val_interval: int
    val_begin: int
    stop_training: bool
    _epoch: int
    _iter: int
    _saved: dict[str, Any] | None = None  # the random state to put back
    _validate_first = False

    def restore(self, meta: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Go on from the position in `meta`, with the random state of this process in `state`."""
        self._epoch, self._iter = int(meta["epoch"]), int(meta["iter"])
        self._saved = state.get("random")
        self._validate_first = not meta.get("validated", True)
        for name, count in state.get("counts", {}).items():
            wrapper = self.runner.optim_wrapper
            (wrapper[name] if name else wrapper)._inner_count = count

    def _restore_random_state(self) -> None:
        if self._saved is not None:
            random_state.set_state(self._saved)
            self._saved = None

    def _step(self, batch_idx: int, data_batch: Any) -> None:
        """One iteration, with the hooks around it."""
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=batch_idx, data_batch=data_batch)
        outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        outputs = mean_over_processes(outputs)
        runner.call_hook("after_train_iter", batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1
        _stop_if_asked(runner)

    def _validate_if_due(self, position: int, last: int) -> None:
        due = position >= self.val_begin and (position % self.val_interval == 0 or position == last)
        if self.runner.val_loop is not None and due:
            self.runner.val_loop.run()

    def _set_interval(self, position: int) -> None:
        step = bisect.bisect(self.dynamic_milestones, position)  # type: ignore[attr-defined]
        self.val_interval = self.dynamic_intervals[step - 1]  # type: ignore[attr-defined]


@LOOPS.register_module()
class EpochBasedTrainLoop(ResumableLoop, BaseEpochLoop):
    """MMEngine's loop of this name, with its arguments; it resumes within an epoch, to the last bit."""

    def __init__(self, runner: Any, dataloader: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, _training_loader(runner, dataloader), *args, **kwargs)
        if not len(self.dataloader):
            raise ConfigError(
                f"train_dataloader: an epoch of {len(self.dataloader.dataset)} samples has no batch of "
                f"{self.dataloader.batch_size} with drop_last; lower batch_size"
            )
        if is_infinite(self.dataloader):
            raise ConfigError(
                "train_dataloader.sampler never ends, and so would the first epoch of EpochBasedTrainLoop; set "
                'sampler=dict(type="DefaultSampler", shuffle=True), or count iterations (IterBasedTrainLoop)'
            )

    def run(self) -> torch.nn.Module:
        """Train to the last epoch."""
        self.runner.call_hook("before_train")
        if self._validate_first and self._iter == self._epoch * len(self.dataloader):
            self._set_interval(self._epoch + 1)
            self._validate_if_due(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._set_interval(self._epoch + 1)
            self._validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Train one epoch, or the rest of it."""
        start = self._iter - self._epoch * len(self.dataloader)
        if not 0 <= start <= len(self.dataloader):  # another batch size than before
            start = 0
        if not start:
            self._restore_random_state()
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        set_epoch(self.dataloader, self._epoch)
        with closing(_request(self.runner).batches(batches(self.dataloader, start))) as stream:
            self._restore_random_state()
            for index, data_batch in enumerate(stream, start):
                self._step(index, data_batch)
        _stop_if_asked(self.runner)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


@LOOPS.register_module()
class IterBasedTrainLoop(ResumableLoop, BaseIterLoop):
    """MMEngine's loop of this name, with its arguments; it resumes by skipping indices, to the last bit."""

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        # not the parent's constructor: it would start to load the first batch at once
        BaseLoop.__init__(self, runner, _training_loader(runner, dataloader))
        self._max_iters, self._max_epochs = max_iters, 1
        self._epoch = self._iter = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, dynamic_intervals)
        runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, "metainfo", None)

    def run(self) -> torch.nn.Module:
        """Train to the last iteration."""
        self.runner.call_hook("before_train")
        if self._validate_first:
            self._set_interval(self._iter + 1)
            self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook("before_train_epoch")
        self._restore_random_state()
        with closing(_request(self.runner).batches(endless(self.dataloader, self._iter))) as stream:
            while self._iter < self._max_iters and not self.stop_training:
                self.runner.model.train()
                data_batch = next(stream, None)
                if data_batch is None:  # a signal came while it was waited for
                    _stop_if_asked(self.runner)
                self._step(self._iter, data_batch)
                self._set_interval(self._iter + 1)
                self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model


class StoppableLoop:
    """What validation and testing share: training's random state stays as it is, a signal ends the pass."""

    runner: Any
    dataloader: Any

    def run(self) -> dict:
        """The metrics of the whole dataset."""
        loader, self.dataloader = self.dataloader, _Watched(self.dataloader, self.runner)
        try:
            return super().run()  # type: ignore[misc]
        except _Stopped:
            for metric in self.evaluator.metrics:  # type: ignore[attr-defined]
                metric.results.clear()
            for hook in self.runner.hooks:
                if isinstance(hook, EMAHook):  # it swapped its weights in before the pass
                    hook._swap_ema_parameters()
            _stop_if_asked(self.runner)
            raise
        finally:
            self.dataloader = loader


@LOOPS.register_module()
class ValLoop(StoppableLoop, BaseValLoop):
    """MMEngine's loop of this name, which a signal ends before its metrics."""


@LOOPS.register_module()
class TestLoop(StoppableLoop, BaseTestLoop):
    """MMEngine's loop of this name, which a signal ends before its metrics."""


class _Stopped(Exception):  # noqa: N818
    """The pass was ended by a signal."""


class _Watched:
    """A loader whose pass ends early when the run is asked to stop."""

    def __init__(self, loader: Any, runner: Any) -> None:
        self.loader = loader
        self.model = runner.model
        self.request = _request(runner)

    def __iter__(self) -> Generator[Any, None, None]:
        stream = self.request.batches(batches(self.loader))
        with random_state.kept(), buffers_of_first(self.model), closing(stream):
            for batch in stream:
                yield batch
                if self.request.signal is not None:
                    break
        if self.request.agreed():
            raise _Stopped

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def mean_over_processes(outputs: Any) -> Any:
    """Log values (name -> scalar) averaged over the processes, so that the log is of the whole batch."""
    if get_world_size() == 1 or not isinstance(outputs, Mapping):
        return outputs
    scalars = {k: v for k, v in outputs.items() if isinstance(v, Tensor) and v.numel() == 1}
    if not scalars:
        return outputs
    values = torch.stack([v.detach().float().reshape(()) for v in scalars.values()])
    all_reduce(values, "mean")
    return {**outputs, **dict(zip(scalars, values))}


def _request(runner: Any) -> StopRequest:
    """The stop request of a runner; another library's runner never asks."""
    return getattr(runner, "stop_request", None) or StopRequest()


def _stop_if_asked(runner: Any) -> None:
    if hasattr(runner, "stop_if_asked"):
        runner.stop_if_asked()


def _training_loader(runner: Any, dataloader: Any) -> Any:
    diff = runner._randomness_cfg.get("diff_rank_seed", False)
    report = Path(runner.work_dir) / "bad_samples.jsonl"
    return build_loader(dataloader, runner.seed, diff, training=True, report=str(report))
