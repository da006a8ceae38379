"""Shared2FCBBoxHead: class and box of every proposal, from its pooled features.

Ren et al., "Faster R-CNN", NIPS 2015, on a pyramid: Lin et al., CVPR 2017. State-dict names are mmdet's.
Letters: R proposals of all pictures, n those of one, K classes, C channels, S side of the pooled features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError
from visionpatch.heads.detection import picture_shape, scale_of, suppress
from visionpatch.registry import MODELS, TASK_UTILS
from visionpatch.structures import DataSample

STDS = (0.1, 0.1, 0.2, 0.2)


@dataclass
class RoITargets:
    """What the proposals of a batch have to learn; P of the R are positive."""

    labels: Tensor  # (R,) int64; num_classes stands for background
    weights: Tensor  # (R,)
    deltas: Tensor  # (P, 4) of the positive ones, in order


@MODELS.register_module()
class Shared2FCBBoxHead(nn.Module):
    """Two fully connected layers, then one each for the K + 1 classes, background last, and the boxes.

    Args:
        in_channels: channels C of the pooled features.
        fc_out_channels: width of the two layers.
        roi_feat_size: side S of the pooled features.
        num_classes: number of classes K.
        bbox_coder: config of the box coder; None: deltas divided by 0.1, 0.1, 0.2, 0.2.
        reg_class_agnostic: one box for all classes instead of one each.
        loss_cls, loss_bbox: configs; None: softmax cross entropy and L1.
    """

    def __init__(
        self,
        in_channels: int = 256,
        fc_out_channels: int = 1024,
        roi_feat_size: int = 7,
        num_classes: int = 80,
        bbox_coder: Mapping[str, Any] | None = None,
        reg_class_agnostic: bool = False,
        loss_cls: Mapping[str, Any] | None = None,
        loss_bbox: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if min(in_channels, fc_out_channels, roi_feat_size, num_classes) < 1:
            raise ConfigError(
                f"Shared2FCBBoxHead: in_channels={in_channels}, fc_out_channels={fc_out_channels}, "
                f"roi_feat_size={roi_feat_size}, num_classes={num_classes} must be positive"
            )
        self.in_channels, self.roi_feat_size, self.num_classes = in_channels, roi_feat_size, num_classes
        self.reg_class_agnostic = reg_class_agnostic
        self.coder = TASK_UTILS.build(dict(bbox_coder or dict(type="DeltaXYWHBBoxCoder", target_stds=STDS)))
        self.loss_cls = MODELS.build(dict(loss_cls or dict(type="CrossEntropyLoss")))
        self.loss_bbox = MODELS.build(dict(loss_bbox or dict(type="L1Loss")))
        if getattr(self.loss_cls, "use_sigmoid", False):
            raise ConfigError("Shared2FCBBoxHead.loss_cls: set use_sigmoid=False; the classes exclude one another")
        shared = [nn.Linear(n, fc_out_channels) for n in (in_channels * roi_feat_size**2, fc_out_channels)]
        self.shared_fcs = nn.ModuleList(shared)
        self.fc_cls = nn.Linear(fc_out_channels, num_classes + 1)
        self.fc_reg = nn.Linear(fc_out_channels, 4 if reg_class_agnostic else 4 * num_classes)
        for layer in shared:
            nn.init.xavier_uniform_(layer.weight)
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.normal_(self.fc_reg.weight, std=0.001)
        for layer in (*shared, self.fc_cls, self.fc_reg):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, S, S) -> class logits (R, K + 1) and deltas (R, 4 K), class by class."""
        if x.shape[1:] != (self.in_channels, self.roi_feat_size, self.roi_feat_size):
            raise ConfigError(
                f"Shared2FCBBoxHead: in_channels={self.in_channels} and roi_feat_size={self.roi_feat_size}, but the "
                f"pooled features are {tuple(x.shape[1:])}"
            )
        x = x.flatten(1)
        for layer in self.shared_fcs:
            x = F.relu(layer(x))
        return self.fc_cls(x), self.fc_reg(x)

    def loss(self, logits: Tensor, deltas: Tensor, targets: RoITargets) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox`` of the true classes' boxes, and ``acc``, the percentage of right classes."""
        labels, number = targets.labels, max(len(targets.labels), 1)
        positive = (labels < self.num_classes).nonzero().flatten()
        own = torch.zeros_like(positive) if self.reg_class_agnostic else labels[positive]
        chosen = deltas.float().unflatten(1, (-1, 4))[positive, own]  # (P, 4)
        right = logits.argmax(1) == labels
        return {
            "loss_cls": self.loss_cls(logits.float(), labels, weight=targets.weights, avg_factor=number),
            "loss_bbox": self.loss_bbox(chosen, targets.deltas, avg_factor=number),
            "acc": 100.0 * right.sum().reshape(1) / number,
        }

    def predict(
        self, boxes: Tensor, logits: Tensor, deltas: Tensor, sample: DataSample, cfg: Mapping[str, Any], rescale: bool
    ) -> InstanceData:
        """The boxes of one picture, best first, from its proposals `boxes` (n, 4) and what `forward` gave for them.

        `cfg` has ``score_thr`` (which scores must exceed), ``nms`` and ``max_per_img``.
        """
        scores = logits.float().softmax(1)[:, : self.num_classes]
        index, labels = (scores > cfg["score_thr"]).nonzero(as_tuple=True)
        own = torch.zeros_like(labels) if self.reg_class_agnostic else labels
        chosen = deltas.unflatten(1, (-1, 4))[index, own]
        found = self.coder.decode(boxes[index], chosen, picture_shape(sample))
        if rescale:
            found = found / scale_of(sample, found)
        return suppress(found, scores[index, labels], labels, cfg["nms"], cfg["max_per_img"])


def to_rois(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes (n_i, 4) of every picture -> (R, 5), the picture's index first."""
    return torch.cat([torch.cat([b.new_full((len(b), 1), i), b], 1) for i, b in enumerate(boxes)])
