"""Pooling the features of boxes from the level of the pyramid that fits their size.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, section 4.2; RoIAlign is that of He et al.,
"Mask R-CNN", ICCV 2017. Letters: B batch, R boxes of all pictures, C channels, H, W of a map, S side of the result.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from visionpatch.errors import ConfigError
from visionpatch.ops import roi_align
from visionpatch.registry import MODELS


@MODELS.register_module()
class RoIAlign(nn.Module):
    """Bilinear samples of a map in the cells of a grid over each box, averaged in each cell.

    Args:
        output_size: S, or (rows, columns), of the grid.
        spatial_scale: cells of the map to a pixel of the boxes.
        sampling_ratio: samples per cell and axis; 0: as many as it has pixels, rounded up.
        pool_mode: "avg" or "max" of the samples.
        aligned: shift by half a pixel, so that the centre of pixel 0 is at 0.5.
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        pool_mode: Literal["avg", "max"] = "avg",
        aligned: bool = True,
    ) -> None:
        super().__init__()
        rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
        if min(rows, columns) < 1 or sampling_ratio < 0 or spatial_scale <= 0 or pool_mode not in ("avg", "max"):
            raise ConfigError(
                f"RoIAlign: output_size={output_size} and spatial_scale={spatial_scale} must be positive, "
                f'sampling_ratio={sampling_ratio} not negative, pool_mode="{pool_mode}" avg or max'
            )
        self.output_size, self.spatial_scale, self.sampling_ratio = (rows, columns), spatial_scale, sampling_ratio
        self.pool_mode, self.aligned = pool_mode, aligned

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        """A map (B, C, H, W) and boxes (R, 5), picture's index and x1 y1 x2 y2 -> (R, C, rows, columns), float32."""
        with torch.autocast(x.device.type, enabled=False):  # half precision cannot hold coordinates
            return roi_align(
                x.float(), rois.float(), self.output_size, self.spatial_scale, self.sampling_ratio, self.pool_mode,
                self.aligned,
            )  # fmt: skip


@MODELS.register_module()
class SingleRoIExtractor(nn.Module):
    """Every box is pooled from one level: level 0 up to sides of twice `finest_scale`, the next for each doubling.

    Args:
        roi_layer: config of the pooling, such as ``dict(type="RoIAlign", output_size=7, sampling_ratio=0)``; its
            `spatial_scale` is set for every level.
        out_channels: channels C of the maps.
        featmap_strides: strides of the levels that are used, fine to coarse.
        finest_scale: side in pixels from whose double on boxes leave the finest level.
    """

    def __init__(
        self, roi_layer: Mapping[str, Any], out_channels: int, featmap_strides: Sequence[int], finest_scale: float = 56
    ) -> None:
        super().__init__()
        if not featmap_strides or min(featmap_strides) <= 0 or finest_scale <= 0:
            raise ConfigError(
                f"SingleRoIExtractor: featmap_strides={tuple(featmap_strides)} and finest_scale={finest_scale} must be "
                "positive"
            )
        layers = [MODELS.build({**roi_layer, "spatial_scale": 1 / stride}) for stride in featmap_strides]
        self.roi_layers = nn.ModuleList(layers)
        self.out_channels, self.featmap_strides = out_channels, tuple(featmap_strides)
        self.finest_scale = finest_scale

    @property
    def output_size(self) -> tuple[int, int]:
        """Rows and columns of a result."""
        return self.roi_layers[0].output_size  # type: ignore[return-value]

    def levels(self, rois: Tensor) -> Tensor:
        """The level (R,) that each of `rois` (R, 5) is pooled from."""
        side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt()
        level = (side / self.finest_scale + 1e-6).log2().floor()
        return level.clamp(0, len(self.roi_layers) - 1).long()

    def forward(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Maps (B, C, H_i, W_i), of which the first are used, and `rois` (R, 5) -> (R, C, S, S)."""
        if len(features) < len(self.roi_layers):
            raise ConfigError(
                f"SingleRoIExtractor: featmap_strides={self.featmap_strides}, but there are {len(features)} maps"
            )
        pooled = rois.new_zeros(len(rois), self.out_channels, *self.output_size)
        level = self.levels(rois)
        for number, layer in enumerate(self.roi_layers):
            chosen = (level == number).nonzero().flatten()
            if len(chosen):
                pooled = pooled.index_put((chosen,), layer(features[number], rois[chosen]))
        return pooled
