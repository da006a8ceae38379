"""Normalisation modulated by a latent code map.

Letters: B batch, C channels, H, W sides of the map, D channels of the code map, h, w its sides, s = H / h = W / w.
"""

from torch import Tensor, addcmul, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError

EPS = 1e-6  # as the published code


class SpatialNorm(nn.Module):
    """norm(x) * gamma(z) + beta(z) with gamma and beta linear in the code vector at each point (MoVQ, section 3.1).

    Args:
        channels: C, a multiple of `num_groups`.
        code_channels: D.
        num_groups: of the group norm.
        affine: the group norm scales and shifts channels by itself, as in the published re-implementation; the paper's
            has no parameters of its own.
        add_conv: a 3x3 convolution of the resized code map comes first.
        eps: added to the variance.

    Raises:
        ConfigError: channels that do not fall into groups.
    """

    def __init__(
        self,
        channels: int,
        code_channels: int,
        num_groups: int = 32,
        affine: bool = True,
        add_conv: bool = False,
        eps: float = EPS,
    ) -> None:
        super().__init__()
        check_groups(channels, num_groups)
        self.norm_layer = nn.GroupNorm(num_groups, channels, eps, affine)
        self.conv = nn.Conv2d(code_channels, code_channels, 3, padding=1) if add_conv else None
        self.conv_y = nn.Conv2d(code_channels, channels, 1)
        self.conv_b = nn.Conv2d(code_channels, channels, 1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """`x` (B, C, H, W) and `code` (B, D, h, w), which is resized to H, W by the nearest point, -> (B, C, H, W).

        A 1x1 convolution and that resizing commute, so that gamma and beta are computed at h, w. Where H / h and W / w
        are powers of two, no larger map of them exists: the product is broadcast over blocks of the pixels.
        """
        if self.conv is not None:
            code = self.conv(F.interpolate(code, x.shape[-2:], mode="nearest"))
        gamma, beta = self.conv_y(code), self.conv_b(code)  # (B, C, h, w)
        norm = self.norm_layer
        if norm.affine:  # (n * weight + bias) * gamma + beta = n * (weight * gamma) + (bias * gamma + beta)
            weight, bias = norm.weight[:, None, None], norm.bias[:, None, None]
            gamma, beta = gamma * weight, addcmul(beta, gamma, bias)
        normed = F.group_norm(x, norm.num_groups, eps=norm.eps)
        (height, width), (rows, columns) = x.shape[-2:], code.shape[-2:]
        if not (_doubled(height, rows) and _doubled(width, columns)):
            gamma, beta = (F.interpolate(one, (height, width), mode="nearest") for one in (gamma, beta))
            return addcmul(beta, normed, gamma)
        blocks = normed.unflatten(2, (rows, -1)).unflatten(4, (columns, -1))  # (B, C, h, s, w, s)
        return addcmul(beta[:, :, :, None, :, None], blocks, gamma[:, :, :, None, :, None]).flatten(4).flatten(2, 3)


class PlainGroupNorm(nn.GroupNorm):
    """A group norm that takes a code map and does not look at it."""

    def __init__(self, channels: int, num_groups: int = 32, eps: float = EPS) -> None:
        check_groups(channels, num_groups)
        super().__init__(num_groups, channels, eps)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        return super().forward(x)


def check_groups(channels: int, num_groups: int) -> None:
    if num_groups < 1 or channels % num_groups:
        raise ConfigError(f"a norm of {channels} channels in {num_groups} groups; channels must be a multiple of that")


def _doubled(side: int, start: int) -> bool:
    """Whether `side` is `start` times a power of two: there the nearest point is that of integer division, exactly."""
    ratio, rest = divmod(side, start)
    return rest == 0 and ratio > 0 and ratio & (ratio - 1) == 0
