"""Anchors: boxes of fixed shapes around every cell of every feature map.

Ren et al., "Faster R-CNN", NIPS 2015, section 3.1; the octaves are those of Lin et al., "Focal Loss for Dense Object
Detection", ICCV 2017, section 4. Letters: A anchors of a cell, H, W rows and columns of a map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from visionpatch.errors import ConfigError
from visionpatch.registry import TASK_UTILS


@TASK_UTILS.register_module()
class AnchorGenerator:
    """The anchors of each level: ``scales`` times ``ratios`` boxes a cell, the ratio being the slower index.

    A box of scale s and ratio r (height / width) on a level of base size b is ``b s / sqrt(r)`` wide and
    ``b s sqrt(r)`` high; nothing is rounded. The centre of the cell in row y and column x is (x, y) times the stride,
    its upper left corner, plus `center_offset` times the base size.

    Args:
        strides: pixels per cell of each level, fine to coarse.
        ratios: heights over widths.
        scales: sizes in units of the base size; None: `octave_base_scale` times ``2^(i / scales_per_octave)``.
        base_sizes: one length a level; None: the strides.
        scale_major: True lets the scale be the faster index, False the ratio.
        octave_base_scale, scales_per_octave: see `scales`.
        center_offset: in [0, 1].

    Raises:
        ConfigError: scales given twice or not at all; lists of different lengths; a length that is not positive.
    """

    def __init__(
        self,
        strides: Sequence[int],
        ratios: Sequence[float],
        scales: Sequence[float] | None = None,
        base_sizes: Sequence[float] | None = None,
        scale_major: bool = True,
        octave_base_scale: float | None = None,
        scales_per_octave: int | None = None,
        center_offset: float = 0.0,
    ) -> None:
        octaves = octave_base_scale is not None and scales_per_octave is not None
        if octaves == (scales is not None):
            raise ConfigError(
                "AnchorGenerator: give either scales or both octave_base_scale and scales_per_octave, got "
                f"scales={scales}, octave_base_scale={octave_base_scale}, scales_per_octave={scales_per_octave}"
            )
        if octave_base_scale is not None and scales_per_octave is not None:
            scales = [2 ** (i / scales_per_octave) * octave_base_scale for i in range(scales_per_octave)]
        self.strides = tuple(strides)
        self.base_sizes = tuple(self.strides if base_sizes is None else base_sizes)
        self.scales, self.ratios = tuple(scales or ()), tuple(ratios)
        self.scale_major, self.center_offset = scale_major, center_offset
        if len(self.base_sizes) != len(self.strides):
            raise ConfigError(
                f"AnchorGenerator: {len(self.base_sizes)} base_sizes for {len(self.strides)} strides; one a level"
            )
        for name in ("strides", "base_sizes", "scales", "ratios"):
            values = getattr(self, name)
            if not values or not all(isinstance(value, int | float) and value > 0 for value in values):
                raise ConfigError(f"AnchorGenerator: {name}={values}; expected positive numbers")

    @property
    def num_levels(self) -> int:
        return len(self.strides)

    @property
    def num_anchors(self) -> int:
        """Anchors A of a cell, the same on every level."""
        return len(self.scales) * len(self.ratios)

    def cell(self, level: int) -> Tensor:
        """The anchors (A, 4) of the cell in row 0 and column 0 of `level`."""
        size = self.base_sizes[level]
        scales = torch.tensor(self.scales, dtype=torch.float32)
        tall = torch.tensor(self.ratios, dtype=torch.float32).sqrt()
        wide = 1 / tall
        if self.scale_major:
            widths, heights = (size * wide[:, None] * scales).flatten(), (size * tall[:, None] * scales).flatten()
        else:
            widths, heights = (size * scales[:, None] * wide).flatten(), (size * scales[:, None] * tall).flatten()
        half, centre = torch.stack([widths, heights], 1) / 2, self.center_offset * size
        return torch.cat([centre - half, centre + half], 1)

    def grid(self, sizes: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> list[Tensor]:
        """The anchors of maps of (H, W) cells: (H * W * A, 4) a level, in the order row, column, anchor."""
        levels = []
        for level, (height, width) in enumerate(sizes):
            stride = self.strides[level]
            x = torch.arange(width, device=device, dtype=torch.float32) * stride
            y = torch.arange(height, device=device, dtype=torch.float32) * stride
            y, x = torch.meshgrid(y, x, indexing="ij")
            shift = torch.stack([x, y, x, y], -1).view(-1, 1, 4)  # (H * W, 1, 4)
            levels.append((shift + self.cell(level).to(device)).view(-1, 4))
        return levels

    def inside(
        self, sizes: Sequence[tuple[int, int]], pad_shape: tuple[int, int], device: torch.device | str = "cpu"
    ) -> Tensor:
        """Which anchors, all levels joined, belong to cells that begin inside a picture of `pad_shape` (H, W)."""
        flags = []
        for (height, width), stride in zip(sizes, self.strides, strict=True):
            rows = torch.arange(height, device=device) * stride < pad_shape[0]
            columns = torch.arange(width, device=device) * stride < pad_shape[1]
            cells = (rows[:, None] & columns).flatten()
            flags.append(cells[:, None].expand(-1, self.num_anchors).flatten())
        return torch.cat(flags)
