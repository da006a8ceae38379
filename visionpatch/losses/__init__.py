"""Losses used by more than one head."""

from visionpatch.losses.cross_entropy import CrossEntropyLoss
from visionpatch.losses.dice import DiceLoss
from visionpatch.losses.focal import FocalLoss
from visionpatch.losses.iou import BoxLoss, CIoULoss, DIoULoss, GIoULoss, IoULoss
from visionpatch.losses.l1 import L1Loss, SmoothL1Loss

__all__ = [
    "BoxLoss",
    "CIoULoss",
    "CrossEntropyLoss",
    "DIoULoss",
    "DiceLoss",
    "FocalLoss",
    "GIoULoss",
    "IoULoss",
    "L1Loss",
    "SmoothL1Loss",
]
