"""Necks: a tuple of feature maps in, a tuple of feature maps out."""

from visionpatch.necks.fpn import FPN

__all__ = ["FPN"]
