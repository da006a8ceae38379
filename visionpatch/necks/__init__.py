"""Necks: a tuple of feature maps in, a tuple of feature maps out."""

from visionpatch.necks.fpn import FPN
from visionpatch.necks.plain import FeaturePyramidFromPlain

__all__ = ["FPN", "FeaturePyramidFromPlain"]
