"""Bilinear resizing of feature maps and logits."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def resize(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Resize (B, C, h, w) bilinearly to (B, C, H, W), `size` = (H, W); the map itself when it has that size already."""
    height, width = int(size[0]), int(size[1])
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=align_corners)
