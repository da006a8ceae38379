"""Losses that compare boxes instead of deltas, by how far they are from covering each other. Letters: N boxes."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from visionpatch.errors import ConfigError, nearest
from visionpatch.losses.reduction import weighted_sum
from visionpatch.registry import MODELS

MODES = ("log", "linear", "square")


class BoxLoss(nn.Module):
    """Base class; a subclass writes `each`. What divides is taken as at least `eps`, or has `eps` added."""

    def __init__(self, eps: float = 1e-6, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.eps, self.loss_weight = eps, loss_weight

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss (N,) of every pair of boxes (N, 4)."""
        raise NotImplementedError

    def forward(self, pred: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: float) -> Tensor:
        """Boxes (N, 4), x1 y1 x2 y2, both -> a scalar: each times `weight` (N,), summed, over `avg_factor`."""
        return self.loss_weight * weighted_sum(self.each(pred, target), weight, avg_factor)


@MODELS.register_module()
class IoULoss(BoxLoss):
    """Of the intersection over union i: ``-log(i)`` ("log"), ``1 - i`` ("linear") or ``1 - i^2`` ("square").

    Yu et al., "UnitBox", ACM MM 2016. An IoU counts as at least `eps`.
    """

    def __init__(
        self, mode: Literal["log", "linear", "square"] = "log", eps: float = 1e-6, loss_weight: float = 1.0
    ) -> None:
        super().__init__(eps, loss_weight)
        if mode not in MODES:
            raise ConfigError(f'IoULoss: mode="{mode}"' + nearest(str(mode), MODES))
        self.mode = mode

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        common, union = _common_and_union(pred, target)
        iou = (common / union.clamp(min=self.eps)).clamp(min=self.eps)
        return -iou.log() if self.mode == "log" else 1 - iou ** (1 if self.mode == "linear" else 2)


@MODELS.register_module()
class GIoULoss(BoxLoss):
    """One minus the generalised intersection over union: 0 of equal boxes, below 2 of far ones.

    Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019.
    """

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        common, union = _common_and_union(pred, target)
        union, whole = union.clamp(min=self.eps), _enclosing(pred, target).prod(1).clamp(min=self.eps)
        return 1 - common / union + (whole - union) / whole


@MODELS.register_module()
class DIoULoss(BoxLoss):
    """One minus the IoU, plus the squared distance of the centres over that of the corners of the enclosing box.

    Zheng et al., "Distance-IoU Loss", AAAI 2020, equation 7.
    """

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        iou, distance = self._iou_and_distance(pred, target)
        return 1 - iou + distance

    def _iou_and_distance(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        common, union = _common_and_union(pred, target)
        shift = (pred[:, :2] + pred[:, 2:] - target[:, :2] - target[:, 2:]) / 2
        diagonal = _enclosing(pred, target).square().sum(1) + self.eps
        return common / (union + self.eps), shift.square().sum(1) / diagonal


@MODELS.register_module()
class CIoULoss(DIoULoss):
    """DIoULoss plus a term v of unequal ratios of the sides, where the IoU is above 0.5; at most 2.

    Zheng et al., "Distance-IoU Loss", AAAI 2020, equations 8 to 11; the bound of 0.5 is that of the authors' later
    "Enhancing Geometric Factors", equation 9, and of mmdet.
    """

    def each(self, pred: Tensor, target: Tensor) -> Tensor:
        iou, distance = self._iou_and_distance(pred, target)
        angles = [torch.atan(w / (h + self.eps)) for w, h in ((b[:, 2:] - b[:, :2]).unbind(1) for b in (pred, target))]
        v = 4 / math.pi**2 * (angles[1] - angles[0]).square()
        with torch.no_grad():
            alpha = torch.where(iou > 0.5, v / (1 - iou + v), 0.0).nan_to_num(0.0)
        return 1 - (iou - distance - alpha * v).clamp(-1, 1)


def _common_and_union(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Areas (N,) of what two boxes share and of what they cover together."""
    low, high = torch.maximum(pred[:, :2], target[:, :2]), torch.minimum(pred[:, 2:], target[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    return common, sum((box[:, 2:] - box[:, :2]).prod(1) for box in (pred, target)) - common


def _enclosing(pred: Tensor, target: Tensor) -> Tensor:
    """Width and height (N, 2) of the smallest box around two."""
    low, high = torch.minimum(pred[:, :2], target[:, :2]), torch.maximum(pred[:, 2:], target[:, 2:])
    return (high - low).clamp(min=0)
