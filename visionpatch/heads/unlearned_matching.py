"""Unlearned measures of how alike two patches of two spectra are: the floor that a trained network must beat.

Letters: B pairs, H, W sides of a patch. For a model without backbone.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visionpatch.errors import ConfigError
from visionpatch.heads.patch_matching import Maps, MatchingHead
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample


class UnlearnedHead(MatchingHead):
    """Base: no parameters, the score is any number, higher where the patches are more alike."""

    probability = False

    def __init__(self) -> None:
        super().__init__((1,))

    def loss(self, visible_maps: Maps, thermal_maps: Maps, samples: Sequence[DataSample]) -> dict[str, Tensor]:
        raise ConfigError(f"{type(self).__name__} has nothing to learn; evaluate it with tools/test.py")


@MODELS.register_module()
class GradientNCCHead(UnlearnedHead):
    """Normalised cross-correlation, in -1..1, of the patches' gradient magnitudes.

    Edges survive a change of spectrum where brightness, and the sign of a gradient, do not. A patch without edges
    correlates with nothing: 0.
    """

    def outputs(self, visible: list[Tensor], thermal: list[Tensor], main_only: bool) -> dict[str, Tensor]:
        x, y = (_centred(gradient_magnitude(maps[0])) for maps in (visible, thermal))  # (B, H W)
        lengths = x.norm(dim=1) * y.norm(dim=1)
        return {"main": (x * y).sum(1) / lengths.clamp(min=torch.finfo(x.dtype).tiny)}


def gradient_magnitude(image: Tensor) -> Tensor:
    """Length of the gradient by Sobel filters, per pixel: (B, 1, H, W) -> (B, 1, H, W); borders are repeated."""
    row = torch.tensor([-1.0, 0.0, 1.0], dtype=image.dtype, device=image.device)
    smooth = torch.tensor([1.0, 2.0, 1.0], dtype=image.dtype, device=image.device)
    kernel = torch.outer(smooth, row) / 8  # a slope of 1 a pixel gives 1
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    both = F.conv2d(padded, torch.stack([kernel, kernel.t()])[:, None])  # (B, 2, H, W)
    return both.square().sum(1, keepdim=True).sqrt()


@MODELS.register_module()
class SIFTHead(UnlearnedHead):
    """Minus the distance, in -2..0, of OpenCV's upright SIFT descriptors of length 1 over the whole patch.

    A patch is stretched to 0..255 first. Runs on the CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        if not hasattr(cv2, "SIFT_create"):
            raise ConfigError(f"SIFTHead: OpenCV {cv2.__version__} has no SIFT; install opencv-python>=4.8")

    def outputs(self, visible: list[Tensor], thermal: list[Tensor], main_only: bool) -> dict[str, Tensor]:
        x, y = (sift_descriptors(maps[0]).to(maps[0]) for maps in (visible, thermal))
        return {"main": -(x - y).norm(dim=1)}


def sift_descriptors(patches: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, 128) float32 of length 1 on the CPU, zeros for a patch of one grey level."""
    sift = cv2.SIFT_create()  # type: ignore[attr-defined]
    rows = []
    for patch in patches[:, 0].detach().cpu().float().numpy():
        low, high = float(patch.min()), float(patch.max())
        grey = np.round((patch - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
        height, width = grey.shape
        # a descriptor reads 4 x 4 cells of 1.5 times the size of its point
        point = cv2.KeyPoint(x=(width - 1) / 2, y=(height - 1) / 2, size=min(height, width) / 6, angle=0)
        rows.append(torch.from_numpy(sift.compute(grey, [point])[1][0]))
    return F.normalize(torch.stack(rows), dim=1)


def _centred(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    return flat - flat.mean(1, keepdim=True)
