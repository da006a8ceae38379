"""Backbones: an image to a tuple of feature maps, fine to coarse."""
from visionpatch.backbones.crossformer import CrossFormer

__all__ = ["CrossFormer"]
