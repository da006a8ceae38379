"""What happens to one sample between its files and the model."""

from .base import BaseTransform, Compose
from .choice import RandomChoice
from .crop import CenterCrop, RandomCrop, RandomResizedCrop
from .erase import RandomErasing
from .few_shot import ForegroundCrop, RandomGaussianBlur, RandomRotate, RandomScale, ResizeToCanvas, SelectClass
from .flip import Pad, RandomFlip
from .instances import FilterAnnotations
from .jitter import LargeScaleJitter
from .loading import LoadAnnotations, LoadImage
from .mix import MixUp, Mosaic
from .pack import PackInputs
from .patch_pairs import AugmentPatchPair, LoadPatchPair, PackPatchPair
from .photometric import ColorJitter, PhotoMetricDistortion
from .rand_augment import RandAugment
from .resize import RandomChoiceResize, RandomResize, Resize, ResizeEdge

__all__ = [
    "AugmentPatchPair",
    "BaseTransform",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "FilterAnnotations",
    "ForegroundCrop",
    "LargeScaleJitter",
    "LoadAnnotations",
    "LoadImage",
    "LoadPatchPair",
    "MixUp",
    "Mosaic",
    "PackInputs",
    "PackPatchPair",
    "Pad",
    "PhotoMetricDistortion",
    "RandAugment",
    "RandomChoice",
    "RandomChoiceResize",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomResize",
    "RandomResizedCrop",
    "RandomRotate",
    "RandomScale",
    "Resize",
    "ResizeEdge",
    "ResizeToCanvas",
    "SelectClass",
]
