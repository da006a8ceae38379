"""StandardRoIHead: the second stage of Faster R-CNN and Mask R-CNN.

Ren et al., "Faster R-CNN", NIPS 2015; He et al., "Mask R-CNN", ICCV 2017. State-dict names are mmdet's.
Letters: B batch, R proposals of all pictures, n those of one picture, K classes, M side of a mask, H, W of a picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from visionpatch.heads.bbox_head import ConvFCBBoxHead, to_rois
from visionpatch.heads.detection import settings
from visionpatch.heads.fcn_mask import FCNMaskHead
from visionpatch.heads.roi_extractor import SingleRoIExtractor
from visionpatch.heads.roi_stage import Features, RoIStage, results_of
from visionpatch.registry import MODELS, TASK_UTILS
from visionpatch.structures import DataSample

Config = Mapping[str, Any]
TRAIN: dict[str, Any] = dict(
    assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False),
    sampler=dict(type="RandomSampler", num=512, pos_fraction=0.25),
    mask_size=28,
    pos_weight=-1,
    debug=False,
)
TEST: dict[str, Any] = dict(
    score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5
)


@MODELS.register_module()
class StandardRoIHead(nn.Module):
    """Classes and boxes of proposals, and masks where there is a mask head.

    Args:
        bbox_roi_extractor, bbox_head: modules or configs.
        mask_head: module or config; None for boxes alone.
        mask_roi_extractor: None: the one of the boxes.
        train_cfg: ``assigner``, ``sampler``, ``mask_size`` (side M of the masks), ``pos_weight`` (weight of positive
            proposals; not above 0: 1), ``debug`` (without effect).
        test_cfg: ``score_thr``, ``nms``, ``max_per_img``, ``mask_thr_binary`` (probability from which a pixel belongs
            to an object).

    Raises:
        ConfigError: an unknown key, or parts that do not fit each other.
    """

    TEST = TEST

    def __init__(
        self,
        bbox_roi_extractor: Config | SingleRoIExtractor,
        bbox_head: Config | ConvFCBBoxHead,
        mask_roi_extractor: Config | SingleRoIExtractor | None = None,
        mask_head: Config | FCNMaskHead | None = None,
        train_cfg: Config | None = None,
        test_cfg: Config | None = None,
    ) -> None:
        super().__init__()
        self.bbox_roi_extractor, self.bbox_head = build_part(bbox_roi_extractor), build_part(bbox_head)
        self.mask_head = None if mask_head is None else build_part(mask_head)
        self.mask_roi_extractor = None if mask_roi_extractor is None else build_part(mask_roi_extractor)
        self.train_cfg = settings("StandardRoIHead.train_cfg", train_cfg, self._train_defaults())
        self.test_cfg = settings("StandardRoIHead.test_cfg", test_cfg, TEST)
        self.assigner = TASK_UTILS.build(dict(self.train_cfg["assigner"]))
        self.sampler = TASK_UTILS.build(dict(self.train_cfg["sampler"]))
        self.stage.check()

    def _train_defaults(self) -> Config:
        """Mask R-CNN is published with the best proposals of every object positive, Faster R-CNN without."""
        assigner = {**TRAIN["assigner"], "match_low_quality": self.mask_head is not None}
        return {**TRAIN, "assigner": assigner}

    @property
    def num_classes(self) -> int:
        return self.bbox_head.num_classes

    @property
    def stage(self) -> RoIStage:
        """The parts of this head."""
        pooling = self.mask_roi_extractor or self.bbox_roi_extractor
        parts = (self.bbox_roi_extractor, self.bbox_head, pooling, self.mask_head)
        return RoIStage(*parts, self.assigner, self.sampler, self.train_cfg)

    @property
    def stages(self) -> tuple[RoIStage, ...]:
        """The same, as a cascade has several."""
        return (self.stage,)

    def forward(
        self, features: Features, boxes: Sequence[Tensor], samples: Sequence[DataSample] | None = None
    ) -> tuple[Tensor, ...]:
        """Maps and proposals (n_i, 4) of every picture -> class logits (R, K + 1), deltas (R, 4 K) and, with a mask
        head, mask logits (R, K, M, M). The `samples` are what a cascade needs; here they have no effect."""
        rois, stage = to_rois(boxes), self.stage
        outputs = stage.boxes(features, rois)
        return outputs if self.mask_head is None else (*outputs, stage.masks(features, rois))

    def loss(
        self, features: Features, proposals: Sequence[InstanceData], samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox``, ``acc`` and, with a mask head, ``loss_mask``.

        Raises:
            DataError: a sample without objects' annotation, or without masks where they are needed.
            BadSampleError: a label out of range.
        """
        stage = self.stage
        drawn = [stage.sample(found.bboxes, sample) for found, sample in zip(proposals, samples, strict=True)]
        return stage.loss(features, drawn)[0]

    @torch.no_grad()
    def predict(
        self,
        features: Features,
        proposals: Sequence[InstanceData],
        samples: Sequence[DataSample],
        rescale: bool = True,
    ) -> list[InstanceData]:
        """Boxes, scores, labels and masks (n, H, W) of every picture, best first; in original pixels if `rescale`."""
        boxes = [found.bboxes for found in proposals]
        logits, deltas = self.stage.boxes(features, to_rois(boxes))
        return results_of(self.stages, features, boxes, logits, deltas, samples, self.test_cfg, rescale)


def build_part(part: Any) -> Any:
    """The module itself, or the one its config describes."""
    return part if isinstance(part, nn.Module) else MODELS.build(dict(part))
