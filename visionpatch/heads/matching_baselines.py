"""Heads of the published networks that compare patches of two spectra.

Letters: B pairs, P matching pairs among them, C channels, h, w sides of a map, D length of a descriptor.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError, nearest
from visionpatch.heads.patch_matching import Maps, MatchingHead, MetricNet, targets
from visionpatch.layers.patch_trunk import PatchTrunk, he_normal
from visionpatch.layers.precision import at_least_float32, without_autocast
from visionpatch.layers.resize import resize
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

MARGIN = 1.0  # of every hinge here
DUPLICATE = 8e-3  # non-matching descriptors nearer than this show the same thing (HardNet)
NEIGHBOURS = 8  # of SOSNet's second-order term
HYBRID_MARGIN, LENGTH_WEIGHT = 1.2, 0.1  # of HyNet
DESCRIPTOR_LOSSES = ("hardnet", "sosnet", "hynet")
SLOPE = 0.1  # of FIL-Net's leaky ReLUs


class HingeHead(MatchingHead):
    """Base of heads that Aguilera et al. (CVPR workshops 2016) train with a hinge: mean of max(0, 1 - y s), y = +-1.

    Args:
        loss: "hinge", or "bce", the binary cross entropy of the other heads.
    """

    def __init__(self, in_channels: Sequence[int], loss: str = "hinge") -> None:
        super().__init__(in_channels)
        if loss not in ("hinge", "bce"):
            raise ConfigError(f'{type(self).__name__}: loss = "{loss}"{nearest(str(loss), ("hinge", "bce"))}')
        self.loss_type = loss

    def loss(self, visible_maps: Maps, thermal_maps: Maps, samples: Sequence[DataSample]) -> dict[str, Tensor]:
        if self.loss_type == "bce":
            return super().loss(visible_maps, thermal_maps, samples)
        sign = 2 * targets(samples, visible_maps[0]) - 1
        return {"loss_main": F.relu(MARGIN - sign * self.score(visible_maps, thermal_maps).float()).mean()}


@MODELS.register_module()
class TwoChannelHead(HingeHead):
    """The two patches as the channels of one picture, `PatchTrunk`, and a linear layer. For a model without backbone.

    Args:
        loss: "hinge" as published, or "bce".

    Raises:
        ConfigError: an unknown loss; patches that are not 64 x 64 (in forward).
    """

    def __init__(self, loss: str = "hinge") -> None:
        super().__init__((1,), loss)
        self.trunk = PatchTrunk(2)
        self.fc = nn.Linear(PatchTrunk.out_channels, 1)
        self.fc.apply(he_normal)

    def outputs(self, visible: list[Tensor], thermal: list[Tensor], main_only: bool) -> dict[str, Tensor]:
        if tuple(visible[0].shape[-2:]) != (PatchTrunk.size,) * 2:
            raise ConfigError(f"TwoChannelHead: patches of {tuple(visible[0].shape[-2:])} pixels, expected (64, 64)")
        x = self.trunk(torch.cat([visible[0], thermal[0]], 1))  # (B, 256, 1, 1)
        return {"main": self.fc(x.flatten(1)).squeeze(1)}


@MODELS.register_module()
class SiameseHead(HingeHead):
    """The pooled last maps of both patches, one after the other, FC 512, ReLU, FC 1.

    With `PatchEncoder` "aguilera": the siamese network where that is shared, the pseudo-siamese one where it is not.

    Args:
        in_channels: channels of the maps; the last one is read.
        loss: "hinge" as published, or "bce".
    """

    def __init__(self, in_channels: Sequence[int], loss: str = "hinge") -> None:
        super().__init__(in_channels, loss)
        self.fc = nn.Sequential(
            nn.Linear(2 * self.in_channels[-1], 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, 1),
        )
        self.fc.apply(he_normal)

    def outputs(self, visible: list[Tensor], thermal: list[Tensor], main_only: bool) -> dict[str, Tensor]:
        pooled = torch.cat([visible[-1].mean((2, 3)), thermal[-1].mean((2, 3))], 1)
        return {"main": self.fc(pooled).squeeze(1)}


@MODELS.register_module()
class DescriptorHead(MatchingHead):
    """The pooled last map as a descriptor of length 1; the score of a pair is minus the distance, in -2..0.

    Trained on the matching pairs of a batch alone: what does not match is found among them.

    Args:
        in_channels: channels of the maps; the last one is read.
        loss: "hardnet", mean of max(0, 1 + d(match) - d(nearest other)) (Mishchuk et al., NeurIPS 2017); "sosnet", the
            mean of its square, and the second-order similarity over 8 neighbours (Tian et al., CVPR 2019); "hynet", as
            the first with s(d) = d + d^2 for d, a margin of 1.2 and others of the own spectrum too, and 0.1 times the
            mean squared difference of the lengths before they become 1 (Tian et al., NeurIPS 2020).

    Raises:
        ConfigError: an unknown loss.
    """

    probability = False

    def __init__(self, in_channels: Sequence[int], loss: str = "hardnet") -> None:
        super().__init__(in_channels)
        if loss not in DESCRIPTOR_LOSSES:
            raise ConfigError(f'DescriptorHead: loss = "{loss}"{nearest(str(loss), DESCRIPTOR_LOSSES)}')
        self.loss_type = loss

    def outputs(self, visible: list[Tensor], thermal: list[Tensor], main_only: bool) -> dict[str, Tensor]:
        return {"main": -_distance((descriptors(visible[-1]) * descriptors(thermal[-1])).sum(1))}

    def loss(self, visible_maps: Maps, thermal_maps: Maps, samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Losses of the P matching pairs; 0 where fewer than two match, since there is no other to compare with.

        Raises as `MatchingHead.loss`.
        """
        match = targets(samples, visible_maps[0]) == 1
        if match.sum() < 2:
            return {"loss_main": 0 * (visible_maps[-1].float().sum() + thermal_maps[-1].float().sum())}
        raw_a, raw_b = (at_least_float32(maps[-1])[match].mean((2, 3)) for maps in (visible_maps, thermal_maps))
        a, b = F.normalize(raw_a), F.normalize(raw_b)  # (P, D)
        if self.loss_type == "hynet":
            return {"loss_main": hybrid_excess(a, b).mean(), "loss_length": length_difference(raw_a, raw_b)}
        excess = hardest_excess(distances(a, b))
        if self.loss_type == "hardnet":
            return {"loss_main": excess.mean()}
        return {"loss_main": excess.square().mean(), "loss_second_order": second_order(a, b)}


def descriptors(x: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, D) of length 1, at least float32."""
    return F.normalize(at_least_float32(x).mean((2, 3)), dim=1)


def hardest_excess(distance: Tensor) -> Tensor:
    """max(0, 1 + d_ii - the least d_ij or d_ji, j != i) of distances (P, P), (P,); duplicates do not count."""
    return F.relu(MARGIN + distance.diagonal() - nearest_other(distance))


def hybrid_excess(a: Tensor, b: Tensor) -> Tensor:
    """HyNet's max(0, 1.2 + s(match) - s(nearest other)), s(d) = d + d^2, of descriptors (P, D): (P,).

    Others are those of either spectrum, seen from either patch of the pair.
    """
    between = distances(a, b)
    match = between.diagonal()
    other = torch.stack([nearest_other(x) for x in (between, distances(a, a), distances(b, b))]).amin(0)
    return F.relu(HYBRID_MARGIN + match + match.square() - other - other.square())


def length_difference(a: Tensor, b: Tensor) -> Tensor:
    """HyNet's regulariser of descriptors (P, D) before they are of length 1."""
    return LENGTH_WEIGHT * (a.norm(dim=1) - b.norm(dim=1)).square().mean()


def nearest_other(distance: Tensor) -> Tensor:
    """The least of row and of column i, without (i, i) and duplicates, of (P, P): (P,); 10 where there is none."""
    near = torch.eye(len(distance), device=distance.device, dtype=torch.bool) | (distance < DUPLICATE)
    others = distance.masked_fill(near, 10.0)  # farther than any: distances reach 2
    return torch.minimum(others.min(1).values, others.min(0).values)


def second_order(a: Tensor, b: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """SOSNet's regulariser of descriptors (P, D): mean over i of the length of (d(a_i, a_j) - d(b_i, b_j))_j.

    j runs over the `neighbours` nearest of a_i and of b_i.
    """
    of_a, of_b = distances(a, a), distances(b, b)  # (P, P)
    itself = torch.eye(len(a), device=a.device, dtype=torch.bool)
    near = torch.zeros_like(itself)
    for distance in (of_a, of_b):
        order = distance.detach().masked_fill(itself, 10.0).argsort(1)[:, : min(neighbours, len(a) - 1)]
        near.scatter_(1, order, True)
    difference = ((of_a - of_b) * near).square().sum(1)
    return (difference + 1e-8).sqrt().mean()


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Of each descriptor of (P, D) to each of (P', D): (P, P'), at full precision under autocast too."""
    with without_autocast(a):
        return _distance(a @ b.t())


def _distance(cosine: Tensor) -> Tensor:
    """Euclidean distance of vectors of length 1 from their cosine; with a gradient at 1."""
    return (2 - 2 * cosine + 1e-6).clamp(min=1e-6).sqrt()


@MODELS.register_module()
class AFDNetHead(MatchingHead):
    """AFD-Net (Quan et al., ICCV 2019): differences of the maps of each scale, gathered from fine to coarse.

    At each scale |visible - thermal| joins what the finer ones gathered; two 3x3 convolutions, the second of stride 2,
    pass it on; one at the coarsest. Outputs: of that, and of the coarsest difference alone. The published code has two
    class scores and their cross entropy where this has one logit, which is their difference.

    Args:
        in_channels: channels of the maps, fine to coarse.
    """

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__(in_channels)
        gathered = 0
        self.down = nn.ModuleList()
        for channels in self.in_channels[:-1]:
            gathered += channels
            self.down.append(nn.Sequential(*_conv(gathered, gathered), *_conv(gathered, gathered, stride=2)))
        gathered += self.in_channels[-1]
        self.down.apply(he_normal)
        self.main = MetricNet(gathered, gathered)
        self.last = MetricNet(self.in_channels[-1], None)

    def outputs(self, visible: list[Tensor], thermal: list[Tensor], main_only: bool) -> dict[str, Tensor]:
        differences = [(x - y).abs() for x, y in zip(visible, thermal)]
        x = differences[0]
        for down, difference in zip(self.down, differences[1:]):
            x = torch.cat([resize(down(x), difference.shape[-2:]), difference], 1)
        found = {"main": self.main(x)}
        return found if main_only else found | {"last": self.last(differences[-1])}


@MODELS.register_module()
class FILNetHead(MatchingHead):
    """FIL-Net (Yu et al., feature interaction learning): what is common to the maps of each scale, and what is private.

    The private features join those of the finer scales from fine to coarse: two 3x3 convolutions a scale, 2x2 max
    pooling between. Outputs, each of the last three scales: of the gathered private features, the coarsest of which is
    the main one, and of the common ones.

    Args:
        in_channels: channels of the maps, fine to coarse.
    """

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__(in_channels)
        self.interact = nn.ModuleList(Interaction(channels) for channels in self.in_channels)
        self.gather = nn.ModuleList()
        self.private, self.common = nn.ModuleList(), nn.ModuleList()
        gathered = 0
        first = len(self.in_channels) - 3
        for index, channels in enumerate(self.in_channels):
            gathered += 2 * channels
            self.gather.append(nn.Sequential(*_conv(gathered, gathered, SLOPE), *_conv(gathered, gathered, SLOPE)))
            if index >= first:
                self.private.append(MetricNet(gathered, None))
                self.common.append(MetricNet(channels, None))
        self.gather.apply(he_normal)

    def outputs(self, visible: list[Tensor], thermal: list[Tensor], main_only: bool) -> dict[str, Tensor]:
        gathered: list[Tensor] = []
        commons = []
        for interact, gather, x, y in zip(self.interact, self.gather, visible, thermal):
            common, private = interact(x, y)
            if gathered:
                private = torch.cat([resize(F.max_pool2d(gathered[-1], 2), private.shape[-2:]), private], 1)
            gathered.append(gather(private))
            commons.append(common)
        found = {"main": self.private[-1](gathered[-1])}
        if main_only:
            return found
        used = len(self.private)
        for index in range(used - 1):
            found[f"private{index}"] = self.private[index](gathered[index - used])
        return found | {f"common{index}": net(commons[index - used]) for index, net in enumerate(self.common)}


class Interaction(nn.Module):
    """Features of two spectra, each gated by the other: c_x = x' gate(y), c_y = y' gate(x).

    (B, C, h, w) of both -> the common features c_x + c_y (B, C, h, w) and the private [|c_x - x'| ; |c_y - y'|]
    (B, 2C, h, w). The spectra have own weights.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        parts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)) for _ in range(4)
        )
        self.value_x, self.gate_x, self.value_y, self.gate_y = parts
        parts.apply(he_normal)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        own_x, own_y = F.leaky_relu(self.value_x(x), SLOPE), F.leaky_relu(self.value_y(y), SLOPE)
        common_x, common_y = own_x * self.gate_y(y).sigmoid(), own_y * self.gate_x(x).sigmoid()
        private = torch.cat([(common_x - own_x).abs(), (common_y - own_y).abs()], 1)
        return common_x + common_y, private


def _conv(in_channels: int, out_channels: int, slope: float = 0.0, stride: int = 1) -> list[nn.Module]:
    """3x3 convolution, batch norm, (leaky) ReLU."""
    act = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), act]
