"""RoIAlign (He et al., "Mask R-CNN", ICCV 2017, section 3).

Letters: B images, C channels, H, W map, R rois, P, Q bins of a roi down and across, S, T sampling points of a bin down
and across, K pixels that a bin reads down or across.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from visionpatch.errors import ConfigError, nearest
from visionpatch.ops.dispatch import compiled
from visionpatch.ops.sampling import weighted_rows

MODES = ("avg", "max")
LOWEST = -10000.0  # of a bin in mode "max", as in mmcv; also the value of a bin without sampling points
BUDGET = 1 << 22  # pixels read at a time


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """Each roi cut out of the map at a fixed size, by bilinear interpolation at the sampling points of its bins.

    A point further than one pixel outside of the map counts 0; one within that pixel takes the border's value. Half
    precision is computed in float32. A roi with a coordinate that is not finite gives 0.

    Args:
        input: (B, C, H, W); differentiable.
        rois: (R, 5), image index, x1 y1 x2 y2; no gradient.
        output_size: (P, Q), or one number for both.
        spatial_scale: size of the map relative to the rois' coordinates, e.g. 1/4.
        sampling_ratio: points per bin and axis; 0: the size of the bin in pixels of the map, rounded up.
        pool_mode: "avg" or "max" over the points of a bin.
        aligned: pixel centres lie at half coordinates. False, the older convention, puts them at whole ones, and gives
            a roi at least one pixel.

    Returns:
        (R, C, P, Q); 0 for a roi without area under ``aligned=True`` and ``sampling_ratio=0`` ("max": -10000).

    Raises:
        ConfigError: wrong shapes, an image index outside of the batch, an unknown `pool_mode`.
    """
    size = _check(input, rois, output_size, pool_mode)
    if input.dtype in (torch.float16, torch.bfloat16):
        halved = roi_align(input.float(), rois, size, spatial_scale, sampling_ratio, pool_mode, aligned)
        return halved.to(input.dtype)
    rois = rois.detach().to(input.dtype)
    function = compiled("roi_align", input, rois)
    sound = rois.isfinite().all() and (rois[:, 3:] >= rois[:, 1:3]).all()  # of others the kernels make an error
    if function is not None and sound:
        return function(input, rois, size, spatial_scale, sampling_ratio, pool_mode, aligned)
    return _torch_form(input, rois, size, spatial_scale, sampling_ratio, pool_mode, aligned)


def _torch_form(
    input: Tensor,
    rois: Tensor,
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> Tensor:
    """Rois of equally many sampling points are pooled together: each bin is a weighted sum of rows of the map."""
    batch, channels, height, width = input.shape
    rows = input.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    with torch.no_grad():
        start, bins, grid = _layout(rois, size, spatial_scale, sampling_ratio, aligned)
        limit = (2 * height + 6, 2 * width + 6) if sampling_ratio == 0 else (sampling_ratio, sampling_ratio)
        kinds = list(_alike(grid, limit, size, (height, width)))
    pool = _maximum if pool_mode == "max" else _average
    pooled = [rows[:0, None, None].expand(-1, *size, -1)]  # without rois the result is part of the graph, too
    for members, counts in kinds:
        if 0 in counts:
            pooled.append(rows.new_full((len(members), *size, channels), LOWEST if pool_mode == "max" else 0.0))
            continue
        first = rois[members, 0].long() * (height * width)
        axes = [
            _points(start[members, i], bins[members, i], grid[members, i], size[i], counts[i], (height, width)[i])
            for i in (0, 1)
        ]
        pooled.append(pool(rows, first, axes, (height, width), sampling_ratio == 0))
    order = torch.cat([members for members, _ in kinds]).argsort() if kinds else slice(None)
    return torch.cat(pooled)[order].permute(0, 3, 1, 2).contiguous()


def _layout(
    rois: Tensor, size: tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """First corner, size of a bin and its number of sampling points, each (R, 2), y and x, in pixels of the map."""
    corners = rois[:, [2, 1, 4, 3]] * spatial_scale - (0.5 if aligned else 0.0)
    start, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]
    bins = (extent if aligned else extent.clamp(min=1)) / extent.new_tensor(size)
    return start, bins, torch.full_like(bins, sampling_ratio) if sampling_ratio > 0 else bins.ceil().clamp(min=0)


def _alike(
    grid: Tensor, limit: tuple[int, int], size: tuple[int, int], shape: tuple[int, int]
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """(indices, points down and across) of the rois with equal numbers of points, as many as the budget allows."""
    counts = torch.minimum(grid, grid.new_tensor(limit)).nan_to_num(0).long()
    kinds, kind = counts.unique(dim=0, return_inverse=True) if len(grid) else (counts, counts)
    for i, (down, across) in enumerate(kinds.tolist()):
        pixels = min(2 * down, down + shape[0]) * min(2 * across, across + shape[1]) * size[0] * size[1]
        for members in (kind == i).nonzero()[:, 0].split(max(BUDGET // max(pixels, 1), 1)):
            yield members, (down, across)


def _points(start: Tensor, bins: Tensor, grid: Tensor, number: int, count: int, length: int) -> tuple[Tensor, Tensor]:
    """Along one axis: the points' positions, clamped to the map, and their weights in a bin, (R, number, count) each.

    Of bins with more than `count` points those from the first near the map on are taken: all others are outside.
    """
    bins, grid = bins[:, None], grid[:, None]
    corner = start[:, None] + torch.arange(number, device=start.device) * bins  # (R, number)
    skipped = ((-1 - corner) / (bins / grid) - 2).floor().clamp(min=0)
    skipped = torch.minimum(skipped, grid - count).nan_to_num(0)
    steps = skipped[..., None] + torch.arange(count, device=start.device) + 0.5
    position = corner[..., None] + steps * bins[..., None] / grid[..., None]
    inside = (position >= -1) & (position <= length)
    return torch.where(inside, position.clamp(0, length - 1), 0.0), inside / grid[..., None]


def _average(
    rows: Tensor, first: Tensor, axes: list[tuple[Tensor, Tensor]], shape: tuple[int, int], dense: bool
) -> Tensor:
    """(R, P, Q, C): interpolation and mean are separable, so a bin reads K x K pixels with products of weights."""
    (y, wy), (x, wx) = (_merged(*axis, n) if dense else _pairs(*axis, n) for axis, n in zip(axes, shape))
    index = first[:, None, None, None, None] + y[:, :, None, :, None] * shape[1] + x[:, None, :, None, :]
    weight = wy[:, :, None, :, None] * wx[:, None, :, None, :]  # (R, P, Q, K, K)
    return weighted_rows(rows, index.flatten(3), weight.flatten(3))


def _maximum(
    rows: Tensor, first: Tensor, axes: list[tuple[Tensor, Tensor]], shape: tuple[int, int], dense: bool
) -> Tensor:
    """(R, P, Q, C): the largest of the points' values, each interpolated from four pixels."""
    split = [_pairs(position, (weight > 0).to(weight), n) for (position, weight), n in zip(axes, shape)]
    (y, wy), (x, wx) = ([part.unflatten(-1, (2, -1)) for part in parts] for parts in split)  # (R, P, 2, S)
    y, wy = (part.transpose(-1, -2)[:, :, None, :, None, :, None] for part in (y, wy))
    x, wx = (part.transpose(-1, -2)[:, None, :, None, :, None, :] for part in (x, wx))
    index = first.view(-1, 1, 1, 1, 1, 1, 1) + y * shape[1] + x  # (R, P, Q, S, T, 2, 2)
    values = weighted_rows(rows, index.flatten(5), (wy * wx).flatten(5)).flatten(3, 4)
    return values.max(3).values.clamp(min=LOWEST)


def _pairs(position: Tensor, weight: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The two pixels around each point and their weights, (R, P, 2 S)."""
    low = position.floor()
    part = (position - low) * weight
    index = torch.cat([low, (low + 1).clamp(max=length - 1)], -1).long()
    return index, torch.cat([weight - part, part], -1)


def _merged(position: Tensor, weight: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Points at most a pixel apart share their pixels: (R, P, K) pixels and the sums of what the points give them."""
    reach = torch.arange(min(position.shape[-1] + 1, length), device=position.device)
    pixel = position[..., :1].floor() + reach
    near = (1 - (position[..., None] - pixel[..., None, :]).abs()).clamp(min=0)  # (R, P, S, K)
    return pixel.clamp(max=length - 1).long(), (weight[..., None] * near).sum(-2)


def _check(input: Tensor, rois: Tensor, output_size: int | Sequence[int], pool_mode: str) -> tuple[int, int]:
    """The output's size."""
    if input.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 5:
        shapes = f"input {tuple(input.shape)} and rois {tuple(rois.shape)}"
        raise ConfigError(f"roi_align: {shapes} given; expected (B, C, H, W) and (R, 5)")
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"roi_align: output_size {size} given; expected a positive number or two")
    if pool_mode not in MODES:
        raise ConfigError(f'roi_align: unknown pool_mode "{pool_mode}"' + nearest(str(pool_mode), MODES))
    image = rois[:, 0]
    if not ((image >= 0) & (image < len(input))).all():
        bad = image[~((image >= 0) & (image < len(input)))][0].item()
        raise ConfigError(f"roi_align: a roi of image {bad:g} in a batch of {len(input)}")
    return size
