"""SCCANHead: the self-calibrated cross attention network of Xu et al., ICCV 2023, arXiv 2308.09294.

B queries, K shots of a support set, U support sets, C channels of the head, S sides (height, width) of its maps, P
positions of a map. Numbers in defaults are those of the published code, https://github.com/Sam1224/SCCAN.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError
from visionpatch.heads.few_shot import FewShotHead, Support, foreground, unique_sets
from visionpatch.heads.prior import prior_of, sides, support_keys
from visionpatch.layers.resize import resize
from visionpatch.layers.scca import MASK_EPS, SCCATransformer, SupportPatches
from visionpatch.registry import MODELS


@MODELS.register_module()
class SCCANHead(FewShotHead):
    """Mid-level maps of query and support set, a prior from high-level maps, cross attention, a decoder.

    Reads any backbone: two or more mid-level maps (of different strides, if need be) and one high-level map. Published:
    the last three stages of a ResNet of output stride 8, `in_channels` = (512, 1024), `in_index` = (0, 1),
    `high_index` = 2. Pictures and maps of any size; everything behind the reduction works at `map_size`.

    Ten tensors, of the last block's support half, take part in nothing and get no gradient (published networks have
    them); under distributed training set ``find_unused_parameters=True``.

    Args:
        in_channels, in_index: of the mid-level maps; a coarser one is resized to the finest.
        high_index: of the map the prior is computed from, in float32 and without gradient.
        channels: C. map_size: S, one number or (height, width).
        depth: blocks of cross attention. num_heads: of each. patch_size: side of a patch on the map.
        mlp_ratio: hidden channels of the blocks' perceptrons, in multiples of C.
        aspp_dilations: of the decoder's parallel 3x3 convolutions.
        prior_range: what the prior's 0 and 1 become before the query is merged with it. Published: (0, 1). A short
            training then mostly finds what stands out, whatever the support set; (-5, 5) gives the prior weight.
        mid_dropout: probability of dropping a channel of the reduced mid-level maps.
        dropout_ratio: the same before the last convolution.
        ignore_index, loss_decode: as in `FewShotHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (512, 1024),
        in_index: Sequence[int] = (0, 1),
        high_index: int = -1,
        *,
        channels: int = 256,
        map_size: int | Sequence[int] = 64,
        depth: int = 8,
        num_heads: int = 8,
        patch_size: int = 8,
        mlp_ratio: float = 1.0,
        aspp_dilations: Sequence[int] = (6, 12, 18),
        prior_range: Sequence[float] = (0.0, 1.0),
        mid_dropout: float = 0.5,
        dropout_ratio: float = 0.1,
        ignore_index: int = 255,
        loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(in_channels, in_index, ignore_index=ignore_index, loss_decode=loss_decode)
        if channels % num_heads or depth < 1 or patch_size < 1:
            raise ConfigError(
                f"SCCANHead: num_heads={num_heads} must divide channels={channels}, and depth={depth} and "
                f"patch_size={patch_size} be positive"
            )
        if len(prior_range) != 2:
            raise ConfigError(
                f"SCCANHead: prior_range={prior_range!r}; expected two numbers, for a prior of 0 and of 1"
            )
        self.prior_range = tuple(prior_range)
        self.high_index, self.channels, self.map_size = high_index, channels, sides(map_size)
        self.reduce_query = Reduction(sum(self.in_channels), channels)
        self.reduce_support = Reduction(sum(self.in_channels), channels)
        self.mid_dropout = nn.Dropout2d(mid_dropout)
        self.merge_query = Merge(2 * channels + 1, channels)
        self.merge_support = Merge(2 * channels + 1, channels)
        self.transformer = SCCATransformer(channels, depth, num_heads, patch_size, mlp_ratio)
        self.decoder = Decoder(channels, aspp_dilations, dropout_ratio)

    def encode_support(self, features: Sequence[Tensor], masks: Tensor) -> dict[str, Tensor]:
        """Keys ``features`` (K, C, *S), masked, ``mask`` (K, 1, *S), ``prototype`` (K, C), ``keys`` (K, P, C_high).

        An empty mask is allowed: features and prototype are then 0, and the prior is 0 everywhere.
        """
        maps = self._reduced(self.reduce_support, features)
        mask = foreground(masks, self.map_size, maps)
        maps = maps * mask
        prototype = maps.sum((2, 3)) / (mask.sum((2, 3)) + MASK_EPS)
        return {
            "features": maps,
            "mask": mask,
            "prototype": prototype,
            "keys": support_keys(self._high(features), self.map_size),
        }

    def prepare(self, support: Support) -> Support:
        """`support` with ``patches``: what queries see of it at each block, for queries that come one after another."""
        return {**support, "patches": self._support_branch([support])}

    def forward(self, features: Sequence[Tensor], support: Sequence[Support], size: Sequence[int]) -> Tensor:
        query = self._reduced(self.reduce_query, features)  # (B, C, *S)
        sets, _, owner = unique_sets(support, len(query))
        owner = owner.to(query.device)
        low, high = self.prior_range
        prior = low + (high - low) * prior_of(self._high(features), support)
        prior = resize(prior, self.map_size, align_corners=True)
        prototype = means(sets, "prototype")
        query = self.merge_query(query, prototype[owner], prior.to(query.dtype))
        tokens = self.transformer.query_branch(channel_last(query), self._patches(sets), owner)
        return resize(self.decoder(tokens.permute(0, 3, 1, 2)), size, align_corners=True)

    def _patches(self, sets: Sequence[Support]) -> list[SupportPatches]:
        """Of all sets at each block; computed together unless they are prepared."""
        ready = [encoded["patches"] for encoded in sets if "patches" in encoded]
        if len(ready) < len(sets):
            return self._support_branch(sets)
        if len(ready) == 1:
            return ready[0]  # as it is: a copy would cost every query
        levels = zip(*ready)
        return [SupportPatches(*(torch.cat(parts) for parts in zip(*level))) for level in levels]

    def _support_branch(self, sets: Sequence[Support]) -> list[SupportPatches]:
        maps, mask, prototype = (means(sets, key) for key in ("features", "mask", "prototype"))
        maps = self.merge_support(maps, prototype, mask)  # (U, C, *S)
        return self.transformer.support_branch(channel_last(maps), mask.squeeze(1))[0]

    def _reduced(self, reduction: nn.Module, features: Sequence[Tensor]) -> Tensor:
        """The mid-level maps, reduced at the size of the finest, to (B, C, *S)."""
        return resize(self.mid_dropout(reduction(self.select(features))), self.map_size, align_corners=True)

    def _high(self, features: Sequence[Tensor]) -> Tensor:
        if not -len(features) <= self.high_index < len(features):
            raise ConfigError(f"SCCANHead: high_index={self.high_index}, but there are {len(features)} maps")
        return features[self.high_index]


class Pointwise(nn.Module):
    """The kernel of a 1x1 convolution without bias, which subclasses apply part by part."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch's convolutions


class Reduction(Pointwise):
    """relu(1x1 convolution) of concatenated maps; each is convolved, then resized and added: equal and cheaper."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_i, h_i, w_i) to (B, C, h, w) at the finest size."""
        finest = max((x.shape[-2:] for x in maps), key=lambda size: size[0] * size[1])
        weights = self.weight.split([x.shape[1] for x in maps], 1)
        parts = [resize(F.conv2d(x, weight), finest, align_corners=True) for x, weight in zip(maps, weights)]
        return sum(parts[1:], parts[0]).relu()


class Merge(Pointwise):
    """1x1 convolution of a map (B, C, H, W), a vector (B, C) at every place, and a mask (B, 1, H, W), concatenated."""

    def forward(self, x: Tensor, vector: Tensor, mask: Tensor) -> Tensor:
        of_map, of_vector, of_mask = self.weight.split([x.shape[1], vector.shape[1], 1], 1)
        return F.conv2d(x, of_map) + F.conv2d(mask, of_mask) + F.conv2d(vector[..., None, None], of_vector)


class Decoder(nn.Module):
    """Parallel dilated convolutions (ASPP), a residual block, the classifier: (B, C, H, W) to logits (B, 2, H, W)."""

    def __init__(self, channels: int, dilations: Sequence[int], dropout_ratio: float) -> None:
        super().__init__()

        def conv(size: int, dilation: int = 1, bias: bool = False, given: int = channels) -> nn.Conv2d:
            return nn.Conv2d(given, channels, size, padding=size // 2 * dilation, dilation=dilation, bias=bias)

        # global average, 1x1, dilated 3x3s
        self.aspp = nn.ModuleList([conv(1, bias=True), conv(1, bias=True), *(conv(3, d, bias=True) for d in dilations)])
        for branch in cast(Sequence[nn.Conv2d], self.aspp):
            nn.init.kaiming_normal_(branch.weight)
        self.fuse = conv(1, given=channels * len(self.aspp))
        self.residual = nn.Sequential(conv(3), nn.ReLU(inplace=True), conv(3), nn.ReLU(inplace=True))
        self.classify = nn.Sequential(
            conv(3), nn.ReLU(inplace=True), nn.Dropout2d(dropout_ratio), nn.Conv2d(channels, 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        average, *branches = cast(Sequence[nn.Conv2d], self.aspp)
        pooled = average(x.mean((2, 3), keepdim=True)).relu()  # (B, C, 1, 1): equal everywhere, added after the rest
        levels = torch.cat([branch(x) for branch in branches], 1).relu_()
        of_pooled, of_levels = self.fuse.weight.split([x.shape[1], levels.shape[1]], 1)
        x = (F.conv2d(levels, of_levels) + F.conv2d(pooled, of_pooled)).relu()
        return self.classify(x + self.residual(x))


def means(sets: Sequence[Support], key: str) -> Tensor:
    """(U, ...), over the shots of each set; as published pixel by pixel, though the pictures differ."""
    return torch.stack([encoded[key].mean(0) for encoded in sets])


def channel_last(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H, W, C)."""
    return x.permute(0, 2, 3, 1).contiguous()
