"""Decoding a large map square by square.

Letters: B batch, D channels, h, w sides of the map, f pixels a cell.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from visionpatch.errors import ConfigError


def decode_tiles(decode: Callable[[Tensor], Tensor], zq: Tensor, stride: int, tile: int, overlap: int) -> Tensor:
    """`decode` of each square of `zq` (B, D, h, w), joined to (B, C, f*h, f*w), f = `stride`.

    Squares of `tile` cells a side lie ``tile - overlap`` apart; where two overlap, the share of one falls linearly from
    1 to 0. A map no larger than one square is decoded at once.

    Raises:
        ConfigError: tile, overlap out of range.
    """
    if not 0 <= overlap <= tile // 2 or tile < 1:
        raise ConfigError(f"tile = {tile}, overlap = {overlap}; expected overlap from 0 to half of tile, tile >= 1")
    height, width = zq.shape[-2:]
    if max(height, width) <= tile:
        return decode(zq)
    image = weight = None
    for top in starts(height, tile, overlap):
        for left in starts(width, tile, overlap):
            part = decode(zq[..., top : top + tile, left : left + tile])
            if image is None or weight is None:
                image = part.new_zeros(*part.shape[:2], height * stride, width * stride)
                weight = part.new_zeros(height * stride, width * stride)
            rows, columns = part.shape[-2:]
            share = ramp(rows, overlap * stride).to(part)[:, None] * ramp(columns, overlap * stride).to(part)
            place = (..., slice(top * stride, top * stride + rows), slice(left * stride, left * stride + columns))
            image[place] += part * share
            weight[place] += share
    assert image is not None and weight is not None
    return image / weight


def starts(side: int, tile: int, overlap: int) -> list[int]:
    """First cells of the squares along a side; the last square ends where the side does."""
    if side <= tile:
        return [0]
    return [*range(0, side - tile, tile - overlap), side - tile]


def ramp(side: int, overlap: int) -> Tensor:
    """Weights (side,) that rise over `overlap` pixels at either end: 1, 2, ..., overlap + 1."""
    steps = torch.arange(1, side + 1)
    return torch.minimum(steps, steps.flip(0)).clamp(max=overlap + 1).float()
