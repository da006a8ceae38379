"""FPNHead: the semantic segmentation head of Panoptic FPN.

Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019, section 3.1. State-dict names are mmseg's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from visionpatch.errors import ConfigError
from visionpatch.heads.decode_head import BN, DecodeHead
from visionpatch.layers.conv_module import ConvModule
from visionpatch.layers.resize import resize
from visionpatch.registry import MODELS


@MODELS.register_module()
class FPNHead(DecodeHead):
    """Every map goes through conv blocks with x2 upsampling until it has the first map's size; the sum is classified.

    Args:
        feature_strides: stride of each map that is read; the first is the smallest, the others it times powers of 2.
        norm_cfg: norm of the conv blocks; the rest as in `DecodeHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        num_classes: int,
        feature_strides: Sequence[int] = (4, 8, 16, 32),
        in_index: Sequence[int] | None = None,
        dropout_ratio: float = 0.1,
        norm_cfg: Mapping[str, Any] | None = BN,
        align_corners: bool = False,
        ignore_index: int = 255,
        loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            channels,
            num_classes=num_classes,
            in_index=in_index,
            dropout_ratio=dropout_ratio,
            align_corners=align_corners,
            ignore_index=ignore_index,
            loss_decode=loss_decode,
        )
        if len(feature_strides) != len(self.in_channels) or min(feature_strides) != feature_strides[0]:
            raise ConfigError(
                f"FPNHead: feature_strides={tuple(feature_strides)} must have one entry per map of "
                f"in_channels={self.in_channels}, the smallest first"
            )
        self.scale_heads = nn.ModuleList()
        for width, stride in zip(self.in_channels, feature_strides, strict=True):
            doublings = int(math.log2(stride / feature_strides[0]))
            self.scale_heads.append(_scale_head(width, channels, doublings, norm_cfg, align_corners))

    def decode(self, maps: list[Tensor]) -> Tensor:
        """Maps of the given strides -> (B, channels, H, W) at the first map's size."""
        total = self.scale_heads[0](maps[0])
        for head, x in zip(self.scale_heads[1:], maps[1:], strict=True):
            total = total + resize(head(x), total.shape[-2:], self.align_corners)
        return total


def _scale_head(
    in_channels: int, channels: int, doublings: int, norm_cfg: Mapping[str, Any] | None, align_corners: bool
) -> nn.Sequential:
    """Conv blocks, each followed by a x2 upsampling; one block alone when there is nothing to double."""
    layers: list[nn.Module] = []
    for i in range(max(1, doublings)):
        layers.append(ConvModule(in_channels if i == 0 else channels, channels, 3, padding=1, norm_cfg=norm_cfg))
        if doublings:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners))
    return nn.Sequential(*layers)
