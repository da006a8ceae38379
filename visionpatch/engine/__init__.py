"""What MMEngine's Runner lacks: checked configs, safe and atomic checkpoints, exact resume, guards, AMP on a CPU."""

from visionpatch.engine.amp import CpuAmpOptimWrapper, amp_optim_wrapper
from visionpatch.engine.checkpoint import (
    LoadReport,
    Pretrained,
    fetch_checkpoint,
    load_checkpoint_file,
    load_state,
    state_dict_of,
)
from visionpatch.engine.checkpoint_hook import CheckpointHook
from visionpatch.engine.config import check_config, load_config
from visionpatch.engine.hooks import CheckHook
from visionpatch.engine.loops import EpochBasedTrainLoop, IterBasedTrainLoop, TestLoop, ValLoop
from visionpatch.engine.optim import JointOptimWrapper, OptimizerPerPart
from visionpatch.engine.runner import Runner, build_runner

__all__ = [
    "CheckHook",
    "CheckpointHook",
    "CpuAmpOptimWrapper",
    "EpochBasedTrainLoop",
    "IterBasedTrainLoop",
    "JointOptimWrapper",
    "LoadReport",
    "OptimizerPerPart",
    "Pretrained",
    "Runner",
    "TestLoop",
    "ValLoop",
    "amp_optim_wrapper",
    "build_runner",
    "check_config",
    "fetch_checkpoint",
    "load_checkpoint_file",
    "load_config",
    "load_state",
    "state_dict_of",
]
