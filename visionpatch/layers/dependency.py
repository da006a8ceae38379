"""What DependencyViT's blocks say of the dependencies between tokens, and sums and maps made of it.

B batch, L blocks, N tokens of the image (h rows of w), n tokens of a block, fewer where tokens were pruned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.resize import resize
from visionpatch.layers.token_pruning import scattered

Blocks = Literal["sum", "mean", "last"] | Sequence[int]


@dataclass
class DependencyInfo:
    """Of one forward pass.

    Attributes:
        grid: (h, w) of the tokens.
        masks: soft dependency mask of each block (B, n, n), recipient first.
        messages: cumulative message M of each block's tokens (B, n), 0..1.
        index: place of each block's tokens among the N (B, n); None where all are there.
    """

    grid: tuple[int, int]
    masks: list[Tensor] = field(default_factory=list)
    messages: list[Tensor] = field(default_factory=list)
    index: list[Tensor | None] = field(default_factory=list)

    def total(self, blocks: Blocks = "sum") -> Tensor:
        """D (B, N, N), recipient first: the masks of all blocks ("sum", "mean"), of the last one ("last"), or of those
        numbered from 0 in a sequence, added; pruned tokens add nothing. (Which blocks is our choice.)

        Raises:
            ConfigError: an unknown word or number.
        """
        count = len(self.masks)
        words = {"sum": range(count), "mean": range(count), "last": range(count - 1, count)}
        if isinstance(blocks, str) and blocks not in words:
            raise ConfigError(f'DependencyInfo.total: blocks = "{blocks}"{nearest(blocks, words)}')
        chosen: Sequence[int] = words[blocks] if isinstance(blocks, str) else blocks
        if not chosen or not all(-count <= i < count for i in chosen):
            raise ConfigError(f"DependencyInfo.total: blocks = {blocks}; there are the blocks 0..{count - 1}")
        total = self._whole(self.masks, chosen[0])
        for block in chosen[1:]:
            total = total + self._whole(self.masks, block)
        return total / count if blocks == "mean" else total

    def message_map(self) -> Tensor:
        """Mean over the last half of the blocks of M (B, N): who still sends late in the network; 0 when pruned."""
        half = range(len(self.messages) // 2, len(self.messages))
        return torch.stack([self._whole(self.messages, i) for i in half]).mean(0)

    def received(self) -> Tensor:
        """What each token received in all blocks (B, N)."""
        return self.total().sum(2)

    def saliency(self, size: tuple[int, int] | None = None, by: Literal["message", "received"] = "message") -> Tensor:
        """`message_map` or `received`, scaled to 0..1 in each image, bilinearly resized to `size` (H, W): (B, H, W).

        None keeps the grid of tokens. A constant map becomes 0. (Both readings of "saliency" are our choice.)

        Raises:
            ConfigError: another word for `by`.
        """
        if by not in ("message", "received"):
            raise ConfigError(f'DependencyInfo.saliency: by = "{by}"{nearest(str(by), ("message", "received"))}')
        values = (self.message_map() if by == "message" else self.received()).float()
        low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
        flat = (values - low) / (high - low).clamp_min(1e-12)
        maps = flat.unflatten(1, self.grid).unsqueeze(1)  # (B, 1, h, w)
        return (maps if size is None else resize(maps, size)).squeeze(1).clamp(0, 1)

    def _whole(self, values: list[Tensor], block: int) -> Tensor:
        return scattered(values[block], self.index[block], self.grid[0] * self.grid[1])
