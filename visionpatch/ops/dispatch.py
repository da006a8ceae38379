"""Which implementation serves an op: mmcv's compiled one where it can, else the torch form beside it."""

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

SINGLE = frozenset({torch.float32})
FULL = frozenset({torch.float32, torch.float64})

# op: name in mmcv.ops, and the dtypes its kernels handle right on each device; an op or a device that is not here has
# no kernel, or none whose numbers hold (sigmoid_focal_loss). Half precision is left out: it rounds coordinates
KERNELS: dict[str, tuple[str, dict[str, frozenset[torch.dtype]]]] = {
    "nms": ("nms", {"cpu": SINGLE, "cuda": SINGLE}),
    "soft_nms": ("soft_nms", {"cpu": SINGLE}),
    "roi_align": ("roi_align", {"cpu": FULL, "cuda": FULL}),
    "deform_conv2d": ("deform_conv2d", {"cpu": FULL, "cuda": FULL}),
    "modulated_deform_conv2d": ("modulated_deform_conv2d", {"cpu": FULL, "cuda": FULL}),
    "multi_scale_deformable_attn": ("MultiScaleDeformableAttnFunction.apply", {"cuda": FULL}),
}


def compiled(op: str, *tensors: Tensor) -> Callable | None:
    """mmcv's compiled `op` if it is installed and handles the device and dtype of all `tensors`; else None."""
    device = tensors[0].device.type
    name, dtypes = KERNELS[op]
    if device not in dtypes or any(x.dtype not in dtypes[device] or x.device.type != device for x in tensors):
        return None
    module, _ = load()
    if module is None or (device == "cuda" and not _has_cuda(module)):
        return None
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found


@functools.cache
def load() -> tuple[ModuleType | None, str]:
    """mmcv.ops, imported at the first call, and its version; or None and the reason why it cannot be used."""
    try:
        module = importlib.import_module("mmcv.ops")
        return module, f"mmcv {importlib.import_module('mmcv').__version__}"
    except Exception as error:  # ImportError: not compiled; AssertionError: two distributions mixed; others: broken
        return None, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def _has_cuda(module: ModuleType) -> bool:
    return module.get_compiling_cuda_version() != "not available"
