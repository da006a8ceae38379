"""Backbones: an image to a tuple of feature maps, fine to coarse."""

from visionpatch.backbones.crossformer import CrossFormer
from visionpatch.backbones.efficientnet_lite import EfficientNetLite
from visionpatch.backbones.resnet import ResNet

__all__ = ["CrossFormer", "EfficientNetLite", "ResNet"]
