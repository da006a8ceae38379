"""DecodeHead: what all segmentation heads share: choosing maps, classifying pixels, losses, predictions.

Letters: B batch, C channels, K classes, H, W sizes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.layers.resize import resize
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample, label_map

BN: Mapping[str, Any] = {"type": "BN"}  # the norm of every head's conv blocks unless a config says otherwise


class DecodeHead(nn.Module):
    """Base class. A subclass writes `decode`: chosen maps -> one map of `channels` channels, classified by `conv_seg`.

    Args:
        in_channels: channels of the map it reads, or one number per map.
        channels: channels of the decoded map.
        num_classes: number of classes K.
        in_index: which of the incoming maps it reads, one index per entry of `in_channels`. None: the last one for a
            single number, otherwise all of them in order.
        dropout_ratio: probability of dropping a whole channel before the classifier.
        align_corners: the flag of every bilinear resize in the head and of its logits.
        ignore_index: label of pixels that count nowhere.
        loss_decode: config of a loss, or of several; None: ``dict(type="CrossEntropyLoss")``. Losses of one `loss_name`
            are added.

    Raises:
        ConfigError: arguments that contradict each other; maps that do not fit `in_channels` (in forward).
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        channels: int,
        *,
        num_classes: int,
        in_index: int | Sequence[int] | None = None,
        dropout_ratio: float = 0.1,
        align_corners: bool = False,
        ignore_index: int = 255,
        loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.in_index = _check_inputs(type(self).__name__, in_channels, in_index)
        if num_classes < 1 or channels < 1 or not 0 <= dropout_ratio < 1:
            raise ConfigError(
                f"{type(self).__name__}: num_classes={num_classes} and channels={channels} must be positive, "
                f"dropout_ratio={dropout_ratio} in [0, 1)"
            )
        self.channels = channels
        self.num_classes = num_classes
        self.align_corners = align_corners
        self.ignore_index = ignore_index
        losses = {"type": "CrossEntropyLoss"} if loss_decode is None else loss_decode
        losses = [losses] if isinstance(losses, Mapping) else losses
        self.loss_decode = nn.ModuleList(MODELS.build(dict(loss)) for loss in losses)
        self.dropout = nn.Dropout2d(dropout_ratio)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        if self.conv_seg.bias is not None:
            nn.init.zeros_(self.conv_seg.bias)

    def decode(self, maps: list[Tensor]) -> Tensor:
        """The chosen maps -> (B, channels, H, W)."""
        raise NotImplementedError

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps, fine to coarse -> logits (B, K, H, W) at the head's own resolution."""
        return self.conv_seg(self.dropout(self.decode(self.select(features))))

    def select(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The maps of `in_index`, checked against `in_channels`."""
        return select_maps(type(self).__name__, features, self.in_index, self.in_channels)

    def loss(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Losses on the logits resized to the label maps, and ``acc_seg``, the percentage of valid pixels found.

        Raises:
            DataError: a sample without label map, or maps of different sizes.
            BadSampleError: a label outside [0, num_classes) that is not `ignore_index`.
        """
        logits = self(features)
        labels = self.stack_labels(samples).to(logits.device)  # (B, H, W)
        logits = resize(logits, labels.shape[-2:], self.align_corners)
        losses: dict[str, Any] = {}
        for module in self.loss_decode:
            name = str(module.loss_name)
            losses[name] = losses.get(name, 0) + module(logits, labels, ignore_index=self.ignore_index)
        losses["acc_seg"] = pixel_accuracy(logits, labels, self.ignore_index)
        return losses

    @torch.no_grad()
    def predict(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> list[DataSample]:
        """Fill `seg_logits` (K, H, W) and `pred_sem_seg` (1, H, W) of each sample, at the size of the padded input.

        That size is the samples' ``batch_input_shape``, or ``img_shape`` when nothing was padded.
        """
        sizes = {tuple(s.get("batch_input_shape", s.get("img_shape", ())))[:2] for s in samples}
        if len(sizes) != 1 or sizes == {()}:
            raise DataError(
                f"the samples of one batch need one batch_input_shape or img_shape (H, W), got {sorted(sizes)}"
            )
        logits = resize(self(features), sizes.pop(), self.align_corners)
        for sample, scores in zip(samples, logits, strict=True):
            sample.seg_logits = PixelData(data=scores)
            sample.pred_sem_seg = PixelData(data=scores.argmax(0, keepdim=True))
        return list(samples)

    def stack_labels(self, samples: Sequence[DataSample]) -> Tensor:
        """The samples' label maps (B, H, W), int64; every label checked against `num_classes`."""
        return stack_labels(type(self).__name__, samples, self.num_classes, self.ignore_index)


def select_maps(
    name: str, features: Sequence[Tensor], in_index: tuple[int, ...], in_channels: tuple[int, ...]
) -> list[Tensor]:
    """The maps of `in_index`, checked against `in_channels`; `name` of the head, for messages."""
    number = len(features)
    for index in in_index:
        if not -number <= index < number:
            raise ConfigError(f"{name}: in_index={in_index} asks for map {index}, but there are {number} maps")
    maps = [features[index] for index in in_index]
    given = tuple(x.shape[1] for x in maps)
    if given != in_channels:
        raise ConfigError(
            f"{name}: in_channels={_plain(in_channels)}, but the maps of in_index={_plain(in_index)} "
            f"have {_plain(given)} channels; set in_channels={_plain(given)}"
        )
    return maps


def stack_labels(name: str, samples: Sequence[DataSample], num_classes: int, ignore_index: int) -> Tensor:
    """The samples' label maps (B, H, W), int64; every label checked against `num_classes` of the head `name`."""
    for sample in samples:
        if "gt_sem_seg" not in sample:
            raise DataError(f"{sample.where()}: no label map (gt_sem_seg); does the pipeline load annotations?")
    maps = [label_map(sample) for sample in samples]
    if len({m.shape for m in maps}) != 1:
        shapes = ", ".join(f"{s.where()} {tuple(m.shape)}" for s, m in zip(samples, maps, strict=True))
        raise DataError(f"label maps of one batch differ in size: {shapes}; crop or pad them in the pipeline")
    labels = torch.stack(maps)
    wrong = ((labels < 0) | (labels >= num_classes)) & (labels != ignore_index)
    if wrong.any():
        first = int(wrong.flatten(1).any(1).nonzero()[0])
        sample, label = samples[first], int(labels[first][wrong[first]].max())
        raise BadSampleError(
            f"{sample.get('seg_path') or sample.where()}: label {label} found, but {name} has "
            f"num_classes={num_classes} (labels 0 to {num_classes - 1}, ignored {ignore_index}); "
            "check num_classes and reduce_zero_label"
        )
    return labels


@torch.no_grad()
def pixel_accuracy(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Percentage of valid pixels whose largest logit is the label's; 0 when no pixel is valid."""
    valid = labels != ignore_index
    right = (logits.argmax(1) == labels) & valid
    return 100.0 * right.sum() / valid.sum().clamp(min=1)


def _check_inputs(
    name: str, in_channels: int | Sequence[int], in_index: int | Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """`in_channels` and `in_index` as tuples of one length."""
    single = isinstance(in_channels, int)
    channels = (in_channels,) if isinstance(in_channels, int) else tuple(in_channels)
    if in_index is None:
        in_index = -1 if single else range(len(channels))
    index = (in_index,) if isinstance(in_index, int) else tuple(in_index)
    if len(channels) != len(index):
        raise ConfigError(
            f"{name}: in_channels={in_channels} and in_index={in_index} must name the same maps, one entry each"
        )
    return channels, index


def _plain(values: tuple[int, ...]) -> int | tuple[int, ...]:
    return values[0] if len(values) == 1 else values
