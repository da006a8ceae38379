"""Backbones: an image to a tuple of feature maps, fine to coarse."""

from visionpatch.backbones.crossformer import CrossFormer
from visionpatch.backbones.efficientnet_lite import EfficientNetLite
from visionpatch.backbones.efficientnet_v2 import EfficientNetV2
from visionpatch.backbones.resnet import ResNet
from visionpatch.backbones.sag_vit import SAGViT

__all__ = ["CrossFormer", "EfficientNetLite", "EfficientNetV2", "ResNet", "SAGViT"]
