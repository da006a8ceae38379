"""Position biases of attention that are functions of the offset between query and key."""

import torch
from torch import Tensor, nn


class DynamicPositionBias(nn.Module):
    """A small perceptron from the offset of two tokens to one bias a head (CrossFormer, section 3.3).

    Being a function of offsets it serves any group size, and the bias of a smaller group is a corner of a larger one's.

    Args:
        dim: channels of the attention layer; the hidden width is dim // 16, as in the published code.
        num_heads: heads of the attention layer.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        width = dim // 16
        self.pos_proj = nn.Linear(2, width)
        self.pos1 = self._layer(width, width)
        self.pos2 = self._layer(width, width)
        self.pos3 = self._layer(width, num_heads)

    @staticmethod
    def _layer(width: int, out: int) -> nn.Sequential:
        return nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, out))

    def forward(self, height: int, width: int) -> Tensor:
        """Biases of a group of height x width tokens: (heads, height, width, height, width), query first, key last."""
        weight = self.pos_proj.weight
        rows = torch.arange(1 - height, height, device=weight.device, dtype=weight.dtype)
        cols = torch.arange(1 - width, width, device=weight.device, dtype=weight.dtype)
        offsets = torch.stack(torch.meshgrid(rows, cols, indexing="ij"), dim=-1)  # (2h-1, 2w-1, 2), query minus key
        table = self.pos3(self.pos2(self.pos1(self.pos_proj(offsets)))).permute(2, 0, 1)  # (heads, 2h-1, 2w-1)
        # entry [query, key] is table[query - key + size - 1]: a window that starts at `query`, read backwards
        return table.unfold(1, height, 1).unfold(2, width, 1).flip(3, 4)
