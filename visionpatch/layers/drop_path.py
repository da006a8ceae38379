"""Stochastic depth (Huang et al., 2016), one draw per sample."""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """While training, zeroes the branch of a sample with probability `rate` and scales the others by 1 / (1 - rate)."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep) if keep > 0.0 else torch.zeros_like(x)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"
