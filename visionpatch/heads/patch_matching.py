"""MatchingHead: what all heads share that say how alike the two patches of a pair are.

Letters: B pairs, C channels, h, w sides of a map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.heads.cls_head import hard_targets
from visionpatch.heads.decode_head import select_maps
from visionpatch.layers.conv_module import ConvModule
from visionpatch.layers.patch_trunk import he_normal
from visionpatch.structures import DataSample

Maps = Sequence[Tensor]


class MatchingHead(nn.Module):
    """Base class. A subclass writes `outputs`, and `loss` where it is not the sum of binary cross entropies.

    Args:
        in_channels: channels of the maps it reads, the same for both spectra.

    Raises:
        ConfigError: maps that do not fit `in_channels` (in forward).
    """

    probability = True  # the sigmoid of the main output is a score in 0..1; otherwise the output itself is the score

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)

    def forward(self, visible_maps: Maps, thermal_maps: Maps, main_only: bool = False) -> dict[str, Tensor]:
        """Maps (B, C_i, h_i, w_i) of both spectra -> outputs (B,), higher where the patches are more alike.

        The first one is "main"; the others, which serve training alone, are left out where `main_only`.
        """
        indices = tuple(range(len(self.in_channels)))
        name = type(self).__name__
        visible = select_maps(name, visible_maps, indices, self.in_channels)
        return self.outputs(visible, select_maps(name, thermal_maps, indices, self.in_channels), main_only)

    def outputs(self, visible: list[Tensor], thermal: list[Tensor], main_only: bool) -> dict[str, Tensor]:
        """As forward, of checked maps."""
        raise NotImplementedError

    def score(self, visible_maps: Maps, thermal_maps: Maps) -> Tensor:
        """The main output (B,)."""
        return self(visible_maps, thermal_maps, main_only=True)["main"]

    def loss(self, visible_maps: Maps, thermal_maps: Maps, samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Binary cross entropy of each output with `gt_label`, 1 where the patches match: ``loss_main``, ...

        Raises:
            DataError: a sample without a label. BadSampleError: a label other than 0 and 1.
        """
        target = targets(samples, visible_maps[0]).float()
        found = self(visible_maps, thermal_maps)
        return {f"loss_{k}": F.binary_cross_entropy_with_logits(x.float(), target) for k, x in found.items()}

    @torch.no_grad()
    def predict(self, visible_maps: Maps, thermal_maps: Maps, samples: Sequence[DataSample]) -> list[DataSample]:
        """Fill `pred_score` (1,) of each sample: the probability of a match, or where the method has none any number.

        In double precision, in which the probabilities of sure pairs still differ.
        """
        scores = self.score(visible_maps, thermal_maps).double()
        scores = scores.sigmoid() if self.probability else scores
        for sample, score in zip(samples, scores, strict=True):
            sample.pred_score = score.reshape(1)
        return list(samples)


class MetricNet(nn.Module):
    """A map of relations (B, C, h, w) -> one logit (B,): CBR3x3, global average pooling, FC 512, 256, 1.

    The last three are the metric network of AFD-Net, EFR-Net, FIL-Net and KGL-Net.

    Args:
        in_channels: C. channels: after the convolution; None: no convolution.
    """

    def __init__(self, in_channels: int, channels: int | None) -> None:
        super().__init__()
        if channels is not None:
            conv: nn.Module = ConvModule(in_channels, channels, 3, padding=1, norm_cfg=dict(type="BN"))
        else:
            conv = nn.Identity()
        self.conv = conv
        self.fc = nn.Sequential(
            nn.Linear(channels or in_channels, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, 256),
            nn.ReLU(inplace=True),
            nn.Linear(256, 1),
        )
        self.fc.apply(he_normal)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3))).squeeze(1)


def targets(samples: Sequence[DataSample], like: Tensor) -> Tensor:
    """`gt_label` of each sample, (B,) int64 of 0 and 1, on the device of `like`."""
    return hard_targets(samples, 2).to(like.device)
