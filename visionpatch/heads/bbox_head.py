"""ConvFCBBoxHead and Shared2FCBBoxHead: class and box of every proposal, from its pooled features.

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
from visionpatch.heads.detection import check_box_loss, picture_shape, scale_of, suppress
from visionpatch.layers.conv_module import ConvModule
from visionpatch.registry import MODELS, TASK_UTILS
from visionpatch.structures import DataSample

STDS = (0.1, 0.1, 0.2, 0.2)


@dataclass
class RoITargets:
    """What the proposals of a batch have to learn; P of the R are positive."""

    labels: Tensor  # (R,) int64; num_classes stands for background
    weights: Tensor  # (R,)
    deltas: Tensor  # (P, 4) of the positive ones, in order; the objects' boxes where decoded boxes are compared
    boxes: Tensor  # (P, 4) the positive ones


@MODELS.register_module()
class ConvFCBBoxHead(nn.Module):
    """3x3 convolutions, fully connected layers, then one each for the K + 1 classes, background last, and the boxes.

    Args:
        in_channels: channels C of the pooled features.
        num_shared_convs: number of convolutions.
        num_shared_fcs: number of fully connected layers.
        conv_out_channels: channels of the convolutions.
        fc_out_channels: width of the fully connected layers.
        norm_cfg: norm of the convolutions; None for none.
        roi_feat_size: side S of the pooled features.
        num_classes: number of classes K.
        bbox_coder: config of the box coder; None: deltas divided by 0.1, 0.1, 0.2, 0.2.
        reg_class_agnostic: one box for all classes instead of one each.
        reg_decoded_bbox: `loss_bbox` compares boxes in pixels instead of deltas, as IoULoss, GIoULoss, DIoULoss
            and CIoULoss must.
        loss_cls, loss_bbox: configs; None: softmax cross entropy and L1.

    Raises:
        ConfigError: a size that is not positive, no layer at all, a loss that does not fit.
    """

    def __init__(
        self,
        in_channels: int = 256,
        num_shared_convs: int = 0,
        num_shared_fcs: int = 2,
        conv_out_channels: int = 256,
        fc_out_channels: int = 1024,
        norm_cfg: Mapping[str, Any] | None = None,
        roi_feat_size: int = 7,
        num_classes: int = 80,
        bbox_coder: Mapping[str, Any] | None = None,
        reg_class_agnostic: bool = False,
        reg_decoded_bbox: bool = False,
        loss_cls: Mapping[str, Any] | None = None,
        loss_bbox: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.roi_feat_size, self.num_classes = in_channels, roi_feat_size, num_classes
        self.reg_class_agnostic, self.reg_decoded_bbox = reg_class_agnostic, reg_decoded_bbox
        name = type(self).__name__
        if min(in_channels, conv_out_channels, fc_out_channels, roi_feat_size, num_classes) < 1:
            raise ConfigError(
                f"{name}: in_channels={in_channels}, conv_out_channels={conv_out_channels}, "
                f"fc_out_channels={fc_out_channels}, roi_feat_size={roi_feat_size}, num_classes={num_classes} must be "
                "positive"
            )
        if num_shared_convs < 0 or num_shared_fcs < 1:
            raise ConfigError(
                f"{name}: num_shared_convs={num_shared_convs} must not be negative, num_shared_fcs={num_shared_fcs} "
                "must be positive"
            )
        self.coder = TASK_UTILS.build(dict(bbox_coder or dict(type="DeltaXYWHBBoxCoder", target_stds=STDS)))
        self.loss_cls = MODELS.build(dict(loss_cls or dict(type="CrossEntropyLoss")))
        self.loss_bbox = MODELS.build(dict(loss_bbox or dict(type="L1Loss")))
        if getattr(self.loss_cls, "use_sigmoid", False):
            raise ConfigError(f"{name}.loss_cls: set use_sigmoid=False; the classes exclude one another")
        check_box_loss(f"{name}.loss_bbox", self.loss_bbox, reg_decoded_bbox)
        widths = (in_channels, *(conv_out_channels,) * num_shared_convs)
        if num_shared_convs:
            convs = (ConvModule(c, conv_out_channels, 3, padding=1, norm_cfg=norm_cfg) for c in widths[:-1])
            self.shared_convs = nn.ModuleList(convs)
        flat = widths[-1] * roi_feat_size**2
        shared = [nn.Linear(n, fc_out_channels) for n in (flat, *(fc_out_channels,) * (num_shared_fcs - 1))]
        self.shared_fcs = nn.ModuleList(shared)
        self.fc_cls = nn.Linear(fc_out_channels, num_classes + 1)
        self.fc_reg = nn.Linear(fc_out_channels, 4 if reg_class_agnostic else 4 * num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for layer in (*self.shared_fcs, self.fc_cls, self.fc_reg):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for layer in self.shared_fcs:
            nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.normal_(self.fc_reg.weight, std=0.001)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (R, C, S, S) -> class logits (R, K + 1) and deltas (R, 4 K), class by class."""
        if x.shape[1:] != (self.in_channels, self.roi_feat_size, self.roi_feat_size):
            raise ConfigError(
                f"{type(self).__name__}: in_channels={self.in_channels} and roi_feat_size={self.roi_feat_size}, but "
                f"the pooled features are {tuple(x.shape[1:])}"
            )
        for conv in getattr(self, "shared_convs", ()):
            x = conv(x)
        x = x.flatten(1)
        for layer in self.shared_fcs:
            x = F.relu(layer(x))
        return self.fc_cls(x), self.fc_reg(x)

    def own_deltas(self, deltas: Tensor, index: Tensor, labels: Tensor) -> Tensor:
        """Of `deltas` (R, 4 K) the rows `index` (n,), and of each the four (n, 4) of its class in `labels` (n,)."""
        own = torch.zeros_like(labels) if self.reg_class_agnostic else labels
        return deltas.float().unflatten(1, (-1, 4))[index, own]

    def encode(self, boxes: Tensor, objects: Tensor) -> Tensor:
        """What the proposals `boxes` (P, 4) learn of the `objects` (P, 4): deltas, or the objects' boxes."""
        return objects if self.reg_decoded_bbox else self.coder.encode(boxes, objects)

    def refine(self, boxes: Tensor, labels: Tensor, deltas: Tensor, img_shape: Sequence[int] | None) -> Tensor:
        """Where `deltas` (n, 4 K) move the proposals `boxes` (n, 4) as objects of `labels` (n,), cut at `img_shape`."""
        index = torch.arange(len(boxes), device=boxes.device)
        return self.coder.decode(boxes, self.own_deltas(deltas, index, labels), img_shape)

    def loss(self, logits: Tensor, deltas: Tensor, targets: RoITargets) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox`` of the true classes' boxes, and ``acc``, the percentage of right classes."""
        labels, number = targets.labels, max(len(targets.labels), 1)
        positive = (labels < self.num_classes).nonzero().flatten()
        chosen = self.own_deltas(deltas, positive, labels[positive])  # (P, 4)
        if self.reg_decoded_bbox:
            chosen = self.coder.decode(targets.boxes, chosen)
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
        found = self.coder.decode(boxes[index], self.own_deltas(deltas, index, labels), picture_shape(sample))
        if rescale:
            found = found / scale_of(sample, found)
        return suppress(found, scores[index, labels], labels, cfg["nms"], cfg["max_per_img"])


@MODELS.register_module()
class Shared2FCBBoxHead(ConvFCBBoxHead):
    """Two fully connected layers and no convolution: the head of Faster R-CNN and Mask R-CNN on a pyramid."""

    def __init__(
        self,
        in_channels: int = 256,
        fc_out_channels: int = 1024,
        roi_feat_size: int = 7,
        num_classes: int = 80,
        bbox_coder: Mapping[str, Any] | None = None,
        reg_class_agnostic: bool = False,
        reg_decoded_bbox: bool = False,
        loss_cls: Mapping[str, Any] | None = None,
        loss_bbox: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            fc_out_channels=fc_out_channels,
            roi_feat_size=roi_feat_size,
            num_classes=num_classes,
            bbox_coder=bbox_coder,
            reg_class_agnostic=reg_class_agnostic,
            reg_decoded_bbox=reg_decoded_bbox,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
        )


def to_rois(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes (n_i, 4) of every picture -> (R, 5), the picture's index first."""
    return torch.cat([torch.cat([b.new_full((len(b), 1), i), b], 1) for i, b in enumerate(boxes)])
