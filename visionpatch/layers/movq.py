"""Encoder and decoder of MoVQ (Zheng et al., "MoVQ: Modulating Quantized Vectors for High-Fidelity Image Generation",
NeurIPS 2022, arXiv:2209.09002), as re-implemented in SBER-MoVQGAN.

Letters: B batch, C channels, H, W sides of a map, Z channels of the latent map, h, w its sides, D channels of the code
map that modulates the norms.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.layers.attention import attention
from visionpatch.layers.spatial_norm import PlainGroupNorm, SpatialNorm

Norm = Callable[[int], nn.Module]


class MoVQEncoder(nn.Module):
    """Image (B, in_channels, H, W) -> latent map (B, Z, h, w); each level but the last halves the sides, rounding down.

    Args:
        in_channels: of the image.
        channels: of the first level; level i has ``channels * channel_mult[i]``.
        channel_mult: one factor a level.
        num_res_blocks: of each level.
        attn_levels: levels, 0 the finest, with attention after each block.
        z_channels: Z.
        dropout: inside the residual blocks, in training.
        num_groups: of the norms.
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 4),
        num_res_blocks: int = 2,
        attn_levels: Sequence[int] = (3,),
        z_channels: int = 4,
        dropout: float = 0.0,
        num_groups: int = 32,
    ) -> None:
        super().__init__()

        def norm(width: int) -> nn.Module:
            return PlainGroupNorm(width, num_groups)

        widths = [channels * factor for factor in channel_mult]
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.down = nn.ModuleList()
        for i, (before, width) in enumerate(zip([channels, *widths], widths)):
            level = Level(before, width, num_res_blocks, i in attn_levels, norm, dropout)
            if i < len(widths) - 1:
                level.downsample = Downsample(width)
            self.down.append(level)
        self.mid = Middle(widths[-1], norm, dropout)
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], z_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv_in(image)
        for level in self.down:
            x = level(x)
        return self.conv_out(silu(self.norm_out(self.mid(x))))


class MoVQDecoder(nn.Module):
    """Latent map (B, Z, h, w) -> image (B, out_channels, H, W); each level but the finest doubles the sides.

    Args:
        out_channels: of the image.
        channels, channel_mult, num_res_blocks, attn_levels, z_channels, dropout: as of `MoVQEncoder`; a level has one
            block more.
        code_channels: D, what the norms are modulated by; None: plain group norms.
        num_groups, norm_affine, norm_conv: `num_groups`, `affine` and `add_conv` of `SpatialNorm`.
    """

    def __init__(
        self,
        out_channels: int = 3,
        channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 4),
        num_res_blocks: int = 2,
        attn_levels: Sequence[int] = (3,),
        z_channels: int = 4,
        code_channels: int | None = 4,
        dropout: float = 0.0,
        num_groups: int = 32,
        norm_affine: bool = True,
        norm_conv: bool = False,
    ) -> None:
        super().__init__()

        def norm(width: int) -> nn.Module:
            if code_channels is None:
                return PlainGroupNorm(width, num_groups)
            return SpatialNorm(width, code_channels, num_groups, norm_affine, norm_conv)

        widths = [channels * factor for factor in channel_mult]
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], norm, dropout)
        levels = []
        for i, before in zip(reversed(range(len(widths))), [widths[-1], *reversed(widths)]):
            level = Level(before, widths[i], num_res_blocks + 1, i in attn_levels, norm, dropout)
            if i > 0:
                level.upsample = Upsample(widths[i])
            levels.append(level)
        self.up = nn.ModuleList(reversed(levels))  # 0: the finest
        self.norm_out = norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(self, latent: Tensor, code: Tensor | None = None) -> Tensor:
        """`latent` (B, Z, h, w) and the code map (B, D, h, w), which plain norms do without."""
        x = self.mid(self.conv_in(latent), code)
        for level in reversed(self.up):  # type: ignore[call-overload]
            x = level(x, code)
        return self.conv_out(silu(self.norm_out(x, code)))


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention if `attend`, and then a change of resolution."""

    def __init__(self, channels: int, width: int, depth: int, attend: bool, norm: Norm, dropout: float) -> None:
        super().__init__()
        before = [channels] + [width] * (depth - 1)
        self.block = nn.ModuleList(ResidualBlock(c, width, norm, dropout) for c in before)
        self.attn = nn.ModuleList(AttentionBlock(width, norm) for _ in before if attend)
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x, code)
            if self.attn:
                x = self.attn[i](x, code)
        resample = self.downsample or self.upsample
        return x if resample is None else resample(x)


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, width: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(width, width, norm, dropout)
        self.attn_1 = AttentionBlock(width, norm)
        self.block_2 = ResidualBlock(width, width, norm, dropout)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x, code), code), code)


class ResidualBlock(nn.Module):
    """norm, swish, 3x3 convolution, twice, beside a shortcut, 1x1 where the channels change."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(in_channels), norm(out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None
        self.dropout = dropout

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        y = self.conv1(silu(self.norm1(x, code)))
        y = F.dropout(silu(self.norm2(y, code)), self.dropout, self.training)
        return self.conv2(y) + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class AttentionBlock(nn.Module):
    """Attention between all points of a map, one head, beside a shortcut."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        y = self.norm(x, code)
        q, k, v = (part(y).flatten(2).transpose(1, 2)[:, None] for part in (self.q, self.k, self.v))  # (B, 1, N, C)
        mixed = attention(q, k, v)[:, 0].transpose(1, 2)  # (B, C, N)
        return x + self.proj_out(mixed.reshape(x.shape))


class Downsample(nn.Module):
    """(B, C, H, W) -> (B, C, H // 2, W // 2): zeros at the right and bottom, 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W): each point as 2 x 2, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return conv_of_doubled(x, self.conv.weight, self.conv.bias)


def conv_of_doubled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3 convolution (C', C, 3, 3) of `x` (B, C, H, W) with each point as 2 x 2: (B, C', 2H, 2W).

    Two of the three rows that a result sees are the same row of `x`, and so are two of three columns: each of the four
    results at a point is a 2x2 convolution of `x` whose kernel holds sums. 4/9 of the multiplications, and no doubled
    map; equal but for rounding.
    """
    padded, (height, width) = F.pad(x, (1, 1, 1, 1)), x.shape[-2:]
    out = None
    for row, kernels in enumerate(_merged(weight, 2)):
        for column, kernel in enumerate(_merged(kernels, 3)):
            part = padded[:, :, row : row + height + 1, column : column + width + 1]
            found = F.conv2d(part, kernel, bias)  # (B, C', H, W)
            if out is None:
                out = found.new_empty(*found.shape[:3], 2, width, 2)  # (B, C', H, 2, W, 2)
            out[:, :, :, row, :, column] = found
    assert out is not None
    return out.flatten(4).flatten(2, 3)


def _merged(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The kernel's three lines along `dim` as two, for the first and for the second half of a point."""
    a, b, c = kernel.unbind(dim)
    return torch.stack([a, b + c], dim), torch.stack([a + b, c], dim)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), in the memory of `x` where no gradient is taken."""
    return F.silu(x, inplace=not torch.is_grad_enabled())
