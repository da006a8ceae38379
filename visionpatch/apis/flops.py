"""Counting multiply-accumulates."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from visionpatch.errors import ConfigError


def count_macs(model: nn.Module, shape: tuple[int, int] | tuple[int, int, int], by_module: bool = False) -> Any:
    """Multiply-accumulates of one forward pass of one image: convolutions, matrix products and attention.

    Half of what torch's counter calls FLOPs. Normalisation, activation, resizing and softmax are not counted.
    Computed on torch's meta device, without arithmetic or memory; a model that cannot run there runs on the CPU.

    Args:
        model: a backbone, or a model with ``forward(inputs, data_samples, mode="tensor")``.
        shape: (H, W) of an image of three channels, or (C, H, W).
        by_module: return a dict of dotted module name -> count as well: ``(total, {...})``. A module that is not
            called itself, such as a list of heads, counts as its parts together.

    Raises:
        ConfigError: `shape` is not two or three positive integers.
    """
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ConfigError(f"count_macs: shape = {tuple(shape)}, expected (H, W) or (C, H, W)")
    size = (1, *((3, *shape) if len(shape) == 2 else shape))
    counter = FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _cpu_attention_flop})
    try:
        _run(copy.deepcopy(model).to("meta"), size, counter)
    except (NotImplementedError, RuntimeError):
        _run(copy.deepcopy(model).cpu(), size, counter)
    counts = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
    total = counts.pop("Global", 0)
    if not by_module:
        return total
    found = {name.partition(".")[2]: n for name, n in counts.items() if "." in name}
    for name, module in reversed(list(model.named_modules())):  # parts before the wholes that only call them
        below = [found.get(f"{name}.{child}", 0) for child, _ in module.named_children()]
        if name and name not in found and any(below):
            found[name] = sum(below)
    return total, found


_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def _cpu_attention_flop(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """The CPU's fused attention, which torch's counter leaves out; arguments arrive as shapes."""
    return sdpa_flop_count(query, key, value)


def _run(model: nn.Module, size: tuple[int, ...], counter: FlopCounterMode) -> None:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    image: Tensor = torch.zeros(size, device=device)
    call: Callable = model.eval()
    with counter, torch.no_grad():
        call(image, mode="tensor") if hasattr(model, "data_preprocessor") else call(image)
