"""Weights and inputs of golden cases, drawn from generators that are seeded by the tensors' names."""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

SCALES = ("weight", "gamma", "logit_scale")


def draw(name: str, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 values; the seed is the CRC-32 of `name`."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return torch.from_numpy(generator.standard_normal(tuple(shape)).astype(np.float32))


def value(name: str, shape: Sequence[int]) -> Tensor:
    """The state-dict tensor `name`: variances at least 0.5, norm scales near 1, biases near 0, weights of unit gain."""
    x, leaf = draw(name, shape), name.rpartition(".")[2]
    if leaf == "running_var":
        return x.abs() + 0.5
    if len(shape) == 0 or (len(shape) == 1 and leaf in SCALES):
        return 1 + 0.1 * x
    if len(shape) == 1:
        return 0.1 * x
    return x / max(math.prod(shape[1:]), 1) ** 0.5


def fill(shapes: Mapping) -> dict:
    """Name to tensor for a mapping of name to shape; mappings of mappings are filled one by one."""
    return {name: fill(shape) if isinstance(shape, Mapping) else value(name, shape) for name, shape in shapes.items()}
