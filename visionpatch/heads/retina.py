"""RetinaHead: a class and a box for every anchor of every level, trained with the focal loss.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. State-dict names are mmdet's.
Letters: B batch, A anchors of a cell, K classes, N_l anchors of one level, H, W of a map.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from visionpatch.heads.anchor_head import AnchorHead
from visionpatch.layers.conv_module import ConvModule
from visionpatch.registry import MODELS

# section 4: areas of 32^2 to 512^2 on strides 8 to 128, three sizes and three shapes each
ANCHORS: Mapping[str, Any] = dict(
    type="AnchorGenerator",
    octave_base_scale=4,
    scales_per_octave=3,
    ratios=(0.5, 1.0, 2.0),
    strides=(8, 16, 32, 64, 128),
)
PRIOR = 0.01  # section 4.1: probability of an object at every anchor when training begins


@MODELS.register_module()
class RetinaHead(AnchorHead):
    """Two towers of convolutions, shared by all levels, for classes and boxes.

    Args:
        num_classes: number of classes K.
        in_channels: channels of every map.
        stacked_convs: 3x3 convolutions of each tower.
        feat_channels: their channels.
        norm_cfg: their norm, such as ``dict(type="GN", num_groups=32)``; None for none.
        anchor_generator, bbox_coder, loss_cls, loss_bbox, train_cfg: as in `AnchorHead`; None: as published.
        reg_decoded_bbox: as in `AnchorHead`.
        test_cfg: ``nms_pre`` (best pairs of anchor and class kept of each level), ``score_thr`` (which their score must
            exceed), ``min_bbox_size`` (pixels that both sides must exceed), ``nms``, ``max_per_img``.
    """

    TRAIN = AnchorHead.TRAIN | dict(assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4))
    TEST = dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        stacked_convs: int = 4,
        feat_channels: int = 256,
        norm_cfg: Mapping[str, Any] | None = None,
        anchor_generator: Mapping[str, Any] | None = None,
        bbox_coder: Mapping[str, Any] | None = None,
        loss_cls: Mapping[str, Any] | None = None,
        loss_bbox: Mapping[str, Any] | None = None,
        reg_decoded_bbox: bool = False,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            anchor_generator=anchor_generator or ANCHORS,
            bbox_coder=bbox_coder or dict(type="DeltaXYWHBBoxCoder"),
            loss_cls=loss_cls or dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=loss_bbox or dict(type="L1Loss"),
            reg_decoded_bbox=reg_decoded_bbox,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
        )
        widths = (in_channels, *(feat_channels,) * stacked_convs)
        self.cls_convs, self.reg_convs = (
            nn.ModuleList(ConvModule(c, feat_channels, 3, padding=1, norm_cfg=norm_cfg) for c in widths[:-1])
            for _ in range(2)
        )
        self.retina_cls = nn.Conv2d(widths[-1], self.anchors.num_anchors * num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(widths[-1], self.anchors.num_anchors * 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.retina_cls.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward_level(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A map (B, in_channels, H, W) -> class logits (B, A * K, H, W) and deltas (B, A * 4, H, W)."""
        classes = boxes = x
        for conv in self.cls_convs:
            classes = conv(classes)
        for conv in self.reg_convs:
            boxes = conv(boxes)
        return self.retina_cls(classes), self.retina_reg(boxes)

    def candidates(self, scores: Tensor, cfg: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Of `scores` (N_l, K) the ``nms_pre`` best pairs above ``score_thr``: values, anchors' indices, labels."""
        anchors, labels = (scores > cfg["score_thr"]).nonzero(as_tuple=True)
        values, order = scores[anchors, labels].sort(descending=True)  # mmdet's call, for its order of equal scores
        if cfg["nms_pre"] > 0:
            values, order = values[: cfg["nms_pre"]], order[: cfg["nms_pre"]]
        return values, anchors[order], labels[order]
