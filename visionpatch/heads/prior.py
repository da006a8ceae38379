"""The prior mask of few-shot segmentation: how much a query pixel's high-level feature resembles the class.

Xu et al., ICCV 2023, arXiv 2308.09294, section 3.4 ("pseudo mask aggregation"). Letters: B queries, K shots, C
channels, h, w sides of a query's map, P positions of a support map.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from visionpatch.errors import ConfigError
from visionpatch.heads.few_shot import FewShotHead, Support, foreground, unique_sets
from visionpatch.layers.precision import at_least_float32, without_autocast
from visionpatch.layers.resize import resize
from visionpatch.registry import MODELS

AT_ONCE = 2**25  # similarities held in memory together


@MODELS.register_module()
class PriorHead(FewShotHead):
    """The class is where the prior mask exceeds a threshold: a baseline without parameters.

    Args:
        in_channels, in_index: of the one map that is compared; the last one by default.
        map_size: sides to which support maps are resized, and the prior with them.
        threshold: of the prior, which fills 0..1 in every picture.
        ignore_index, loss_decode: as in `FewShotHead`.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        in_index: int | Sequence[int] = -1,
        *,
        map_size: int | Sequence[int] = 64,
        threshold: float = 0.5,
        ignore_index: int = 255,
        loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(as_tuple(in_channels), as_tuple(in_index), ignore_index=ignore_index, loss_decode=loss_decode)
        self.map_size, self.threshold = sides(map_size), threshold

    def encode_support(self, features: Sequence[Tensor], masks: Tensor) -> dict[str, Tensor]:
        """Keys ``keys`` (K, P, C) and ``mask`` (K, 1, *map_size)."""
        high = self.joined(features)
        return {"keys": support_keys(high, self.map_size), "mask": foreground(masks, self.map_size, high)}

    def forward(self, features: Sequence[Tensor], support: Sequence[Support], size: Sequence[int]) -> Tensor:
        prior = resize(prior_of(self.joined(features), support), self.map_size, align_corners=True)
        logits = torch.cat([self.threshold - prior, prior - self.threshold], 1)
        return resize(logits, size, align_corners=True)


@torch.no_grad()
def prior_of(high: Tensor, support: Sequence[Support]) -> Tensor:
    """High-level maps of B queries and their sets, with "keys" and "mask", to priors (B, 1, h, w); no gradient."""
    sets, members, _ = unique_sets(support, len(high))
    prior = high.new_empty(len(high), 1, *high.shape[-2:], dtype=at_least_float32(high).dtype)
    for encoded, queries in zip(sets, members):
        prior[queries] = prior_mask(high[queries], encoded["keys"], encoded["mask"])
    return prior


@torch.no_grad()
def support_keys(high: Tensor, size: Sequence[int]) -> Tensor:
    """High-level maps (K, C, h, w) to unit vectors at `size`, (K, P, C), float32."""
    high = resize(at_least_float32(high), size, align_corners=True)
    return F.normalize(high.flatten(2).transpose(1, 2).contiguous(), dim=2)


@torch.no_grad()
def prior_mask(high: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """The mask that each query pixel gathers from the support positions it resembles, stretched to 0..1, mean of shots.

    v_i = sum_j softmax_j(cos(q_i, s_j)) m_j, without temperature, then (v - min) / (max - min) over the query. The
    softmax is nearly uniform and the stretching amplifies rounding. So this is computed in float32 under autocast too,
    and with weights around their mean, which the stretching takes away again: sums of exp(c) - 1 times m - mean(m).

    Args:
        high: maps (B, C, h, w) of queries of one support set. keys: (K, P, C), of `support_keys`.
        mask: weights (K, 1, H, W) with H W = P.

    Returns:
        (B, 1, h, w), float32.
    """
    with without_autocast(high):
        query = at_least_float32(high).flatten(2).transpose(1, 2).flatten(0, 1)  # (B h w, C)
        query = F.normalize(query, dim=1)
        weights = mask.to(query).flatten(1)
        weights = torch.stack([weights - weights.mean(1, keepdim=True), torch.ones_like(weights)], 2)  # (K, P, 2)
        rows = max(1, AT_ONCE // (keys.shape[0] * keys.shape[1]))
        flat = keys.to(query).flatten(0, 1).T  # (C, K P)
        sums = torch.cat([_gather(part, flat, weights) for part in query.split(rows)], 1)  # (K, B h w, 2)
        values = (sums[..., 0] / (keys.shape[1] + sums[..., 1])).unflatten(1, (len(high), -1))  # (K, B, h w)
        low, top = values.amin(2, keepdim=True), values.amax(2, keepdim=True)
        values = ((values - low) / (top - low + 1e-7)).mean(0)
    return values.unflatten(1, high.shape[-2:]).unsqueeze(1)


def _gather(query: Tensor, keys: Tensor, weights: Tensor) -> Tensor:
    """(N, C), (C, K P), (K, P, 2) to the sums of exp(cosine) - 1 times each weight, (K, N, 2); no shift needed."""
    similar = (query @ keys).expm1_().unflatten(1, weights.shape[:2])  # (N, K, P)
    return similar.transpose(0, 1) @ weights


def sides(map_size: int | Sequence[int]) -> tuple[int, int]:
    """(H, W) of one number or two.

    Raises:
        ConfigError: anything but one or two positive numbers.
    """
    given = as_tuple(map_size) * (2 if isinstance(map_size, int) else 1)
    if len(given) != 2 or min(given) < 1:
        raise ConfigError(f"map_size = {map_size}; expected one positive number or (height, width)")
    return given[0], given[1]


def as_tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)
