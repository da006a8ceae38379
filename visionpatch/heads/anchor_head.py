"""AnchorHead: what RetinaHead and RPNHead share: targets of all anchors, dense losses, decoding.

Letters: B batch, L levels, A anchors of a cell, N anchors of all levels together, K class channels, H, W of a map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from visionpatch.errors import ConfigError
from visionpatch.heads.detection import (
    Objects,
    check_box_loss,
    check_maps,
    picture_shape,
    read_objects,
    scale_of,
    settings,
    suppress,
)
from visionpatch.registry import MODELS, TASK_UTILS
from visionpatch.structures import DataSample

Config = Mapping[str, Any]
Levels = list[Tensor]


@dataclass
class DenseTargets:
    """What every anchor of every picture has to learn."""

    labels: Tensor  # (B, N) int64; num_classes stands for background and for anchors of weight 0
    weights: Tensor  # (B, N) of the classification
    boxes: Tensor  # (B, N, 4) deltas, or the objects' boxes if reg_decoded_bbox; zeros but for positive anchors
    avg_factor: int  # divisor of the losses


class AnchorHead(nn.Module):
    """Base class. A subclass writes `forward_level` and `candidates`, and names its defaults.

    Args:
        in_channels: channels of every map it reads.
        num_classes: number of classes; background is none of them.
        anchor_generator, bbox_coder, loss_cls, loss_bbox: configs.
        reg_decoded_bbox: `loss_bbox` compares boxes in pixels instead of deltas, as IoULoss, GIoULoss, DIoULoss and
            CIoULoss must.
        train_cfg: ``assigner``, ``sampler`` (default: all anchors), ``allowed_border`` (pixels an anchor may reach
            beyond the picture; below 0: any), ``pos_weight`` (weight of positive anchors; not above 0: 1), ``debug``
            (without effect).
        test_cfg: see the subclass.

    Raises:
        ConfigError: an unknown key; a loss that is not one of sigmoids; maps that do not fit (in forward).
    """

    TRAIN: dict[str, Any] = dict(
        assigner={}, sampler=dict(type="PseudoSampler"), allowed_border=-1, pos_weight=-1, debug=False
    )
    TEST: dict[str, Any] = {}
    LOSSES = ("loss_cls", "loss_bbox")

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        anchor_generator: Config,
        bbox_coder: Config,
        loss_cls: Config,
        loss_bbox: Config,
        reg_decoded_bbox: bool,
        train_cfg: Config | None,
        test_cfg: Config | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if in_channels < 1 or num_classes < 1:
            raise ConfigError(f"{name}: in_channels={in_channels} and num_classes={num_classes} must be positive")
        self.in_channels, self.num_classes = in_channels, num_classes
        self.anchors = TASK_UTILS.build(dict(anchor_generator))
        self.coder = TASK_UTILS.build(dict(bbox_coder))
        self.loss_cls, self.loss_bbox = MODELS.build(dict(loss_cls)), MODELS.build(dict(loss_bbox))
        if not getattr(self.loss_cls, "use_sigmoid", False):
            raise ConfigError(
                f"{name}.loss_cls: set use_sigmoid=True; a softmax over anchors' classes is not supported"
            )
        self.reg_decoded_bbox = reg_decoded_bbox
        check_box_loss(f"{name}.loss_bbox", self.loss_bbox, reg_decoded_bbox)
        self.train_cfg = settings(f"{name}.train_cfg", train_cfg, self.TRAIN)
        self.test_cfg = settings(f"{name}.test_cfg", test_cfg, self.TEST)
        self.assigner = TASK_UTILS.build(dict(self.train_cfg["assigner"]))
        self.sampler = TASK_UTILS.build(dict(self.train_cfg["sampler"] or dict(type="PseudoSampler")))

    def forward_level(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A map (B, in_channels, H, W) -> class logits (B, A * K, H, W) and deltas (B, A * 4, H, W)."""
        raise NotImplementedError

    def candidates(self, scores: Tensor, cfg: Config) -> tuple[Tensor, Tensor, Tensor]:
        """The best of one level's probabilities (N_l, K): their values, anchors' indices and labels."""
        raise NotImplementedError

    def forward(self, features: Sequence[Tensor]) -> tuple[Levels, Levels]:
        """Feature maps, fine to coarse -> class logits and deltas of every level, in the form of `forward_level`."""
        check_maps(type(self).__name__, features, self.in_channels, self.anchors.num_levels)
        logits, deltas = zip(*(self.forward_level(x) for x in features), strict=True)
        return list(logits), list(deltas)

    def loss(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> dict[str, Any]:
        """Classification and box losses, a list of one scalar a level each.

        Raises:
            DataError: a sample without objects' annotation. BadSampleError: a label out of range.
        """
        logits, deltas = self(features)
        return self.losses(logits, deltas, samples)

    def losses(self, logits: Levels, deltas: Levels, samples: Sequence[DataSample]) -> dict[str, Any]:
        """As `loss`, of what `forward` gave."""
        sizes = [(x.shape[-2], x.shape[-1]) for x in logits]
        grid = self.anchors.grid(sizes, logits[0].device)
        targets = self.targets(torch.cat(grid), sizes, samples)
        lengths = [len(anchors) for anchors in grid]
        found: dict[str, Any] = {name: [] for name in self.LOSSES}
        for anchors, score, delta, label, weight, target in zip(
            grid,
            logits,
            deltas,
            *(x.split(lengths, 1) for x in (targets.labels, targets.weights, targets.boxes)),
            strict=True,
        ):
            positive = label < self.num_classes  # (B, N_l)
            boxes = _flat(delta, 4)[positive].float()
            if self.reg_decoded_bbox:
                boxes = self.coder.decode(anchors.expand(len(delta), -1, -1)[positive], boxes)
            values = (
                self.loss_cls(_flat(score, self.num_classes).flatten(0, 1).float(), label.flatten(),
                              weight=weight.flatten(), avg_factor=targets.avg_factor),
                self.loss_bbox(boxes, target[positive], avg_factor=targets.avg_factor),
            )  # fmt: skip
            for name, value in zip(self.LOSSES, values, strict=True):
                found[name].append(value)
        return found

    @torch.no_grad()
    def targets(self, anchors: Tensor, sizes: Sequence[tuple[int, int]], samples: Sequence[DataSample]) -> DenseTargets:
        """The targets of `anchors` (N, 4) on maps of `sizes`."""
        made = [self._targets_of(anchors, sizes, sample) for sample in samples]
        labels, weights, boxes, counts = zip(*made, strict=True)
        return DenseTargets(torch.stack(labels), torch.stack(weights), torch.stack(boxes), sum(counts))

    def _targets_of(
        self, anchors: Tensor, sizes: Sequence[tuple[int, int]], sample: DataSample
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Labels (N,), weights (N,), deltas or boxes (N, 4) and the divisor's share of one picture."""
        objects = self.read_objects(sample, anchors.device)
        inside = self._inside(anchors, sizes, sample).nonzero().flatten()
        sampled = self.sampler.sample(self.assigner.assign(anchors[inside], objects.boxes, objects.ignored))
        positive, negative = inside[sampled.positive], inside[sampled.negative]
        labels = torch.full((len(anchors),), self.num_classes, device=anchors.device)
        labels[positive] = objects.labels[sampled.objects]
        weights = anchors.new_zeros(len(anchors))
        weights[positive] = self.train_cfg["pos_weight"] if self.train_cfg["pos_weight"] > 0 else 1.0
        weights[negative] = 1.0
        boxes = torch.zeros_like(anchors)
        own = objects.boxes[sampled.objects]
        boxes[positive] = own if self.reg_decoded_bbox else self.coder.encode(anchors[positive], own)
        return labels, weights, boxes, sampled.avg_factor

    def read_objects(self, sample: DataSample, device: torch.device) -> Objects:
        """The objects whose classes this head tells apart."""
        return read_objects(sample, self.num_classes, device)

    def _inside(self, anchors: Tensor, sizes: Sequence[tuple[int, int]], sample: DataSample) -> Tensor:
        """Which anchors (N,) may be trained: of cells inside the padded picture, within the border of the picture."""
        flags = self.anchors.inside(sizes, picture_shape(sample, "pad_shape"), anchors.device)
        border = self.train_cfg["allowed_border"]
        if border < 0:
            return flags
        height, width = picture_shape(sample)
        x1, y1, x2, y2 = anchors.unbind(1)
        return flags & (x1 >= -border) & (y1 >= -border) & (x2 < width + border) & (y2 < height + border)

    def predict(
        self, features: Sequence[Tensor], samples: Sequence[DataSample], rescale: bool = True
    ) -> list[InstanceData]:
        """The boxes of every picture with scores and labels, best first; in original pixels if `rescale`."""
        logits, deltas = self(features)
        return self.results(logits, deltas, samples, self.test_cfg, rescale)

    @torch.no_grad()
    def results(
        self, logits: Levels, deltas: Levels, samples: Sequence[DataSample], cfg: Config, rescale: bool = False
    ) -> list[InstanceData]:
        """As `predict`, of what `forward` gave and with the keys of `test_cfg` from `cfg`."""
        grid = self.anchors.grid([(x.shape[-2], x.shape[-1]) for x in logits], logits[0].device)
        scores = [_flat(x, self.num_classes).float().sigmoid() for x in logits]
        flat = [_flat(x, 4).float() for x in deltas]
        return [
            self._result([x[i] for x in scores], [x[i] for x in flat], grid, sample, cfg, rescale)
            for i, sample in enumerate(samples)
        ]

    def _result(
        self, scores: Levels, deltas: Levels, grid: Levels, sample: DataSample, cfg: Config, rescale: bool
    ) -> InstanceData:
        """One picture: `scores` (N_l, K), `deltas` (N_l, 4) and anchors (N_l, 4) of every level -> its boxes."""
        chosen = [self.candidates(score, cfg) for score in scores]
        boxes = torch.cat([
            self.coder.decode(anchors[index], delta[index], picture_shape(sample))
            for anchors, delta, (_, index, _) in zip(grid, deltas, chosen, strict=True)
        ])  # fmt: skip
        score, label = torch.cat([c[0] for c in chosen]), torch.cat([c[2] for c in chosen])
        level = torch.cat([torch.full_like(c[2], i) for i, c in enumerate(chosen)])
        if rescale:
            boxes = boxes / scale_of(sample, boxes)
        if cfg["min_bbox_size"] >= 0:
            keep = (boxes[:, 2:] - boxes[:, :2] > cfg["min_bbox_size"]).all(1)
            boxes, score, label, level = boxes[keep], score[keep], label[keep], level[keep]
        return suppress(boxes, score, label, cfg["nms"], cfg["max_per_img"], self.groups(label, level))

    def groups(self, labels: Tensor, levels: Tensor) -> Tensor:
        """Within which boxes suppress one another."""
        return labels


def _flat(x: Tensor, channels: int) -> Tensor:
    """(B, A * channels, H, W) -> (B, H * W * A, channels), the order of the anchors."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, channels)
