"""Deformable convolution, first (Dai et al., ICCV 2017) and modulated (Zhu et al., CVPR 2019, equation 1).

Letters: B batch, C, O channels in and out, H, W map, h, w map of the output, K = kh * kw taps of the kernel, D groups
of channels with offsets of their own (`deform_groups`), G groups of the convolution.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from visionpatch.errors import ConfigError
from visionpatch.ops.dispatch import compiled
from visionpatch.ops.sampling import weighted_rows

Pair = int | Sequence[int]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,
) -> Tensor:
    """Convolution whose taps are moved by `offset` at each output pixel, with bilinear interpolation and zeros outside.

    Args:
        input: (B, C, H, W).
        offset: (B, 2 D K, h, w), in pixels; of each group, tap by tap in row order, first y, then x.
        weight: (O, C / G, kh, kw).
        stride, padding, dilation: as in `torch.nn.functional.conv2d`.
        groups: G.
        deform_groups: D, which divides C.
        bias: only False; the op has none.
        im2col_step: how many images mmcv's kernel takes at a time; without effect on the result.

    Returns:
        (B, O, h, w), differentiable in `input`, `offset` and `weight`.

    Raises:
        ConfigError: shapes that do not fit, an output without pixels, a bias.
    """
    if bias is not False:
        raise ConfigError("deform_conv2d has no bias; use modulated_deform_conv2d, or add one to the result")
    steps = _pair(stride), _pair(padding), _pair(dilation)
    _check("deform_conv2d", input, offset, None, weight, None, steps, groups, deform_groups)
    function = compiled("deform_conv2d", input, offset, weight) if len(input) else None
    if function is not None:
        step = max(n for n in range(1, min(im2col_step, len(input)) + 1) if len(input) % n == 0)
        return function(input, offset, weight, *steps, groups, deform_groups, False, step)
    return _torch_form(input, offset, None, weight, None, *steps, groups, deform_groups)


def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """`deform_conv2d` whose taps are also multiplied by `mask` at each output pixel.

    Args:
        mask: (B, D K, h, w), of each group tap by tap in row order.
        bias: (O,).
        input, offset, weight, stride, padding, dilation, groups, deform_groups: as in `deform_conv2d`.

    Returns:
        (B, O, h, w), differentiable in all tensors.

    Raises:
        ConfigError: shapes that do not fit, an output without pixels.
    """
    steps = _pair(stride), _pair(padding), _pair(dilation)
    _check("modulated_deform_conv2d", input, offset, mask, weight, bias, steps, groups, deform_groups)
    tensors = [x for x in (input, offset, mask, weight, bias) if x is not None]
    function = compiled("modulated_deform_conv2d", *tensors) if len(input) else None
    if function is not None:
        return function(input, offset, mask, weight, bias, *steps, groups, deform_groups)
    return _torch_form(input, offset, mask, weight, bias, *steps, groups, deform_groups)


def _torch_form(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    deform_groups: int,
) -> Tensor:
    """Each tap of each output pixel is a weighted sum of four rows of the map; the kernel is a product of matrices."""
    batch, channels = input.shape[:2]
    h, w = offset.shape[-2:]
    kernel = weight.shape[-2:]
    taps = kernel[0] * kernel[1]
    offset = offset.unflatten(1, (deform_groups, taps, 2)).permute(0, 1, 4, 5, 2, 3)  # (B, D, h, w, K, 2)
    if offset.dtype in (torch.float16, torch.bfloat16):
        offset = offset.float()
    position = offset + _taps(kernel, (h, w), stride, padding, dilation, offset)
    index, part = _corners(position, input.shape[-2:])  # (B, D, h, w, K, 4)
    if mask is not None:
        part = part * mask.unflatten(1, (deform_groups, taps)).permute(0, 1, 3, 4, 2)[..., None]
    first = torch.arange(batch * deform_groups, device=input.device).view(batch, deform_groups, 1, 1, 1, 1)
    index = index + first * (input.shape[2] * input.shape[3])
    rows = input.unflatten(1, (deform_groups, -1)).permute(0, 1, 3, 4, 2).flatten(0, 3)  # (B D H W, C / D)
    columns = weighted_rows(rows, index, part.to(rows.dtype))  # (B, D, h, w, K, C / D)
    columns = columns.permute(0, 2, 3, 4, 1, 5).reshape(batch * h * w, taps, groups, channels // groups)
    kernels = weight.flatten(2).unflatten(0, (groups, -1)).to(columns.dtype)  # (G, O / G, C / G, K)
    output = torch.einsum("nkgc,gock->ngo", columns, kernels).reshape(batch, h, w, len(weight))
    return (output if bias is None else output + bias.to(output.dtype)).permute(0, 3, 1, 2).contiguous()


def _taps(
    kernel: Sequence[int],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    like: Tensor,
) -> Tensor:
    """Where the taps are without offsets: (h, w, K, 2), y and x."""
    y, x = (
        torch.arange(size[i])[:, None] * stride[i] - padding[i] + torch.arange(kernel[i]) * dilation[i] for i in (0, 1)
    )  # (h, kh), (w, kw)
    shape = (*size, *kernel)
    grid = torch.stack([y[:, None, :, None].expand(shape), x[None, :, None, :].expand(shape)], -1)
    return grid.flatten(2, 3).to(like)


def _corners(position: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Indices into the flat map and weights (..., 4) of the pixels around `position` (..., 2); weight 0 outside.

    Positions a pixel or further outside pass no gradient on, as in mmcv's kernel.
    """
    size = position.new_tensor(list(shape))
    inside = ((position > -1) & (position < size)).all(-1, keepdim=True)
    position = torch.where(inside, position, -2.0)
    low = position.detach().floor()
    high_part = position - low
    both = torch.stack([low, low + 1], -1)  # (..., 2, 2): axis, low or high
    parts = torch.stack([1 - high_part, high_part], -1) * ((both >= 0) & (both < size[:, None]))
    y, x = torch.minimum(both.clamp(min=0), size[:, None] - 1).long().unbind(-2)
    weight_y, weight_x = parts.unbind(-2)
    index = y[..., :, None] * shape[1] + x[..., None, :]
    return index.flatten(-2), (weight_y[..., :, None] * weight_x[..., None, :]).flatten(-2)


def _pair(value: Pair) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _check(
    name: str,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    steps: tuple[tuple[int, int], ...],
    groups: int,
    deform_groups: int,
) -> None:
    if input.ndim != 4 or weight.ndim != 4:
        shapes = f"input {tuple(input.shape)} and weight {tuple(weight.shape)}"
        raise ConfigError(f"{name}: {shapes} given; expected (B, C, H, W) and (O, C / groups, kh, kw)")
    channels = input.shape[1]
    if channels % groups or len(weight) % groups or channels % deform_groups or weight.shape[1] != channels // groups:
        numbers = f"groups={groups} and deform_groups={deform_groups} for {channels} channels"
        raise ConfigError(f"{name}: {numbers} and a weight of shape {tuple(weight.shape)} do not fit")
    kernel, taps = weight.shape[2:], weight.shape[2] * weight.shape[3]
    h, w = (
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for n, k, stride, padding, dilation in zip(input.shape[2:], kernel, *steps)
    )
    if min(h, w) < 1:
        raise ConfigError(f"{name}: the map {tuple(input.shape[2:])} is too small for the kernel {tuple(kernel)}")
    wanted = {"offset": (len(input), 2 * deform_groups * taps, h, w), "mask": (len(input), deform_groups * taps, h, w)}
    for what, x in (("offset", offset), ("mask", mask)):
        if x is not None and x.shape != wanted[what]:
            raise ConfigError(f"{name}: {what} of shape {tuple(x.shape)} given; expected {wanted[what]}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ConfigError(f"{name}: bias of shape {tuple(bias.shape)} given; expected ({len(weight)},)")
