"""One stage of a second stage: pooling, box head and mask head, and how they are trained; a cascade has several.

Ren et al., "Faster R-CNN", NIPS 2015; He et al., "Mask R-CNN", ICCV 2017.
Letters: B batch, R proposals of all pictures, P positive ones, n those of one picture, K classes, M side of a mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from visionpatch.errors import ConfigError, DataError
from visionpatch.heads.bbox_head import ConvFCBBoxHead, RoITargets, to_rois
from visionpatch.heads.detection import Objects, picture_shape, read_objects, scale_of
from visionpatch.heads.fcn_mask import FCNMaskHead, mask_targets, paste_masks
from visionpatch.heads.matching import Sampled
from visionpatch.heads.roi_extractor import SingleRoIExtractor
from visionpatch.structures import DataSample

Features = Sequence[Tensor]


@dataclass
class SampledRoIs:
    """The proposals of one picture that are trained, positive ones first."""

    boxes: Tensor  # (n, 4)
    own: Tensor  # (n,) bool: boxes of the objects themselves, which the sampler has put before the proposals
    sampled: Sampled  # indices into the objects' own boxes, if these are added, and the proposals after them
    objects: Objects

    @property
    def positive(self) -> Tensor:
        """The positive boxes (P, 4)."""
        return self.boxes[: len(self.sampled.positive)]

    @property
    def labels(self) -> Tensor:
        """Of the positive ones (P,)."""
        return self.objects.labels[self.sampled.objects]


@dataclass
class RoIStage:
    """The parts of one stage. `suffix` is what their names in a config end with: ``.0`` in a cascade."""

    bbox_extractor: SingleRoIExtractor
    bbox_head: ConvFCBBoxHead
    mask_extractor: SingleRoIExtractor  # without one of their own, masks are pooled as boxes are
    mask_head: FCNMaskHead | None
    assigner: Any
    sampler: Any
    cfg: dict[str, Any]  # a train_cfg
    suffix: str = ""

    def check(self) -> None:
        """Raises ConfigError where parts do not fit each other."""
        pairs = [("bbox", self.bbox_extractor, self.bbox_head), ("mask", self.mask_extractor, self.mask_head)]
        for name, extractor, head in pairs:
            if head is None:
                continue
            path = f"roi_head.{name}_head{self.suffix}"
            given = (head.in_channels, head.roi_feat_size, head.roi_feat_size)
            expected = (extractor.out_channels, *extractor.output_size)
            if given != expected:
                raise ConfigError(
                    f"{path}: in_channels and roi_feat_size are made for {given}, the extractor gives {expected} "
                    "(out_channels, output_size)"
                )
            if head.num_classes != self.bbox_head.num_classes:
                raise ConfigError(
                    f"{path}.num_classes = {head.num_classes}, but bbox_head has {self.bbox_head.num_classes}"
                )
        side = None if self.mask_head is None else 2 * self.mask_head.roi_feat_size
        if side not in (None, self.cfg["mask_size"]):
            raise ConfigError(
                f"roi_head.train_cfg{self.suffix}.mask_size = {self.cfg['mask_size']}, but the masks of mask_head have "
                f"{side}"
            )

    def boxes(self, features: Features, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and `rois` (R, 5) -> class logits (R, K + 1) and deltas (R, 4 K), or (R, 4) for all classes."""
        return self.bbox_head(self.bbox_extractor(features, rois))

    def masks(self, features: Features, rois: Tensor) -> Tensor:
        """Maps and `rois` (R, 5) -> mask logits (R, K, M, M)."""
        return self.mask_head(self.mask_extractor(features, rois))  # type: ignore[misc]

    def loss(self, features: Features, drawn: Sequence[SampledRoIs]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The losses ``loss_cls``, ``loss_bbox``, ``acc`` and, with a mask head, ``loss_mask``; logits and deltas."""
        logits, deltas = self.boxes(features, to_rois([one.boxes for one in drawn]))
        losses = self.bbox_head.loss(logits, deltas, self.targets(drawn))
        if self.mask_head is not None:
            maps = self.masks(features, to_rois([one.positive for one in drawn]))
            labels = torch.cat([one.labels for one in drawn])
            losses |= self.mask_head.loss(maps, labels, self.mask_targets(drawn))
        return losses, logits, deltas

    @torch.no_grad()
    def sample(self, boxes: Tensor, sample: DataSample) -> SampledRoIs:
        """Which of a picture's proposals `boxes` (n, 4) are trained, and with which objects.

        Raises:
            DataError: a sample without objects' annotation, or without masks where they are needed.
            BadSampleError: a label out of range.
        """
        objects = read_objects(sample, self.bbox_head.num_classes, boxes.device)
        if self.mask_head is not None and objects.masks is None:
            raise DataError(
                f"{sample.where()}: no masks (gt_instances.masks); does the pipeline load them (LoadAnnotations "
                "with_mask=True)?"
            )
        assigned = self.assigner.assign(boxes, objects.boxes, objects.ignored)
        added = len(objects.boxes) if self.sampler.add_gt_as_proposals else 0
        if added:
            own = torch.arange(1, added + 1, device=boxes.device)
            boxes, assigned = torch.cat([objects.boxes, boxes]), torch.cat([own, assigned])
        sampled = self.sampler.sample(assigned)
        index = torch.cat([sampled.positive, sampled.negative])
        return SampledRoIs(boxes[index], index < added, sampled, objects)

    @torch.no_grad()
    def targets(self, drawn: Sequence[SampledRoIs]) -> RoITargets:
        """Classes and deltas of the proposals of all pictures."""
        positive_weight = self.cfg["pos_weight"] if self.cfg["pos_weight"] > 0 else 1.0
        labels, weights, deltas = [], [], []
        for one in drawn:
            label = torch.full((len(one.boxes),), self.bbox_head.num_classes, device=one.boxes.device)
            label[: len(one.positive)] = one.labels
            weight = one.boxes.new_ones(len(one.boxes))
            weight[: len(one.positive)] = positive_weight
            labels.append(label)
            weights.append(weight)
            deltas.append(self.bbox_head.encode(one.positive, one.objects.boxes[one.sampled.objects]))
        boxes = torch.cat([one.positive for one in drawn])
        return RoITargets(torch.cat(labels), torch.cat(weights), torch.cat(deltas), boxes)

    @torch.no_grad()
    def mask_targets(self, drawn: Sequence[SampledRoIs]) -> Tensor:
        """The masks (P, M, M) that the positive proposals of all pictures learn."""
        boxes, objects = [one.positive for one in drawn], [one.sampled.objects for one in drawn]
        masks = [one.objects.masks for one in drawn if one.objects.masks is not None]
        return mask_targets(boxes, objects, masks, self.cfg["mask_size"])


def results_of(
    stages: Sequence[RoIStage],
    features: Features,
    boxes: Sequence[Tensor],
    logits: Tensor,
    deltas: Tensor,
    samples: Sequence[DataSample],
    cfg: Mapping[str, Any],
    rescale: bool,
) -> list[InstanceData]:
    """The predictions of every picture, best first, in original pixels if `rescale`.

    `boxes` (n_i, 4) are the proposals of every picture, `logits` (R, K + 1) and `deltas` (R, 4 K) those that the last
    of the `stages` gives for them; a score is the softmax of the logits. `cfg` is a test_cfg.
    """
    head, counts = stages[-1].bbox_head, [len(own) for own in boxes]
    late = stages[-1].mask_head is not None  # masks are pooled at the boxes in the scale of the network's input
    results = [
        head.predict(*one, cfg, rescale and not late)
        for one in zip(boxes, logits.split(counts), deltas.split(counts), samples, strict=True)
    ]
    if late:
        _add_masks(stages, features, results, samples, rescale, cfg["mask_thr_binary"])
    return results


def _add_masks(
    stages: Sequence[RoIStage],
    features: Features,
    results: Sequence[InstanceData],
    samples: Sequence[DataSample],
    rescale: bool,
    threshold: float,
) -> None:
    """Gives every picture's boxes their ``masks`` (n, H, W), where the stages' mean probability reaches `threshold`.

    The boxes come in the scale of the network's input; with `rescale` boxes and masks leave in that of the picture.
    """
    rois, labels = to_rois([found.bboxes for found in results]), torch.cat([found.labels for found in results])
    maps = torch.stack([
        stage.mask_head.own_maps(stage.masks(features, rois), labels).float().sigmoid()  # type: ignore[union-attr]
        for stage in stages
    ]).mean(0)  # (R, M, M)  # fmt: skip
    for found, own, sample in zip(results, maps.split([len(found) for found in results]), samples, strict=True):
        if rescale:
            found.bboxes = found.bboxes / scale_of(sample, found.bboxes)
        shape = picture_shape(sample, "ori_shape" if rescale else "img_shape")
        found.masks = paste_masks(own, found.bboxes, shape, threshold)
