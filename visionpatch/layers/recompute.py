"""Recomputing a block in the backward pass: less memory, more time, the same result."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """block(x), keeping nothing but `x` for the backward pass; batch norms count the batch once."""
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_kept(block)))


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Recompute `block` without counting the batch twice in its running statistics."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm)]
    saved = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        m.momentum, m.num_batches_tracked = 0.0, torch.tensor(0)
    try:
        yield
    finally:
        for m, (momentum, count) in zip(norms, saved):
            m.momentum, m.num_batches_tracked = momentum, count
