"""Losses used by more than one head."""

from visionpatch.losses.cross_entropy import CrossEntropyLoss
from visionpatch.losses.dice import DiceLoss
from visionpatch.losses.focal import FocalLoss
from visionpatch.losses.iou import BoxLoss, CIoULoss, DIoULoss, GIoULoss, IoULoss
from visionpatch.losses.l1 import L1Loss, SmoothL1Loss
from visionpatch.losses.perceptual import LPIPS, FeatureDistance
from visionpatch.losses.tokenizer import TokenizerLoss

__all__ = [
    "BoxLoss",
    "CIoULoss",
    "CrossEntropyLoss",
    "DIoULoss",
    "DiceLoss",
    "FeatureDistance",
    "FocalLoss",
    "GIoULoss",
    "IoULoss",
    "L1Loss",
    "LPIPS",
    "SmoothL1Loss",
    "TokenizerLoss",
]
