"""FewShotHead: what the heads that segment a class shown by a few annotated pictures share.

Letters: B queries, K annotated pictures (shots) of one support set, U support sets, C channels, H, W sizes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from visionpatch.errors import ConfigError, DataError
from visionpatch.heads.decode_head import pixel_accuracy, select_maps, stack_labels
from visionpatch.layers.resize import resize
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

Support = Mapping[str, Any]  # an encoded support set: tensors with K as first axis, and what `prepare` adds

# the published loss of SCCAN: every channel its own quotient, ignored pixels are pushed down
DICE: Mapping[str, Any] = {"type": "DiceLoss", "per_class": True, "ignored_count": True, "eps": 5e-9}


class FewShotHead(nn.Module):
    """Base class. A subclass writes `encode_support` and `forward`; every query pixel is 0 (other) or 1 (the class).

    An encoded support set is a plain dict of tensors whose first axis is the shot: it can be saved as one file, sets of
    single shots are joined by concatenation, and it serves any number of queries.

    Args:
        in_channels: channels of the maps of `in_index`, one number each.
        in_index: which of the incoming maps the head reads.
        ignore_index: label of query pixels that are not scored.
        loss_decode: config of a loss, or of several, on the logits; None: the dice loss of SCCAN.

    Raises:
        ConfigError: `in_channels` and `in_index` of different lengths; maps that do not fit them (in forward).
    """

    num_classes = 2
    align_corners = True

    def __init__(
        self,
        in_channels: Sequence[int],
        in_index: Sequence[int],
        *,
        ignore_index: int = 255,
        loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.in_index = tuple(in_channels), tuple(in_index)
        if len(self.in_channels) != len(self.in_index) or not self.in_channels:
            raise ConfigError(
                f"{type(self).__name__}: in_channels={self.in_channels} and in_index={self.in_index} must name the "
                "same maps, one entry each"
            )
        self.ignore_index = ignore_index
        losses = DICE if loss_decode is None else loss_decode
        losses = [losses] if isinstance(losses, Mapping) else losses
        self.loss_decode = nn.ModuleList(MODELS.build(dict(loss)) for loss in losses)

    def encode_support(self, features: Sequence[Tensor], masks: Tensor) -> dict[str, Tensor]:
        """Maps (K, C_i, h_i, w_i) of K annotated pictures of one size, and their masks (K, H, W), to an encoded set.

        Mask pixels of value 1 are the class, all others (0 and 255) are not.
        """
        raise NotImplementedError

    def prepare(self, support: Support) -> Support:
        """An encoded set with all that the head computes of it alone, for queries that come one after another.

        The result serves the weights it was made with, in `forward` and `predict`; it is not for saving or joining.
        """
        return support

    def forward(self, features: Sequence[Tensor], support: Sequence[Support], size: Sequence[int]) -> Tensor:
        """Maps of B queries and the encoded set of each to logits (B, 2, H, W), `size` = (H, W).

        Queries may share a set: what depends on it alone is computed once where they hold the same object.
        """
        raise NotImplementedError

    def loss(
        self, features: Sequence[Tensor], support: Sequence[Support], samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """Losses on the logits at the size of the label maps, and ``acc_seg``, the percentage of valid pixels found.

        Raises:
            DataError: a sample without label map, or maps of different sizes.
            BadSampleError: a label other than 0, 1 and `ignore_index`.
        """
        labels = stack_labels(type(self).__name__, samples, 2, self.ignore_index).to(features[0].device)
        logits = self(features, support, labels.shape[-2:])
        losses: dict[str, Any] = {}
        for module in self.loss_decode:
            name = str(module.loss_name)
            losses[name] = losses.get(name, 0) + module(logits, labels, ignore_index=self.ignore_index)
        losses["acc_seg"] = pixel_accuracy(logits, labels, self.ignore_index)
        return losses

    @torch.no_grad()
    def predict(
        self, features: Sequence[Tensor], support: Sequence[Support], samples: Sequence[DataSample]
    ) -> list[DataSample]:
        """Fill `seg_logits` (2, H, W) and `pred_sem_seg` (1, H, W) of each sample, at the size of the network's input.

        That size is the samples' ``batch_input_shape``, or ``img_shape`` when nothing was padded.
        """
        sizes = {tuple(s.get("batch_input_shape", s.get("img_shape", ())))[:2] for s in samples}
        if len(sizes) != 1 or sizes == {()}:
            raise DataError(
                f"the samples of one batch need one batch_input_shape or img_shape (H, W), got {sorted(sizes)}"
            )
        for sample, scores in zip(samples, self(features, support, sizes.pop()), strict=True):
            sample.seg_logits = PixelData(data=scores)
            sample.pred_sem_seg = PixelData(data=scores.argmax(0, keepdim=True))
        return list(samples)

    def select(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The maps of `in_index`, checked against `in_channels`."""
        return select_maps(type(self).__name__, features, self.in_index, self.in_channels)

    def joined(self, features: Sequence[Tensor]) -> Tensor:
        """The maps of `in_index`, resized to the finest of them and concatenated: (B, sum of in_channels, h, w)."""
        maps = self.select(features)
        finest = max((x.shape[-2:] for x in maps), key=lambda sides: sides[0] * sides[1])
        return torch.cat([resize(x, finest, align_corners=True) for x in maps], 1)


def unique_sets(support: Sequence[Support], queries: int) -> tuple[list[Support], list[list[int]], Tensor]:
    """The U different objects among the sets of B queries, the queries of each, and (B,) each query's set as an index.

    Raises:
        ConfigError: not one set a query.
    """
    if len(support) != queries:
        raise ConfigError(f"{len(support)} support sets for {queries} queries; give one a query (it may be the same)")
    sets: dict[int, Support] = {}
    members: dict[int, list[int]] = {}
    for query, encoded in enumerate(support):
        sets[id(encoded)] = encoded
        members.setdefault(id(encoded), []).append(query)
    order = {key: index for index, key in enumerate(sets)}
    owner = torch.tensor([order[id(encoded)] for encoded in support])
    return list(sets.values()), list(members.values()), owner


def foreground(masks: Tensor, size: Sequence[int], like: Tensor) -> Tensor:
    """Masks (K, H, W) with 1 for the class, as weights 0..1 at `size`, (K, 1, h, w), soft at edges."""
    weights = (masks == 1).unsqueeze(1).to(like.device, torch.promote_types(like.dtype, torch.float32))
    return resize(weights, size, align_corners=True)
