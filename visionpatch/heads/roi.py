"""StandardRoIHead: the second stage of Faster R-CNN and Mask R-CNN.

Ren et al., "Faster R-CNN", NIPS 2015; He et al., "Mask R-CNN", ICCV 2017. State-dict names are mmdet's.
Letters: B batch, R proposals of all pictures, P positive ones, n those of one picture, K classes, M side of a mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from visionpatch.errors import ConfigError, DataError
from visionpatch.heads.bbox_head import RoITargets, Shared2FCBBoxHead, to_rois
from visionpatch.heads.detection import Objects, picture_shape, read_objects, scale_of, settings
from visionpatch.heads.fcn_mask import FCNMaskHead, mask_targets, paste_masks
from visionpatch.heads.matching import Sampled
from visionpatch.heads.roi_extractor import SingleRoIExtractor
from visionpatch.registry import MODELS, TASK_UTILS
from visionpatch.structures import DataSample

Config = Mapping[str, Any]
Features = Sequence[Tensor]


@dataclass
class SampledRoIs:
    """The proposals of one picture that are trained, positive ones first."""

    boxes: Tensor  # (n, 4)
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

    TRAIN: dict[str, Any] = dict(
        assigner=dict(
            type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False
        ),
        sampler=dict(type="RandomSampler", num=512, pos_fraction=0.25),
        mask_size=28,
        pos_weight=-1,
        debug=False,
    )
    TEST: dict[str, Any] = dict(
        score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5
    )

    def __init__(
        self,
        bbox_roi_extractor: Config | SingleRoIExtractor,
        bbox_head: Config | Shared2FCBBoxHead,
        mask_roi_extractor: Config | SingleRoIExtractor | None = None,
        mask_head: Config | FCNMaskHead | None = None,
        train_cfg: Config | None = None,
        test_cfg: Config | None = None,
    ) -> None:
        super().__init__()
        self.bbox_roi_extractor, self.bbox_head = _build(bbox_roi_extractor), _build(bbox_head)
        self.mask_head = None if mask_head is None else _build(mask_head)
        self.mask_roi_extractor = None if mask_roi_extractor is None else _build(mask_roi_extractor)
        self.train_cfg = settings("StandardRoIHead.train_cfg", train_cfg, self._train_defaults())
        self.test_cfg = settings("StandardRoIHead.test_cfg", test_cfg, self.TEST)
        self.assigner = TASK_UTILS.build(dict(self.train_cfg["assigner"]))
        self.sampler = TASK_UTILS.build(dict(self.train_cfg["sampler"]))
        self._check()

    def _train_defaults(self) -> Config:
        """Mask R-CNN is published with the best proposals of every object positive, Faster R-CNN without."""
        assigner = {**self.TRAIN["assigner"], "match_low_quality": self.mask_head is not None}
        return {**self.TRAIN, "assigner": assigner}

    @property
    def num_classes(self) -> int:
        return self.bbox_head.num_classes

    @property
    def mask_extractor(self) -> Any:
        """What pools the features of the masks."""
        return self.mask_roi_extractor or self.bbox_roi_extractor

    def _check(self) -> None:
        pairs = [("bbox", self.bbox_roi_extractor, self.bbox_head), ("mask", self.mask_extractor, self.mask_head)]
        for name, extractor, head in pairs:
            if head is None:
                continue
            given = (head.in_channels, head.roi_feat_size, head.roi_feat_size)
            expected = (extractor.out_channels, *extractor.output_size)
            if given != expected:
                raise ConfigError(
                    f"roi_head.{name}_head: in_channels and roi_feat_size are made for {given}, the extractor gives "
                    f"{expected} (out_channels, output_size)"
                )
            if head.num_classes != self.num_classes:
                raise ConfigError(
                    f"roi_head.mask_head.num_classes = {head.num_classes}, but bbox_head has {self.num_classes}"
                )
        side = None if self.mask_head is None else 2 * self.mask_head.roi_feat_size
        if side not in (None, self.train_cfg["mask_size"]):
            raise ConfigError(
                f"roi_head.train_cfg.mask_size = {self.train_cfg['mask_size']}, but the masks of mask_head have {side}"
            )

    def forward(self, features: Features, boxes: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps and proposals (n_i, 4) of every picture -> class logits (R, K + 1), deltas (R, 4 K) and, with a mask
        head, mask logits (R, K, M, M)."""
        rois = to_rois(boxes)
        outputs = self.bbox_head(self.bbox_roi_extractor(features, rois))
        return outputs if self.mask_head is None else (*outputs, self._masks(features, rois))

    def _masks(self, features: Features, rois: Tensor) -> Tensor:
        return self.mask_head(self.mask_extractor(features, rois))  # type: ignore[misc]

    def loss(
        self, features: Features, proposals: Sequence[InstanceData], samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox``, ``acc`` and, with a mask head, ``loss_mask``.

        Raises:
            DataError: a sample without objects' annotation, or without masks where they are needed.
            BadSampleError: a label out of range.
        """
        drawn = [self.sample(found.bboxes, sample) for found, sample in zip(proposals, samples, strict=True)]
        rois = to_rois([one.boxes for one in drawn])
        logits, deltas = self.bbox_head(self.bbox_roi_extractor(features, rois))
        losses = self.bbox_head.loss(logits, deltas, self.targets(drawn))
        if self.mask_head is not None:
            maps = self._masks(features, to_rois([one.positive for one in drawn]))
            labels = torch.cat([one.labels for one in drawn])
            losses |= self.mask_head.loss(maps, labels, self.mask_targets(drawn))
        return losses

    @torch.no_grad()
    def sample(self, boxes: Tensor, sample: DataSample) -> SampledRoIs:
        """Which of a picture's proposals `boxes` (n, 4) are trained, and with which objects."""
        objects = read_objects(sample, self.num_classes, boxes.device)
        if self.mask_head is not None and objects.masks is None:
            raise DataError(
                f"{sample.where()}: no masks (gt_instances.masks); does the pipeline load them (LoadAnnotations "
                "with_mask=True)?"
            )
        assigned = self.assigner.assign(boxes, objects.boxes, objects.ignored)
        if self.sampler.add_gt_as_proposals:
            own = torch.arange(1, len(objects.boxes) + 1, device=boxes.device)
            boxes, assigned = torch.cat([objects.boxes, boxes]), torch.cat([own, assigned])
        sampled = self.sampler.sample(assigned)
        return SampledRoIs(boxes[torch.cat([sampled.positive, sampled.negative])], sampled, objects)

    @torch.no_grad()
    def targets(self, drawn: Sequence[SampledRoIs]) -> RoITargets:
        """Classes and deltas of the proposals of all pictures."""
        positive_weight = self.train_cfg["pos_weight"] if self.train_cfg["pos_weight"] > 0 else 1.0
        labels, weights, deltas = [], [], []
        for one in drawn:
            label = torch.full((len(one.boxes),), self.num_classes, device=one.boxes.device)
            label[: len(one.positive)] = one.labels
            weight = one.boxes.new_ones(len(one.boxes))
            weight[: len(one.positive)] = positive_weight
            labels.append(label)
            weights.append(weight)
            deltas.append(self.bbox_head.coder.encode(one.positive, one.objects.boxes[one.sampled.objects]))
        return RoITargets(torch.cat(labels), torch.cat(weights), torch.cat(deltas))

    @torch.no_grad()
    def mask_targets(self, drawn: Sequence[SampledRoIs]) -> Tensor:
        """The masks (P, M, M) that the positive proposals of all pictures learn."""
        boxes, objects = [one.positive for one in drawn], [one.sampled.objects for one in drawn]
        masks = [one.objects.masks for one in drawn if one.objects.masks is not None]
        return mask_targets(boxes, objects, masks, self.train_cfg["mask_size"])

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
        logits, deltas = self.bbox_head(self.bbox_roi_extractor(features, to_rois(boxes)))
        counts = [len(b) for b in boxes]
        late = self.mask_head is not None  # masks are pooled at the boxes in the scale of the network's input
        results = [
            self.bbox_head.predict(*one, self.test_cfg, rescale and not late)
            for one in zip(boxes, logits.split(counts), deltas.split(counts), samples, strict=True)
        ]
        return self._with_masks(features, results, samples, rescale) if late else results

    def _with_masks(
        self, features: Features, results: list[InstanceData], samples: Sequence[DataSample], rescale: bool
    ) -> list[InstanceData]:
        """Adds ``masks`` to boxes in the scale of the network's input, and rescales both."""
        logits = self._masks(features, to_rois([found.bboxes for found in results]))
        maps = logits.split([len(found) for found in results])
        for found, own, sample in zip(results, maps, samples, strict=True):
            probability = self.mask_head.own_maps(own, found.labels).float().sigmoid()  # type: ignore[union-attr]
            if rescale:
                found.bboxes = found.bboxes / scale_of(sample, found.bboxes)
            shape = picture_shape(sample, "ori_shape" if rescale else "img_shape")
            found.masks = paste_masks(probability, found.bboxes, shape, self.test_cfg["mask_thr_binary"])
        return results


def _build(part: Any) -> Any:
    return part if isinstance(part, nn.Module) else MODELS.build(dict(part))
