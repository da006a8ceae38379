"""UPerHead: pyramid pooling on the last map and a feature pyramid over all of them.

Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018; the pooling is that of Zhao et al.,
"Pyramid Scene Parsing Network", CVPR 2017. State-dict names are mmseg's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visionpatch.heads.decode_head import BN, DecodeHead
from visionpatch.layers.conv_module import ConvModule
from visionpatch.layers.resize import resize
from visionpatch.registry import MODELS


@MODELS.register_module()
class UPerHead(DecodeHead):
    """Pooled last map, top-down sums over the lateral maps, all levels joined at the finest size.

    Args:
        pool_scales: sizes (n x n) to which the last map is average-pooled.
        norm_cfg: norm of the conv blocks; the rest as in `DecodeHead`. In training a batch norm needs more than one
            value per channel, so with a pool scale of 1 the batch must hold at least two images.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        num_classes: int,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
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

        def block(width: int, kernel_size: int) -> ConvModule:
            return ConvModule(width, channels, kernel_size, padding=kernel_size // 2, norm_cfg=norm_cfg)

        *finer, last = self.in_channels
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), block(last, 1)) for scale in pool_scales
        )
        self.bottleneck = block(last + len(pool_scales) * channels, 3)
        self.lateral_convs = nn.ModuleList(block(width, 1) for width in finer)
        self.fpn_convs = nn.ModuleList(block(channels, 3) for _ in finer)
        self.fpn_bottleneck = block(len(self.in_channels) * channels, 3)

    def decode(self, maps: list[Tensor]) -> Tensor:
        """Maps, fine to coarse -> (B, channels, H, W) at the first map's size."""
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps[:-1], strict=True)]
        laterals.append(self.pool(maps[-1]))
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + self._resize_to(laterals[i], laterals[i - 1])
        levels = [conv(x) for conv, x in zip(self.fpn_convs, laterals[:-1], strict=True)] + [laterals[-1]]
        return self.fpn_bottleneck(torch.cat([self._resize_to(x, levels[0]) for x in levels], dim=1))

    def pool(self, x: Tensor) -> Tensor:
        """Pyramid pooling: (B, C, h, w) -> (B, channels, h, w)."""
        pooled = [self._resize_to(module(x), x) for module in self.psp_modules]
        return self.bottleneck(torch.cat([x, *pooled], dim=1))

    def _resize_to(self, x: Tensor, like: Tensor) -> Tensor:
        return resize(x, like.shape[-2:], self.align_corners)
