"""Dropping tokens on the way through a network, and putting the dropped ones back for dense prediction.

B batch, N tokens at the start, n tokens still computed, C channels.
"""

import math

import torch
from torch import Tensor


class LiveTokens:
    """The tokens still computed, and the last features of the others.

    Args:
        x: tokens (B, N, C).
        message: what each still sends (B, N), 0..1.
        barred: (B, N) bool, tokens that receive nothing; None: every token does.
        keep_dropped: remember the dropped ones, for `restored`.

    Attributes:
        index: (B, n) int64, the place of each live token among the N, ascending; None while all live.
    """

    def __init__(self, x: Tensor, message: Tensor, barred: Tensor | None, keep_dropped: bool) -> None:
        self.x, self.message, self.barred = x, message, barred
        self.total, self.keep_dropped = x.shape[1], keep_dropped
        self.index: Tensor | None = None
        self.dropped: Tensor | None = None  # (B, N, C)

    def prune(self, score: Tensor, count: int) -> None:
        """Keep the `count` tokens of the highest `score` (B, n); of equal ones those that come first."""
        if count >= self.x.shape[1]:
            return
        if self.keep_dropped:
            self.dropped = self.restored()
        kept = kept_tokens(score, count)
        self.x = self.x.gather(1, kept.unsqueeze(-1).expand(-1, -1, self.x.shape[2]))
        self.message = self.message.gather(1, kept)
        self.barred = None if self.barred is None else self.barred.gather(1, kept)
        self.index = kept if self.index is None else self.index.gather(1, kept)

    def restored(self) -> Tensor:
        """(B, N, C): live tokens as they are, dropped ones as they were when dropped."""
        if self.index is None or self.dropped is None:
            return self.x
        return self.dropped.to(self.x.dtype).scatter(1, self.index.unsqueeze(-1).expand_as(self.x), self.x)

    def alive(self) -> Tensor:
        """(B, N) bool."""
        whole = torch.zeros(self.x.shape[0], self.total, dtype=torch.bool, device=self.x.device)
        return whole.logical_not() if self.index is None else whole.scatter(1, self.index, True)


def kept_tokens(score: Tensor, count: int) -> Tensor:
    """Places of the `count` highest scores (B, n), ascending: (B, count) int64. No gradient passes."""
    order = score.detach().argsort(dim=1, descending=True, stable=True)
    return order[:, :count].sort(1).values


def tokens_left(total: int, ratio: float, times: int) -> int:
    """Tokens after pruning `times` times, each time `ratio` of the `total` at the start; at least 1."""
    return max(1, math.floor(total * (1 - ratio * times) + 1e-6))


def scattered(values: Tensor, index: Tensor | None, total: int) -> Tensor:
    """(B, n) or (B, n, n) at the places `index` (B, n) of (B, N) or (B, N, N); 0 elsewhere."""
    if index is None:
        return values
    batch, n = index.shape
    if values.ndim == 2:
        return values.new_zeros(batch, total).scatter(1, index, values)
    rows = values.new_zeros(batch, n, total).scatter(2, index.unsqueeze(1).expand_as(values), values)
    return values.new_zeros(batch, total, total).scatter(1, index.unsqueeze(2).expand_as(rows), rows)
