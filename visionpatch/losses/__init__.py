"""Losses used by more than one head."""

from visionpatch.losses.cross_entropy import CrossEntropyLoss
from visionpatch.losses.dice import DiceLoss
from visionpatch.losses.focal import FocalLoss
from visionpatch.losses.l1 import L1Loss, SmoothL1Loss

__all__ = ["CrossEntropyLoss", "DiceLoss", "FocalLoss", "L1Loss", "SmoothL1Loss"]
