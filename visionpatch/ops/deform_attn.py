"""Multi-scale deformable attention (Zhu et al., "Deformable DETR", ICLR 2021, equation 3).

Letters: B batch, N tokens of all levels, M heads, d channels of a head, Q queries, L levels, P points.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from visionpatch.errors import ConfigError
from visionpatch.ops.dispatch import compiled


def multi_scale_deformable_attn(
    value: Tensor,
    value_spatial_shapes: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """Each query's weighted sum of the values at its sampling points, by bilinear interpolation and zeros outside.

    Args:
        value: (B, N, M, d), the levels one after the other, each row by row.
        value_spatial_shapes: int64 (L, 2), height and width of each level.
        sampling_locations: (B, Q, M, L, P, 2), x and y in [0, 1] from edge to edge of the level.
        attention_weights: (B, Q, M, L, P).
        im2col_step: how many images mmcv's kernel takes at a time; without effect on the result.

    Returns:
        (B, Q, M d), differentiable in `value`, `sampling_locations` and `attention_weights`.

    Raises:
        ConfigError: shapes that do not fit.
    """
    shapes = _check(value, value_spatial_shapes, sampling_locations, attention_weights)
    locations, weights = sampling_locations.to(value.dtype), attention_weights.to(value.dtype)
    function = compiled("multi_scale_deformable_attn", value, locations, weights) if len(value) else None
    if function is not None:
        sizes = value_spatial_shapes.to(value.device)
        starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
        step = max(n for n in range(1, min(im2col_step, len(value)) + 1) if len(value) % n == 0)
        return function(value.contiguous(), sizes, starts, locations.contiguous(), weights.contiguous(), step)
    batch, _, heads, channels = value.shape
    grids = (2 * locations - 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)  # (B M, L, Q, P, 2)
    levels = value.permute(0, 2, 3, 1).flatten(0, 1).split([h * w for h, w in shapes], -1)  # L x (B M, d, h w)
    sampled = [
        F.grid_sample(level.unflatten(-1, shape), grids[:, i], align_corners=False)  # (B M, d, Q, P)
        for i, (level, shape) in enumerate(zip(levels, shapes))
    ]
    parts = weights.permute(0, 2, 1, 3, 4).flatten(0, 1)  # (B M, Q, L, P)
    output = torch.einsum("ndqlp,nqlp->ndq", torch.stack(sampled, 3), parts)
    return output.reshape(batch, heads * channels, -1).transpose(1, 2).contiguous()


def _check(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> list[tuple[int, int]]:
    """The levels' shapes as numbers."""
    given = f"value {tuple(value.shape)}, locations {tuple(locations.shape)}, weights {tuple(weights.shape)}"
    if value.ndim != 4 or locations.ndim != 6 or weights.shape != locations.shape[:-1] or locations.shape[-1] != 2:
        expected = "(B, N, M, d), (B, Q, M, L, P, 2) and (B, Q, M, L, P)"
        raise ConfigError(f"multi_scale_deformable_attn: {given} given; expected {expected}")
    if (len(value), value.shape[2], len(shapes)) != (len(locations), locations.shape[2], locations.shape[3]):
        raise ConfigError(f"multi_scale_deformable_attn: {given} and {len(shapes)} levels do not fit together")
    sizes = [(int(h), int(w)) for h, w in shapes.tolist()]
    if sum(h * w for h, w in sizes) != value.shape[1]:
        raise ConfigError(f"multi_scale_deformable_attn: levels of {sizes} do not make {value.shape[1]} tokens")
    return sizes
