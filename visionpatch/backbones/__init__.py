"""Backbones: an image to a tuple of feature maps, fine to coarse."""

from visionpatch.backbones.crossformer import CrossFormer
from visionpatch.backbones.dependency_vit import DependencyViT
from visionpatch.backbones.efficientnet_lite import EfficientNetLite
from visionpatch.backbones.efficientnet_v2 import EfficientNetV2
from visionpatch.backbones.four_branch import FourBranchEncoder
from visionpatch.backbones.pair_encoder import PairEncoder
from visionpatch.backbones.patch_encoder import PatchEncoder
from visionpatch.backbones.resnet import ResNet
from visionpatch.backbones.sag_vit import SAGViT

__all__ = [
    "CrossFormer",
    "DependencyViT",
    "EfficientNetLite",
    "EfficientNetV2",
    "FourBranchEncoder",
    "PairEncoder",
    "PatchEncoder",
    "ResNet",
    "SAGViT",
]
