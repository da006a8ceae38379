"""MDFRNHead: relations between visible and thermal features over places and over scales.

"Learning multi-domain feature relation for visible and Long-wave Infrared image patch matching", Zhang et al., arXiv
2308.04880. The abstract names the modules (SCM, MSAG, MSCRM, DIM) and what each relates, and says that DIM sends the
spatial relations to MSCRM and the scale relations to SCM; their inside is ours.

Letters: B pairs, K scales, C channels of a map, d relation channels, h, w sides of a map, N = h w places, m map_size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError
from visionpatch.heads.patch_matching import MatchingHead, MetricNet
from visionpatch.layers.conv_module import ConvModule
from visionpatch.layers.patch_trunk import he_normal
from visionpatch.layers.resize import resize
from visionpatch.registry import MODELS

START, LARGEST = 10.0, 100.0  # factor of cosines before a softmax: at first, and at most
Pair = tuple[Tensor, Tensor]  # of the visible and of the thermal patch


@MODELS.register_module()
class MDFRNHead(MatchingHead):
    """Maps of both patches, one a scale, -> logit of a match, and one for each kind of relation.

    | relation | meaning | made by |
    |---|---|---|
    | sp | places of one spectrum against places of the other | `SCM` at each scale, mean |
    | sc | scales of one spectrum against scales of the other | `MSCRM` of the maps at one size (MSAG) |
    | ss | spatial relations seen over scales | DIM: `MSCRM` of the sp of all scales |
    | cs | scale relations seen over places | DIM: `SCM` of sc |

    Without SCM and MSAG the mean of the maps at one size takes their place, as "plain".

    Args:
        in_channels: channels of the K maps.
        channels: d.
        map_size: side m at which scales are compared and relations judged.
        use_scm, use_msag, use_dim: leave a module out; DIM needs the other two.
        depth: rounds of exchange in DIM. Round r gives MSCRM the sp of all scales and the cs of the rounds before, and
            SCM the ss of the round before.

    Raises:
        ConfigError: an argument out of range, DIM without SCM or MSAG; maps that do not fit (in forward).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 128,
        *,
        map_size: int = 8,
        use_scm: bool = True,
        use_msag: bool = True,
        use_dim: bool = True,
        depth: int = 1,
    ) -> None:
        super().__init__(in_channels)
        if use_dim and not (use_scm and use_msag):
            raise ConfigError(
                f"MDFRNHead: use_dim=True exchanges the results of SCM and MSAG, but use_scm={use_scm} and "
                f"use_msag={use_msag}; set use_dim=False, or both of them to True"
            )
        if not self.in_channels or min(channels - 1, map_size, depth) < 1:
            raise ConfigError(
                f"MDFRNHead: in_channels={self.in_channels} must name a map, channels={channels} be at least 2, "
                f"map_size={map_size} and depth={depth} at least 1"
            )
        self.map_size, self.use_scm, self.use_msag = map_size, use_scm, use_msag
        self.scm = nn.ModuleList(SCM(c, channels) for c in self.in_channels if use_scm)
        lateral = use_msag or not use_scm
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in self.in_channels if lateral)
        self.lateral.apply(he_normal)
        self.mscrm = MSCRM(channels) if use_msag else None
        rounds = depth if use_dim else 0
        self.dim_mscrm = nn.ModuleList(MSCRM(channels) for _ in range(rounds))
        self.dim_scm = nn.ModuleList(SCM(channels, channels) for _ in range(rounds))
        names = ["sp"] * use_scm + ["sc"] * use_msag + ["ss", "cs"] * use_dim or ["plain"]
        self.metric = MetricNet(2 * channels * len(names), 2 * channels)
        self.aux = nn.ModuleDict({name: MetricNet(2 * channels, channels) for name in names})

    def outputs(self, visible: list[Tensor], thermal: list[Tensor], main_only: bool) -> dict[str, Tensor]:
        relations = {k: torch.cat([(x - y).abs(), x * y], 1) for k, (x, y) in self.pairs(visible, thermal).items()}
        found = {"main": self.metric(torch.cat(list(relations.values()), 1))}  # of (B, 2d * kinds, m, m)
        if not main_only:
            found |= {name: net(relations[name]) for name, net in self.aux.items()}
        return found

    def pairs(self, visible: Sequence[Tensor], thermal: Sequence[Tensor]) -> dict[str, Pair]:
        """Name of each kind of relation -> its features (B, d, m, m) of both patches."""
        found: dict[str, Pair] = {}
        if self.use_scm:
            spatial = self.spatial(visible, thermal)
            found["sp"] = spatial[0].mean(1), spatial[1].mean(1)
        if self.mscrm is not None:
            found["sc"] = self.mscrm(*self.laterals(visible, thermal))
        if len(self.dim_scm):
            found["ss"], found["cs"] = self.exchange(spatial, found["sc"])
        if not found:
            plain = self.laterals(visible, thermal)
            found["plain"] = plain[0].mean(1), plain[1].mean(1)
        return found

    def spatial(self, visible: Sequence[Tensor], thermal: Sequence[Tensor]) -> Pair:
        """SCM at each scale, all at one size: (B, K, d, m, m) of both."""
        found = [scm(a, b) for scm, a, b in zip(self.scm, visible, thermal)]
        return self._stack([a for a, _ in found]), self._stack([b for _, b in found])

    def laterals(self, visible: Sequence[Tensor], thermal: Sequence[Tensor]) -> Pair:
        """The maps themselves with d channels at one size: (B, K, d, m, m) of both."""
        a = self._stack([conv(x) for conv, x in zip(self.lateral, visible)])
        return a, self._stack([conv(x) for conv, x in zip(self.lateral, thermal)])

    def exchange(self, spatial: Pair, scale: Pair) -> tuple[Pair, Pair]:
        """DIM: spatial relations (B, K, d, m, m) and scale relations (B, d, m, m) of both -> (ss, cs), (B, d, m, m)."""
        for mscrm, scm in zip(self.dim_mscrm, self.dim_scm):
            over_scales, over_places = mscrm(*spatial), scm(*scale)
            more = [torch.cat([old, new[:, None]], 1) for old, new in zip(spatial, over_places)]
            spatial, scale = (more[0], more[1]), over_scales
        return over_scales, over_places

    def _stack(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, d, h_k, w_k) of K scales -> (B, K, d, m, m): averaged where larger, interpolated where smaller."""
        side = (self.map_size, self.map_size)
        return torch.stack([resize(averaged(x, self.map_size), side) for x in maps], 1)


def averaged(x: Tensor, side: int) -> Tensor:
    """(B, d, h, w) -> at most `side` x `side`, by means; the usual window without the slow general pooling."""
    h, w = x.shape[2:]
    if h <= side and w <= side:
        return x
    if h % side == 0 and w % side == 0:
        return F.avg_pool2d(x, (h // side, w // side))
    return F.adaptive_avg_pool2d(x, (min(h, side), min(w, side)))


class SCM(nn.Module):
    """Spatial correlation: what of the other patch lies at the places that look like this one.

    Both patches go through the same weights, so exchanging them exchanges the results.

    Args:
        in_channels: C. channels: d.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.value = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.mix = ConvModule(3 * channels, channels, 1, norm_cfg=dict(type="BN"))
        self.log_factor = nn.Parameter(torch.tensor(math.log(START)))
        self.query.apply(he_normal)
        self.value.apply(he_normal)

    def forward(self, a: Tensor, b: Tensor) -> Pair:
        """(B, C, h, w) of both -> (B, d, h, w) of both."""
        own = torch.cat([self.value(a), self.value(b)])  # (2B, d, h, w)
        seen = torch.cat(self.gather(self.relation(a, b), *own.chunk(2)))
        first, second = self.mix(torch.cat([own, seen, (own - seen).abs()], 1)).chunk(2)
        return first, second

    def relation(self, a: Tensor, b: Tensor) -> Tensor:
        """Scaled cosines of place i of `a` with place j of `b`: (B, N, N)."""
        q, k = (F.normalize(self.query(x).flatten(2), dim=1) for x in (a, b))  # (B, d, N)
        return q.transpose(1, 2) @ k * _factor(self.log_factor)

    def gather(self, relation: Tensor, a: Tensor, b: Tensor) -> Pair:
        """Values of `b` at the places that correspond to those of `a`, and the reverse: (B, d, h, w) of both."""
        to_a = b.flatten(2) @ relation.softmax(2).transpose(1, 2)  # sum over j of P[i, j] b[j]
        to_b = a.flatten(2) @ relation.softmax(1)  # sum over i of P[i, j] a[i]
        return to_a.view_as(a), to_b.view_as(b)


class MSCRM(nn.Module):
    """Multi-scale relation: which scale of one patch answers to which of the other; then one map of all scales.

    Args:
        channels: d.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.key = nn.Linear(channels, channels, bias=False)
        self.mix = ConvModule(3 * channels, channels, 1, norm_cfg=dict(type="BN"))
        self.weigh = nn.Sequential(
            nn.Linear(channels, channels // 2), nn.ReLU(inplace=True), nn.Linear(channels // 2, 1)
        )
        self.log_factor = nn.Parameter(torch.tensor(math.log(START)))
        self.key.apply(he_normal)
        self.weigh.apply(he_normal)

    def forward(self, a: Tensor, b: Tensor) -> Pair:
        """(B, K, d, m, m) of both -> (B, d, m, m) of both."""
        relation = self.relation(a, b)
        to_a = torch.einsum("bkl,bldhw->bkdhw", relation.softmax(2), b)
        to_b = torch.einsum("bkl,bkdhw->bldhw", relation.softmax(1), a)
        own, seen = torch.cat([a, b]), torch.cat([to_a, to_b])  # (2B, K, d, m, m)
        mixed = self.mix(torch.cat([own, seen, (own - seen).abs()], 2).flatten(0, 1)).view_as(own)
        first, second = self.aggregate(mixed).chunk(2)
        return first, second

    def relation(self, a: Tensor, b: Tensor) -> Tensor:
        """Scaled cosines of scale k of `a` with scale l of `b`: (B, K, K)."""
        q, k = (F.normalize(self.key(x.mean((3, 4))), dim=2) for x in (a, b))  # (B, K, d)
        return q @ k.transpose(1, 2) * _factor(self.log_factor)

    def weights(self, maps: Tensor) -> Tensor:
        """Share of each of the maps (B, K, d, m, m) in the aggregate: (B, K), sums of 1."""
        return self.weigh(maps.mean((3, 4))).squeeze(2).softmax(1)

    def aggregate(self, maps: Tensor) -> Tensor:
        """(B, K, d, m, m) -> (B, d, m, m)."""
        return (self.weights(maps)[:, :, None, None, None] * maps).sum(1)


def _factor(log_factor: Tensor) -> Tensor:
    return log_factor.exp().clamp(max=LARGEST)
