"""Feature maps at points (Kirillov et al., "PointRend", CVPR 2020)."""

import torch.nn.functional as F
from torch import Tensor

from visionpatch.errors import ConfigError


def point_sample(
    input: Tensor,
    points: Tensor,
    align_corners: bool = False,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> Tensor:
    """The map at points given in [0, 1] x [0, 1].

    Args:
        input: (B, C, H, W); differentiable.
        points: (B, P, 2) or (B, h, w, 2), x and y; 0 and 1 are the outer edges of the map's border pixels, with
            `align_corners` their centres; differentiable.
        align_corners, mode, padding_mode: as in `torch.nn.functional.grid_sample`.

    Returns:
        (B, C, P) or (B, C, h, w).

    Raises:
        ConfigError: shapes that do not fit.
    """
    if input.ndim != 4 or points.ndim not in (3, 4) or points.shape[-1] != 2 or len(points) != len(input):
        given = f"input {tuple(input.shape)} and points {tuple(points.shape)}"
        raise ConfigError(f"point_sample: {given} given; expected (B, C, H, W) and (B, P, 2) or (B, h, w, 2)")
    grid = 2 * points.to(input.dtype) - 1
    if points.ndim == 4:
        return F.grid_sample(input, grid, mode, padding_mode, align_corners)
    return F.grid_sample(input, grid[:, :, None], mode, padding_mode, align_corners).squeeze(3)
