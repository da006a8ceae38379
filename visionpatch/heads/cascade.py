"""CascadeRoIHead: a second stage of several, each of which moves the boxes that the next one is trained on.

Cai and Vasconcelos, "Cascade R-CNN: Delving into High Quality Object Detection", CVPR 2018; with masks: the same,
"Cascade R-CNN: High Quality Object Detection and Instance Segmentation", TPAMI 2019. State-dict names are mmdet's.
Letters: R proposals of all pictures, n those of one picture, K classes, M side of a mask, H, W of a picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from visionpatch.errors import ConfigError
from visionpatch.heads.bbox_head import ConvFCBBoxHead, to_rois
from visionpatch.heads.detection import picture_shape, settings
from visionpatch.heads.fcn_mask import FCNMaskHead
from visionpatch.heads.roi import TEST, TRAIN, build_part
from visionpatch.heads.roi_extractor import SingleRoIExtractor
from visionpatch.heads.roi_stage import Features, RoIStage, SampledRoIs, results_of
from visionpatch.registry import MODELS, TASK_UTILS
from visionpatch.structures import DataSample

Config = Mapping[str, Any]
IOUS = (0.5, 0.6, 0.7)  # of positive proposals of each stage (section 5.1); those after the third keep the last


@MODELS.register_module()
class CascadeRoIHead(nn.Module):
    """Classes, boxes and masks of proposals that are refined from stage to stage.

    Args:
        bbox_roi_extractor, bbox_head, mask_roi_extractor, mask_head: a config for all stages, or a list with a module
            or a config for each. None: as in `StandardRoIHead`.
        num_stages: number of stages.
        stage_loss_weights: factor of the losses of each stage.
        train_cfg: a list of the settings of each stage, in the form of `StandardRoIHead`; by default proposals are
            positive from an IoU of 0.5, 0.6 and 0.7 on.
        test_cfg: as in `StandardRoIHead`.

    Raises:
        ConfigError: an unknown key, a list of another length than `num_stages`, or parts that do not fit each other.
    """

    TEST = TEST

    def __init__(
        self,
        bbox_roi_extractor: Config | Sequence[Config | SingleRoIExtractor],
        bbox_head: Config | Sequence[Config | ConvFCBBoxHead],
        mask_roi_extractor: Config | Sequence[Config | SingleRoIExtractor] | None = None,
        mask_head: Config | Sequence[Config | FCNMaskHead] | None = None,
        num_stages: int = 3,
        stage_loss_weights: Sequence[float] = (1.0, 0.5, 0.25),
        train_cfg: Sequence[Config] | None = None,
        test_cfg: Config | None = None,
    ) -> None:
        super().__init__()
        if num_stages < 1:
            raise ConfigError(f"CascadeRoIHead: num_stages={num_stages} must be positive")
        self.num_stages = num_stages
        self.stage_loss_weights = tuple(_list("stage_loss_weights", stage_loss_weights, num_stages))
        self.bbox_roi_extractor = _build("bbox_roi_extractor", bbox_roi_extractor, num_stages)
        self.bbox_head = _build("bbox_head", bbox_head, num_stages)
        if mask_head is not None:
            self.mask_head = _build("mask_head", mask_head, num_stages)
        if mask_roi_extractor is not None:
            self.mask_roi_extractor = _build("mask_roi_extractor", mask_roi_extractor, num_stages)
        given = [None] * num_stages if train_cfg is None else _list("train_cfg", train_cfg, num_stages)
        self.train_cfg = [
            settings(f"CascadeRoIHead.train_cfg.{i}", own, _train_defaults(i)) for i, own in enumerate(given)
        ]
        self.test_cfg = settings("CascadeRoIHead.test_cfg", test_cfg, TEST)
        self.assigners = [TASK_UTILS.build(dict(own["assigner"])) for own in self.train_cfg]
        self.samplers = [TASK_UTILS.build(dict(own["sampler"])) for own in self.train_cfg]
        self._check()

    def _check(self) -> None:
        for i, stage in enumerate(self.stages):
            stage.check()
            if stage.bbox_head.num_classes != self.num_classes:
                raise ConfigError(
                    f"roi_head.bbox_head.{i}.num_classes = {stage.bbox_head.num_classes}, but bbox_head.0 has "
                    f"{self.num_classes}"
                )

    @property
    def num_classes(self) -> int:
        return self.stages[0].bbox_head.num_classes

    @property
    def with_masks(self) -> bool:
        return hasattr(self, "mask_head")

    @property
    def stages(self) -> tuple[RoIStage, ...]:
        """The parts of every stage."""
        masks: Any = self.mask_head if self.with_masks else [None] * self.num_stages
        pooling: Any = getattr(self, "mask_roi_extractor", self.bbox_roi_extractor)
        modules = (self.bbox_roi_extractor, self.bbox_head, pooling, masks)
        names = [f".{i}" for i in range(self.num_stages)]
        parts: Any = zip(*modules, self.assigners, self.samplers, self.train_cfg, names, strict=True)
        return tuple(RoIStage(*own) for own in parts)

    def forward(
        self, features: Features, boxes: Sequence[Tensor], samples: Sequence[DataSample] | None = None
    ) -> tuple[Tensor, ...]:
        """Maps and proposals (n_i, 4) of every picture -> class logits (R, K + 1), the mean of all stages; deltas
        (R, 4 K), or (R, 4), of the last stage from the boxes it got; with mask heads mask probabilities (R, K, M, M)
        at these boxes, the mean of all stages. Without `samples` boxes are not cut at the pictures' borders."""
        boxes, logits, deltas = self._refine(features, boxes, samples)
        if not self.with_masks:
            return logits, deltas
        rois = to_rois(boxes)
        masks = torch.stack([stage.masks(features, rois).float().sigmoid() for stage in self.stages]).mean(0)
        return logits, deltas, masks

    def _refine(
        self, features: Features, boxes: Sequence[Tensor], samples: Sequence[DataSample] | None
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Proposals (n_i, 4) -> those of the last stage, the mean logits (R, K + 1) and the last stage's deltas.

        Every stage moves a box as an object of the class it finds likeliest.
        """
        boxes, counts = list(boxes), [len(own) for own in boxes]
        shapes = [None] * len(boxes) if samples is None else [picture_shape(sample) for sample in samples]
        stages, total = self.stages, []
        for i, stage in enumerate(stages):
            logits, deltas = stage.boxes(features, to_rois(boxes))
            total.append(logits.float())
            if i + 1 < len(stages):
                parts = zip(boxes, _likeliest(logits).split(counts), deltas.split(counts), shapes, strict=True)
                boxes = [stage.bbox_head.refine(*own) for own in parts]
        return boxes, torch.stack(total).mean(0), deltas

    def loss(
        self, features: Features, proposals: Sequence[InstanceData], samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """The losses of `StandardRoIHead`, of stage i with the prefix ``s<i>.`` and times its weight.

        Raises:
            DataError: a sample without objects' annotation, or without masks where they are needed.
            BadSampleError: a label out of range.
        """
        boxes, losses = [found.bboxes for found in proposals], dict[str, Tensor]()
        for i, (stage, weight) in enumerate(zip(self.stages, self.stage_loss_weights, strict=True)):
            drawn = [stage.sample(own, sample) for own, sample in zip(boxes, samples, strict=True)]
            own_losses, logits, deltas = stage.loss(features, drawn)
            losses |= {f"s{i}.{name}": x * weight if "loss" in name else x for name, x in own_losses.items()}
            boxes = self.next_proposals(stage, drawn, logits, deltas, samples)
        return losses

    @torch.no_grad()
    def next_proposals(
        self,
        stage: RoIStage,
        drawn: Sequence[SampledRoIs],
        logits: Tensor,
        deltas: Tensor,
        samples: Sequence[DataSample],
    ) -> list[Tensor]:
        """What `stage` makes of the proposals it was trained on, for the next one; objects' own boxes are left out.

        Positive ones move as objects of their true class, the others as the class that `logits` find likeliest.
        """
        counts, refined = [len(one.boxes) for one in drawn], []
        parts = zip(drawn, _likeliest(logits).split(counts), deltas.split(counts), samples, strict=True)
        for one, likeliest, delta, sample in parts:
            labels = torch.cat([one.labels, likeliest[len(one.labels) :]])
            refined.append(stage.bbox_head.refine(one.boxes, labels, delta, picture_shape(sample))[~one.own])
        return refined

    @torch.no_grad()
    def predict(
        self,
        features: Features,
        proposals: Sequence[InstanceData],
        samples: Sequence[DataSample],
        rescale: bool = True,
    ) -> list[InstanceData]:
        """As `StandardRoIHead.predict`.

        Scores are the softmax of the stages' mean logits, boxes those of the last stage, masks the mean of the stages'
        probabilities. (The paper averages the classifiers without saying what of them; this is what mmdet does.)
        """
        boxes, logits, deltas = self._refine(features, [found.bboxes for found in proposals], samples)
        return results_of(self.stages, features, boxes, logits, deltas, samples, self.test_cfg, rescale)


def _train_defaults(stage: int) -> Config:
    iou = IOUS[min(stage, len(IOUS) - 1)]
    return TRAIN | dict(assigner=TRAIN["assigner"] | dict(pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou))


def _likeliest(logits: Tensor) -> Tensor:
    """The class (R,) of the greatest of `logits` (R, K + 1), background left out."""
    return logits[:, :-1].argmax(1)


def _build(name: str, parts: Any, number: int) -> nn.ModuleList:
    """A part for every stage, of one config or of a list."""
    if isinstance(parts, nn.Module) and not isinstance(parts, nn.ModuleList):
        raise ConfigError(f"CascadeRoIHead.{name}: one module; give a config, or a list with a module for each stage")
    several = [parts] * number if isinstance(parts, Mapping) else _list(name, parts, number)
    return nn.ModuleList(build_part(part) for part in several)


def _list(name: str, values: Any, number: int) -> list:
    several = isinstance(values, Sequence | nn.ModuleList) and not isinstance(values, str)
    if not several or len(values) != number:
        given = f"{len(values)} entries" if several else f"one {type(values).__name__}"
        raise ConfigError(f"CascadeRoIHead.{name}: {given}, but num_stages={number}; give one a stage")
    return list(values)
