"""FeaturePyramidFromPlain: a pyramid of maps from the equal maps of a plain transformer. B batch, C channels."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from visionpatch.errors import ConfigError
from visionpatch.registry import MODELS


@MODELS.register_module()
class FeaturePyramidFromPlain(nn.Module):
    """Four maps of one stride s to maps of strides s / 4, s / 2, s and 2 s.

    The first goes through two transposed convolutions of stride 2 with a LayerNorm over channels and GELU between, the
    second through one, the third stays, the fourth is max-pooled. An FPN or heads may follow.

    Args:
        in_channels: channels of the four incoming maps; one alone serves as all four.
        in_strides: their stride, the same for each.

    Attributes:
        out_channels: as `in_channels`; out_strides: finer, fine, same and coarser.

    Raises:
        ConfigError: neither one map nor four, unequal or odd strides; maps that do not fit `in_channels` (in forward).
    """

    def __init__(self, in_channels: Sequence[int], *, in_strides: Sequence[int] = (16, 16, 16, 16)) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)
        strides = set(in_strides)
        if len(self.in_channels) not in (1, 4) or len(strides) != 1 or min(strides) % 4:
            raise ConfigError(
                f"FeaturePyramidFromPlain: in_channels={self.in_channels}, in_strides={tuple(in_strides)}; expected "
                "one map or four, all of one stride that 4 divides"
            )
        self.out_channels = (self.in_channels * 4)[:4]
        stride = strides.pop()
        self.out_strides = (stride // 4, stride // 2, stride, 2 * stride)
        finest, fine = self.out_channels[:2]
        self.up4 = nn.Sequential(
            nn.ConvTranspose2d(finest, finest, 2, 2),
            ChannelNorm(finest),
            nn.GELU(),
            nn.ConvTranspose2d(finest, finest, 2, 2),
        )
        self.up2 = nn.ConvTranspose2d(fine, fine, 2, 2)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (B, in_channels[i], h, w) to maps of 4h x 4w, 2h x 2w, h x w and ceil(h / 2) x ceil(w / 2)."""
        given = tuple(f.shape[1] for f in features)
        if given != self.in_channels:
            raise ConfigError(
                f"FeaturePyramidFromPlain: in_channels={self.in_channels}, but the maps it got have channels {given}; "
                f"set in_channels={given} (the backbone's out_channels)"
            )
        first, second, third, fourth = (tuple(features) * 4)[:4]
        return self.up4(first), self.up2(second), third, F.max_pool2d(fourth, 2, ceil_mode=True)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of maps (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
