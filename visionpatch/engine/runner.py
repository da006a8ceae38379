"""MMEngine's Runner with what it lacks: CPU processes, safe and loud weight loading, checks, a quiet log."""

import os
import re
from collections.abc import Mapping
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner as BaseRunner

from visionpatch.engine.checkpoint import LoadReport, fetch_checkpoint, load_state, state_dict_of
from visionpatch.engine.hooks import CheckHook, PlainCheckpointHook
from visionpatch.errors import ConfigError
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
    """
    if cfg.get("launcher", "none") != "none" and not torch.cuda.is_available():
        _join_on_cpu(cfg.launcher)
    return RUNNERS.get(cfg.get("runner_type", "visionpatch.Runner")).from_cfg(cfg)


@RUNNERS.register_module()
class Runner(BaseRunner):
    """MMEngine's Runner, whose weights come in by `load_state` and whose runs are watched by `CheckHook`."""

    load_report: LoadReport | None = None

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        super().register_hooks(default_hooks, custom_hooks)
        for hook in (CheckHook(), PlainCheckpointHook()):
            if not any(type(own) is type(hook) for own in self._hooks):
                self.register_hook(hook)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: Any) -> Any:
        if self.distributed and not torch.cuda.is_available() and not is_model_wrapper(model):
            find = self.cfg.get("find_unused_parameters", False)
            default = dict(type="MMDistributedDataParallel", broadcast_buffers=False, find_unused_parameters=find)
            model_wrapper_cfg = {**default, **(model_wrapper_cfg or {}), "device_ids": None}
        return super().wrap_model(model_wrapper_cfg, model)

    def test(self) -> dict:
        self._complete_weights = True
        return super().test()

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = False, revise_keys: Any = None
    ) -> dict:
        """Load weights and say what fitted; see `load_state`. Testing refuses a file that leaves keys untouched."""
        checkpoint = fetch_checkpoint(filename, map_location)
        checkpoint.get("meta", {}).pop("config", None)  # MMEngine would execute this text on resuming
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        self.load_report = load_state(
            model,
            state_dict_of(checkpoint),
            source=str(filename),
            strict=strict,
            complete=getattr(self, "_complete_weights", False),
        )
        self._has_loaded = True
        self.logger.info(f"{filename}: {self.load_report.summary()}")
        return checkpoint

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
