"""Box deltas: a box relative to the anchor or proposal it is predicted from.

Girshick et al., "Rich feature hierarchies for accurate object detection and semantic segmentation", CVPR 2014,
appendix C. Boxes are x1 y1 x2 y2 in pixels; a width is x2 - x1. Letters: N boxes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from visionpatch.errors import ConfigError
from visionpatch.registry import TASK_UTILS

MAX_LOG_RATIO = abs(math.log(16 / 1000))  # a decoded side is at most 62.5 times the anchor's, and not below 1 / 62.5


@TASK_UTILS.register_module()
class DeltaXYWHBBoxCoder:
    """Shift of the centre in units of the anchor's sides, logarithm of the ratio of the sides, standardised.

    Args:
        target_means, target_stds: subtracted from, and divided into, dx, dy, dw, dh.
        clip_border: cut decoded boxes at the borders of the picture.

    Raises:
        ConfigError: not four numbers each, or a std that is not positive.
    """

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        clip_border: bool = True,
    ) -> None:
        if len(target_means) != 4 or len(target_stds) != 4 or min(target_stds) <= 0:
            raise ConfigError(
                f"DeltaXYWHBBoxCoder: target_means={tuple(target_means)}, target_stds={tuple(target_stds)}; expected "
                "four numbers each, the stds positive"
            )
        self.means, self.stds = tuple(target_means), tuple(target_stds)
        self.clip_border = clip_border

    def encode(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """The deltas (N, 4) that lead from `anchors` (N, 4) to `boxes` (N, 4)."""
        centre, size = _centre_and_size(anchors.float())
        box_centre, box_size = _centre_and_size(boxes.float())
        deltas = torch.cat([(box_centre - centre) / size, (box_size / size).log()], 1)
        return (deltas - deltas.new_tensor(self.means)) / deltas.new_tensor(self.stds)

    def decode(self, anchors: Tensor, deltas: Tensor, img_shape: Sequence[int] | None = None) -> Tensor:
        """The boxes (N, 4) that `deltas` (N, 4) lead to from `anchors` (N, 4), cut at `img_shape` (H, W)."""
        deltas = deltas.float() * deltas.new_tensor(self.stds).float() + deltas.new_tensor(self.means).float()
        centre, size = _centre_and_size(anchors.float())
        centre = centre + size * deltas[:, :2]
        half = size * deltas[:, 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() / 2
        boxes = torch.cat([centre - half, centre + half], 1)
        return clip_boxes(boxes, img_shape) if self.clip_border and img_shape is not None else boxes


def clip_boxes(boxes: Tensor, img_shape: Sequence[int]) -> Tensor:
    """`boxes` (N, 4) cut at the borders of a picture of (H, W) pixels."""
    height, width = img_shape[:2]
    return torch.stack(
        [boxes[:, 0].clamp(0, width), boxes[:, 1].clamp(0, height)]
        + [boxes[:, 2].clamp(0, width), boxes[:, 3].clamp(0, height)],
        dim=1,
    )


def box_iou(first: Tensor, second: Tensor, over_first: bool = False) -> Tensor:
    """Intersection over union of every pair, (N, 4) and (M, 4) -> (N, M); `over_first`: over the first box's area."""
    area, other = _area(first)[:, None], _area(second)
    width = torch.minimum(first[:, None, 2], second[:, 2]) - torch.maximum(first[:, None, 0], second[:, 0])
    height = torch.minimum(first[:, None, 3], second[:, 3]) - torch.maximum(first[:, None, 1], second[:, 1])
    common = width.clamp(min=0) * height.clamp(min=0)
    whole = area.expand_as(common) if over_first else area + other - common
    return common / whole.clamp(min=1e-6)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
