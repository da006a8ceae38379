"""Large-scale jitter: resize far up or down, cut, pad."""

from collections.abc import Sequence
from typing import Any

from visionpatch.registry import TRANSFORMS

from .base import BaseTransform, Results, pair
from .crop import RandomCrop
from .flip import Pad
from .instances import FilterAnnotations
from .resize import RandomResize


@TRANSFORMS.register_module()
class LargeScaleJitter(BaseTransform):
    """Resize by a random factor, cut a random window, pad to one size (arXiv 2012.07177, section 3).

    Objects that end up outside the window, or smaller than `min_gt_bbox_wh`, are left out.

    Args:
        scale: (width, height) of the result; the picture is fitted into it times the factor.
        ratio_range: (low, high) of the factor; the paper's standard jitter is 0.8 to 1.25.
        min_gt_bbox_wh: as FilterAnnotations.
        recompute_bbox: put the boxes around what is left of the masks.
        pad_val: value of the image's padding.
    """

    def __init__(
        self,
        scale: int | Sequence[int] = (1024, 1024),
        ratio_range: tuple[float, float] = (0.1, 2.0),
        min_gt_bbox_wh: Sequence[float] = (0.01, 0.01),
        recompute_bbox: bool = False,
        pad_val: float = 0,
    ) -> None:
        self.scale = pair("LargeScaleJitter: scale", scale)
        size = self.scale[1], self.scale[0]
        self.steps: list[Any] = [
            RandomResize(self.scale, ratio_range, keep_ratio=True),
            RandomCrop(size, allow_negative_crop=True, recompute_bbox=recompute_bbox),
            FilterAnnotations(min_gt_bbox_wh),
            Pad(size=self.scale, pad_val=pad_val),
        ]

    def transform(self, results: Results) -> Results:
        for step in self.steps:
            if "gt_bboxes" in results or not isinstance(step, FilterAnnotations):
                results = step.transform(results)
        return results
