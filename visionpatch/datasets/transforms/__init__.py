"""What happens to one sample between its files and the model."""

from .base import BaseTransform, Compose
from .crop import CenterCrop, RandomCrop, RandomResizedCrop
from .flip import Pad, RandomFlip
from .loading import LoadAnnotations, LoadImage
from .pack import PackInputs
from .photometric import PhotoMetricDistortion
from .resize import RandomResize, Resize, ResizeEdge

__all__ = [
    "BaseTransform",
    "CenterCrop",
    "Compose",
    "LoadAnnotations",
    "LoadImage",
    "PackInputs",
    "Pad",
    "PhotoMetricDistortion",
    "RandomCrop",
    "RandomFlip",
    "RandomResize",
    "RandomResizedCrop",
    "Resize",
    "ResizeEdge",
]
