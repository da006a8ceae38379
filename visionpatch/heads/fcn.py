"""FCNHead: convolutions on one map; the usual auxiliary head.

Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015. State-dict names are mmseg's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visionpatch.errors import ConfigError
from visionpatch.heads.decode_head import BN, DecodeHead
from visionpatch.layers.conv_module import ConvModule
from visionpatch.registry import MODELS


@MODELS.register_module()
class FCNHead(DecodeHead):
    """`num_convs` conv blocks on the map of `in_index`, then the classifier.

    Args:
        num_convs: number of conv blocks; 0 needs `in_channels` equal to `channels`.
        kernel_size: size of their kernels, odd.
        concat_input: join the incoming map to the last block's output through one more block, ``conv_cat``.
        dilation: dilation of the blocks (not of ``conv_cat``).
        norm_cfg: norm of the conv blocks; the rest as in `DecodeHead`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        num_classes: int,
        num_convs: int = 2,
        kernel_size: int = 3,
        concat_input: bool = True,
        dilation: int = 1,
        in_index: int = -1,
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
        if len(self.in_channels) != 1:
            raise ConfigError(f"FCNHead reads one map: in_channels must be a number, got {tuple(self.in_channels)}")
        if num_convs < 0 or (num_convs == 0 and in_channels != channels):
            raise ConfigError(
                f"FCNHead: num_convs={num_convs} with in_channels={in_channels} and channels={channels}; without "
                "convolutions the two must be equal"
            )
        half = kernel_size // 2
        self.convs = nn.Sequential()
        for i in range(num_convs):
            width = in_channels if i == 0 else channels
            block = ConvModule(
                width, channels, kernel_size, padding=half * dilation, dilation=dilation, norm_cfg=norm_cfg
            )
            self.convs.append(block)
        self.conv_cat: nn.Module | None = None
        if concat_input:
            self.conv_cat = ConvModule(in_channels + channels, channels, kernel_size, padding=half, norm_cfg=norm_cfg)

    def decode(self, maps: list[Tensor]) -> Tensor:
        """One map (B, in_channels, H, W) -> (B, channels, H, W)."""
        x = self.convs(maps[0])
        return x if self.conv_cat is None else self.conv_cat(torch.cat([maps[0], x], dim=1))
