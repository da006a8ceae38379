"""RPNHead: whether there is an object at an anchor, whatever its class, and its box: the proposals of a second stage.

Ren et al., "Faster R-CNN", NIPS 2015. State-dict names are mmdet's.
Letters: B batch, A anchors of a cell, N_l anchors of one level, H, W of a map.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.heads.anchor_head import AnchorHead
from visionpatch.heads.detection import Objects, read_objects, settings
from visionpatch.layers.conv_module import ConvModule
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

# Lin et al., "Feature Pyramid Networks for Object Detection", section 4.1: areas of 32^2 to 512^2, one size a level
ANCHORS: Mapping[str, Any] = dict(
    type="AnchorGenerator", scales=(8,), ratios=(0.5, 1.0, 2.0), strides=(4, 8, 16, 32, 64)
)
ANY_LABEL = torch.iinfo(torch.int64).max


@MODELS.register_module()
class RPNHead(AnchorHead):
    """A 3x3 convolution shared by all levels, then a 1x1 one each for objectness and box.

    Args:
        in_channels: channels of every map.
        feat_channels: channels of the shared convolution.
        num_convs: shared convolutions.
        anchor_generator, bbox_coder, loss_cls, loss_bbox, train_cfg: as in `AnchorHead`; None: as published.
        reg_decoded_bbox: as in `AnchorHead`.
        test_cfg: ``nms_pre`` (best anchors kept of each level), ``min_bbox_size`` (pixels that both sides must exceed),
            ``nms`` (boxes suppress those of their own level), ``max_per_img``.
        proposal_cfg: the keys of `test_cfg` for the proposals of a training step.
    """

    TRAIN = AnchorHead.TRAIN | dict(
        assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
        sampler=dict(type="RandomSampler", num=256, pos_fraction=0.5, add_gt_as_proposals=False),
    )
    TEST = dict(nms_pre=1000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)
    LOSSES = ("loss_rpn_cls", "loss_rpn_bbox")

    def __init__(
        self,
        in_channels: int = 256,
        feat_channels: int = 256,
        num_convs: int = 1,
        anchor_generator: Mapping[str, Any] | None = None,
        bbox_coder: Mapping[str, Any] | None = None,
        loss_cls: Mapping[str, Any] | None = None,
        loss_bbox: Mapping[str, Any] | None = None,
        reg_decoded_bbox: bool = False,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
        proposal_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            1,
            anchor_generator=anchor_generator or ANCHORS,
            bbox_coder=bbox_coder or dict(type="DeltaXYWHBBoxCoder"),
            loss_cls=loss_cls or dict(type="CrossEntropyLoss", use_sigmoid=True),
            loss_bbox=loss_bbox or dict(type="L1Loss"),
            reg_decoded_bbox=reg_decoded_bbox,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
        )
        self.proposal_cfg = settings("RPNHead.proposal_cfg", proposal_cfg, self.TEST | dict(nms_pre=2000))
        if num_convs > 1:
            widths = (in_channels, *(feat_channels,) * (num_convs - 1))
            self.rpn_conv: nn.Module = nn.Sequential(*(ConvModule(c, feat_channels, 3, padding=1) for c in widths))
        else:
            self.rpn_conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(feat_channels, self.anchors.num_anchors, 1)
        self.rpn_reg = nn.Conv2d(feat_channels, self.anchors.num_anchors * 4, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward_level(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A map (B, in_channels, H, W) -> objectness (B, A, H, W) and deltas (B, A * 4, H, W)."""
        x = F.relu(self.rpn_conv(x))
        return self.rpn_cls(x), self.rpn_reg(x)

    def candidates(self, scores: Tensor, cfg: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Of `scores` (N_l, 1) the ``nms_pre`` best: values, anchors' indices, labels (all 0)."""
        values = scores.flatten()
        index = torch.arange(len(values), device=values.device)
        if 0 < cfg["nms_pre"] < len(values):
            values, index = (x[: cfg["nms_pre"]] for x in values.sort(descending=True))  # mmdet's, for equal scores
        return values, index, torch.zeros_like(index)

    def groups(self, labels: Tensor, levels: Tensor) -> Tensor:
        """Boxes suppress those of their own level."""
        return levels

    def read_objects(self, sample: DataSample, device: torch.device) -> Objects:
        """All objects, as one class; the labels are for the second stage to check."""
        objects = read_objects(sample, ANY_LABEL, device)
        objects.labels = torch.zeros_like(objects.labels)
        return objects

    def loss_and_proposals(
        self, features: Sequence[Tensor], samples: Sequence[DataSample]
    ) -> tuple[dict[str, Any], list[InstanceData]]:
        """The losses of `loss`, and proposals of the same forward pass for the second stage."""
        logits, deltas = self(features)
        losses = self.losses(logits, deltas, samples)
        return losses, self.results(logits, deltas, samples, self.proposal_cfg)
