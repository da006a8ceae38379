"""Averaging as OpenMMLab's detection losses do it."""

import torch
from torch import Tensor

EPS = torch.finfo(torch.float32).eps


def weighted_sum(loss: Tensor, weight: Tensor | None, avg_factor: float) -> Tensor:
    """The sum of `loss` (N, ...), each row times its `weight` (N,), over `avg_factor`; 0 of no rows."""
    if weight is not None:
        loss = loss * weight.view(-1, *[1] * (loss.ndim - 1))
    return loss.sum() / (avg_factor + EPS)
