"""Losses used by more than one head."""

from visionpatch.losses.cross_entropy import CrossEntropyLoss
from visionpatch.losses.dice import DiceLoss

__all__ = ["CrossEntropyLoss", "DiceLoss"]
