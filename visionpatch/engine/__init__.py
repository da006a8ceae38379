"""What MMEngine's Runner lacks: checked configs, safe checkpoints, guards, mixed precision on a CPU."""

from visionpatch.engine.amp import CpuAmpOptimWrapper, amp_optim_wrapper
from visionpatch.engine.checkpoint import (
    LoadReport,
    Pretrained,
    fetch_checkpoint,
    load_checkpoint_file,
    load_state,
    state_dict_of,
)
from visionpatch.engine.config import check_config, load_config
from visionpatch.engine.hooks import CheckHook, NonFiniteLossError, PlainCheckpointHook
from visionpatch.engine.runner import Runner, build_runner

__all__ = [
    "CheckHook",
    "CpuAmpOptimWrapper",
    "LoadReport",
    "NonFiniteLossError",
    "PlainCheckpointHook",
    "Pretrained",
    "Runner",
    "amp_optim_wrapper",
    "build_runner",
    "check_config",
    "fetch_checkpoint",
    "load_checkpoint_file",
    "load_config",
    "load_state",
    "state_dict_of",
]
