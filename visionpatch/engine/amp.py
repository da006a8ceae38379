"""Automatic mixed precision that also works without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn
from torch.optim import Optimizer

from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import OPTIM_WRAPPERS

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@OPTIM_WRAPPERS.register_module(name="AmpOptimWrapper")
def amp_optim_wrapper(
    optimizer: Optimizer,
    accumulative_counts: int = 1,
    clip_grad: dict | None = None,
    loss_scale: Any = "dynamic",
    dtype: str | None = None,
    use_fsdp: bool = False,
) -> OptimWrapper:
    """``optim_wrapper=dict(type='AmpOptimWrapper', ...)``: MMEngine's on a GPU, bfloat16 autocast on a CPU.

    Args:
        optimizer, accumulative_counts, clip_grad: as for `mmengine.optim.OptimWrapper`.
        loss_scale: of the gradient scaler, GPU only: ``'dynamic'``, a number, or the scaler's arguments.
        dtype: ``'float16'`` or ``'bfloat16'``; None is float16 on a GPU. A CPU always computes in bfloat16, whose range
            is that of float32, so that no scaler is needed.
        use_fsdp: as MMEngine's.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f'optim_wrapper.dtype = "{dtype}" is not a data type{nearest(dtype, DTYPES)}')
    common: dict[str, Any] = dict(optimizer=optimizer, accumulative_counts=accumulative_counts, clip_grad=clip_grad)
    if torch.cuda.is_available():
        return AmpOptimWrapper(loss_scale=loss_scale, dtype=dtype, use_fsdp=use_fsdp, **common)
    return CpuAmpOptimWrapper(**common)


class CpuAmpOptimWrapper(OptimWrapper):
    """An `OptimWrapper` whose forward passes run under bfloat16 autocast on the CPU."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield
