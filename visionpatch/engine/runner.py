"""MMEngine's Runner with what it lacks: CPU processes, safe and loud weight loading, checks, a quiet log."""

import logging
import os
import re
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner as BaseRunner
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.checkpoint import weights_to_cpu
from torch.utils.data import DataLoader

from visionpatch.engine.atomic import atomic_save
from visionpatch.engine.checkpoint import (
    LoadReport,
    fetch_checkpoint,
    from_plain,
    load_state,
    state_dict_of,
    to_plain,
)
from visionpatch.engine.checkpoint_hook import CheckpointHook
from visionpatch.engine.hooks import CheckHook
from visionpatch.engine.loading import build_loader, close, raise_worker_error
from visionpatch.engine.processes import together
from visionpatch.engine.resuming import (
    bare,
    check_resumable,
    find_resumable,
    load_training,
    meta_of,
    states_of_ranks,
    states_of_schedulers,
)
from visionpatch.engine.stopping import StopRequest
from visionpatch.engine.work_dir import check_writable, training_in
from visionpatch.errors import ConfigError, TrainingStopped, VisionpatchError, WeightsError
from visionpatch.registry import RUNNERS

NOISE = "|".join(  # lines that tell the user nothing
    [
        '"FileClient" will be',
        '"HardDiskBackend" is',
        "Distributed training is not used, all SyncBatchNorm",
        "Hooks will be executed",
        "The prefix is not set in metric class",
        "`save_param_scheduler` is True but",
        "paramwise_options --",
        r"\S+ is skipped since its requires_grad=False",
    ]
)


def build_runner(cfg: Config) -> BaseRunner:
    """A Runner for `cfg`, on the devices there are.

    Without a GPU, distributed processes talk through gloo, which must exist before the Runner.
    `cfg` is not changed; a class of one's own is taken from ``cfg.runner_type``.

    Raises:
        SaveError: the work_dir cannot be written to.
    """
    if cfg.get("launcher", "none") != "none" and not torch.cuda.is_available():
        _join_on_cpu(cfg.launcher)
    check_writable(cfg.work_dir)
    return RUNNERS.get(cfg.get("runner_type", "visionpatch.Runner")).from_cfg(cfg)


@RUNNERS.register_module()
class Runner(BaseRunner):
    """MMEngine's Runner, whose runs go on after a crash, a signal or a full disk as if nothing had happened.

    Weights come in by `load_state`, checkpoints are whole or not there, runs are watched by `CheckHook`.

    Attributes:
        load_report: what fitted of the last weights loaded.
        stop_request: which signal asked the run to stop.
        resumed_from: the checkpoint this run went on from.
        resumed_from_stop: the same, where a signal had stopped the run.
    """

    load_report: LoadReport | None = None
    _complete_weights = False
    _resumed: tuple[str, dict] | None = None
    resumed_from: Path | None = None
    resumed_from_stop: Path | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.stop_request = StopRequest()
        super().__init__(*args, **kwargs)

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        super().register_hooks(default_hooks, custom_hooks)
        if not any(isinstance(hook, CheckHook) for hook in self._hooks):
            self.register_hook(CheckHook())

    def wrap_model(self, model_wrapper_cfg: dict | None, model: Any) -> Any:
        if self.distributed and not is_model_wrapper(model):
            if model_wrapper_cfg is None:
                own_step = getattr(type(model), "train_step", None) is not BaseModel.train_step
                kind = "MMSeparateDistributedDataParallel" if own_step else "MMDistributedDataParallel"
                find = self.cfg.get("find_unused_parameters", False)
                model_wrapper_cfg = dict(type=kind, broadcast_buffers=False, find_unused_parameters=find)
            if not torch.cuda.is_available():
                _refuse_sync_bn(self.cfg, model)
                model_wrapper_cfg = {"broadcast_buffers": False, **model_wrapper_cfg, "device_ids": None}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        return build_loader(dataloader, seed, diff_rank_seed, training=False)

    def build_train_loop(self, loop: Any) -> BaseLoop:
        if isinstance(loop, dict) and "type" not in loop:
            by_epoch = loop.get("by_epoch", False)
            kept = {key: value for key, value in loop.items() if key != "by_epoch"}
            loop = dict(kept, type="EpochBasedTrainLoop" if by_epoch else "IterBasedTrainLoop")
        return super().build_train_loop(loop)

    def build_val_loop(self, loop: Any) -> BaseLoop:
        return super().build_val_loop({"type": "ValLoop", **loop} if isinstance(loop, dict) else loop)

    def build_test_loop(self, loop: Any) -> BaseLoop:
        return super().build_test_loop({"type": "TestLoop", **loop} if isinstance(loop, dict) else loop)

    def train(self) -> torch.nn.Module:
        """Train; one process at a time in a work_dir.

        Raises:
            TrainingStopped: SIGTERM or SIGINT came; the state after the last iteration is saved.
        """
        with ExitStack() as stack:
            with together():
                if self.rank == 0:
                    stack.enter_context(training_in(self.work_dir))
            stack.enter_context(self.stop_request)
            self._resumed = self._read_resumed()
            try:
                return super().train()
            except RuntimeError as error:  # torch tells of a dead loading process wherever the code happens to be
                raise_worker_error(error, "train_dataloader or val_dataloader")
                raise
            finally:
                self._end_loading(self._train_loop, self._val_loop)

    def val(self) -> dict:
        try:
            return super().val()
        finally:
            self._end_loading(self._val_loop)

    def test(self) -> dict:
        self._complete_weights = True
        with self.stop_request:
            try:
                return super().test()
            finally:
                self._end_loading(self._test_loop)

    @staticmethod
    def _end_loading(*loops: Any) -> None:
        for loop in loops:
            close(getattr(loop, "dataloader", None))

    def stop_if_asked(self) -> None:
        """Save and raise `TrainingStopped` when a signal came to any process of the run."""
        if not self.stop_request.agreed():
            return
        name = self.stop_request.signal or "a signal to another process"
        if not isinstance(self._train_loop, BaseLoop):
            raise TrainingStopped(f"stopped by {name}")
        hook = next((h for h in self._hooks if isinstance(h, CheckpointHook)), None)
        if hook is None:
            hook = CheckpointHook(by_epoch=False)
            hook.before_train(self)
        path = hook.save_now(self, self.epoch, self.iter)
        raise TrainingStopped(f"stopped by {name} after iteration {self.iter}: {path} is saved; go on with --resume")

    def load_or_resume(self) -> None:
        """Resume from what `train` has read, or load weights."""
        if self._has_loaded or self._resumed is None:
            super().load_or_resume()
        else:
            self._restore(*self._resumed)
            self._resumed = None

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint of the same model, optimiser and data; to the last bit with as many processes."""
        self._restore(str(filename), fetch_checkpoint(filename))

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = False, revise_keys: Any = None
    ) -> dict:
        """Load weights and say what fitted; see `load_state`.

        Testing refuses a file that leaves keys untouched, training one that fills less than 95 % of the backbone's keys
        unless the config has ``allow_partial_load = True``.
        """
        checkpoint = fetch_checkpoint(filename, map_location)
        from_plain(checkpoint)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self.load_report = load_state(
            bare(self.model),
            state_dict_of(checkpoint),
            source=str(filename),
            strict=strict,
            complete=self._complete_weights,
            allow_partial=self._complete_weights or self.cfg.get("allow_partial_load", False),
        )
        self._has_loaded = True
        fits = not (self.load_report.missing or self.load_report.unexpected or self.load_report.wrong_shape)
        self.logger.log(logging.INFO if fits else logging.WARNING, f"{filename}: {self.load_report.summary()}")
        return checkpoint

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Save the whole state, or nothing; every process of the run must call it.

        Args:
            out_dir, filename: where; local files only.
            file_client_args, backend_args: must be None.
            save_optimizer, save_param_scheduler: False leaves them out, as of a best checkpoint.
            meta: epoch and iter where they are not those of the runner.
            by_epoch: whether the epoch (True) or the iteration under way counts as done, as of MMEngine's method.
        """
        if file_client_args or backend_args:
            raise ConfigError("checkpoints are saved to local folders: remove file_client_args and backend_args")
        ranks = states_of_ranks(self) if save_optimizer else None
        with together():
            if self.rank:
                return
            done = dict(epoch=self.epoch + by_epoch, iter=self.iter + (not by_epoch))
            checkpoint: dict[str, Any] = dict(
                meta={**done, **(meta or {}), **meta_of(self)},
                state_dict=weights_to_cpu(bare(self.model).state_dict()),
                message_hub=self.message_hub.state_dict(),
            )
            if save_optimizer:
                checkpoint |= dict(optimizer=self.optim_wrapper.state_dict(), ranks=ranks)
            if save_param_scheduler and self.param_schedulers is not None:
                checkpoint["param_schedulers"] = states_of_schedulers(self.param_schedulers)
            self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
            to_plain(checkpoint)
            atomic_save(checkpoint, Path(out_dir) / filename)

    def _read_resumed(self) -> tuple[str, dict] | None:
        """The checkpoint to resume from, read before anything is built: its seed is the run's."""
        if not self._resume:
            return None
        with together():
            if self._load_from is not None:
                source, checkpoint = str(self._load_from), fetch_checkpoint(self._load_from)
            else:
                source, checkpoint = find_resumable(self.work_dir, self.logger)
        meta = checkpoint.get("meta", {})
        found = all_gather_object(meta.get("iter"))
        if len(set(map(str, found))) > 1:
            raise WeightsError(
                f"{source}: the processes found checkpoints of different iterations ({', '.join(map(str, found))}): "
                "the work_dir must be one folder that all of them share"
            )
        seed = meta.get("seed")
        if isinstance(seed, int) and seed != self.seed:
            if self._randomness_cfg.get("seed") is not None:
                self.logger.warning(f"{source}: its seed {seed} is used, not the seed {self.seed} of the config")
            self._randomness_cfg["seed"] = seed
            self.set_randomness(**self._randomness_cfg)
        return source, checkpoint

    def _restore(self, source: str, checkpoint: dict) -> None:
        try:
            check_resumable(self, checkpoint, source)
            load_training(self, checkpoint, source)
        except VisionpatchError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise WeightsError(f"{source}: does not hold what a training saves ({text}); give another one") from error
        self.resumed_from = Path(source)
        if checkpoint["meta"].get("stopped"):
            self.resumed_from_stop = Path(source)
        self._has_loaded = True
        self.logger.info(f"resumed from {source}: epoch {self.epoch}, iteration {self.iter}")

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(log_level, log_file, **kwargs)
        logger.addFilter(lambda record: not re.match(NOISE, str(record.msg)))
        return logger

    def _log_env(self, env_cfg: Mapping[str, Any]) -> None:
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        )
        self.logger.info(
            f"torch {torch.__version__}, mmengine {mmengine.__version__}, {device}, seed {self.seed}, "
            f"{self.world_size} process(es); work_dir {self.work_dir} (config beside the log)"
        )


def _join_on_cpu(launcher: str) -> None:
    if launcher != "pytorch" or "RANK" not in os.environ:
        raise ConfigError(
            f"launcher = {launcher} without a GPU: start CPU processes by torchrun and --launcher pytorch"
        )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def _refuse_sync_bn(cfg: Config, model: torch.nn.Module) -> None:
    if cfg.get("sync_bn") or any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules()):
        given = f'sync_bn = "{cfg.sync_bn}"' if cfg.get("sync_bn") else "a layer of the model is SyncBN"
        raise ConfigError(f'{given}: it works on GPUs only; in CPU processes use "BN" and leave sync_bn out')
