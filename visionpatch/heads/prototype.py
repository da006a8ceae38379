"""Prototype matching: the baseline of few-shot segmentation that has no parameters.

Masked average pooling is that of Zhang et al., SG-One, arXiv 1810.09091; scoring a pixel by its cosines with a
prototype of the class and one of the rest is that of Wang et al., PANet, ICCV 2019. Letters: B queries, K shots, C
channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from visionpatch.heads.few_shot import FewShotHead, Support, unique_sets
from visionpatch.heads.prior import as_tuple
from visionpatch.layers.precision import at_least_float32
from visionpatch.layers.resize import resize
from visionpatch.registry import MODELS


@MODELS.register_module()
class PrototypeHead(FewShotHead):
    """Each pixel goes to the prototype, of the class or of everything else, with which it has the larger cosine.

    A prototype is the mean feature of the pixels of a mask, averaged over the shots that have such pixels. Without any
    it is 0 and so is its cosine.

    Args:
        in_channels, in_index: of the maps that are compared, resized to the finest one and concatenated.
        scale: factor of the cosines in the logits (20 in PANet); it changes probabilities, not predictions.
        ignore_index, loss_decode: as in `FewShotHead`.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        in_index: int | Sequence[int] = -1,
        *,
        scale: float = 20.0,
        ignore_index: int = 255,
        loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(as_tuple(in_channels), as_tuple(in_index), ignore_index=ignore_index, loss_decode=loss_decode)
        self.scale = scale

    def encode_support(self, features: Sequence[Tensor], masks: Tensor) -> dict[str, Tensor]:
        """Keys ``prototypes`` (K, 2, C), of the rest and of the class, and ``area`` (K, 2), their share of the pixels.

        A feature counts for the class with the share of its cell that the mask covers, pixels of 255 for neither.
        """
        maps = at_least_float32(self.joined(features))
        cover = torch.stack([masks == 0, masks == 1], 1).to(maps)
        cover = F.interpolate(cover, maps.shape[-2:], mode="area").flatten(2)  # (K, 2, h w)
        area = cover.sum(2)
        sums = cover @ maps.flatten(2).transpose(1, 2)  # (K, 2, C)
        return {"prototypes": sums / area.clamp(min=1e-6).unsqueeze(2), "area": area / cover.shape[2]}

    def forward(self, features: Sequence[Tensor], support: Sequence[Support], size: Sequence[int]) -> Tensor:
        maps = F.normalize(at_least_float32(self.joined(features)), dim=1)
        sets, _, owner = unique_sets(support, len(maps))
        prototypes = torch.stack([_mean(encoded) for encoded in sets])[owner.to(maps.device)]  # (B, 2, C)
        cosines = torch.einsum("bnc,bchw->bnhw", F.normalize(prototypes.to(maps), dim=2), maps)
        return resize(self.scale * cosines, size, align_corners=True)


def _mean(encoded: Support) -> Tensor:
    """(2, C): mean over the shots in which the prototype has an area."""
    present = (encoded["area"] > 0).unsqueeze(2)
    return (encoded["prototypes"] * present).sum(0) / present.sum(0).clamp(min=1)
