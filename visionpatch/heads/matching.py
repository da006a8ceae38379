"""Which anchor or proposal learns which object, and which of them count: assigners and samplers.

Ren et al., "Faster R-CNN", NIPS 2015, sections 3.1.2 and 3.1.3. Letters: N anchors or proposals, G objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visionpatch.errors import ConfigError
from visionpatch.heads.box_coder import box_iou
from visionpatch.registry import TASK_UTILS


@TASK_UTILS.register_module()
class MaxIoUAssigner:
    """Assigns by the intersection over union (IoU) of anchors and objects, compared in float32.

    In this order: an anchor whose greatest IoU lies in `neg_iou_thr` is background; one whose greatest IoU reaches
    `pos_iou_thr` takes that object, the first of equals; with `match_low_quality` the best anchors of every object take
    it whatever they were assigned to before, if their IoU reaches `min_pos_iou`; the later of two objects wins.

    Args:
        pos_iou_thr: least IoU of a positive anchor.
        neg_iou_thr: IoU below which an anchor is background, or (low, high): background in [low, high).
        min_pos_iou: least IoU of the best anchor of an object.
        gt_max_assign_all: all anchors that share an object's greatest IoU take it; False: the first.
        ignore_iof_thr: anchors with more than this share of their area in one ignored box count nowhere; not above 0:
            ignored boxes have no effect.
        ignore_wrt_candidates: the share is of the anchor's area; False: of the ignored box's.
        match_low_quality: see above.
        gpu_assign_thr: accepted for the sake of existing configs, without effect on the result.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float | Sequence[float],
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        ignore_iof_thr: float = -1,
        ignore_wrt_candidates: bool = True,
        match_low_quality: bool = True,
        gpu_assign_thr: float = -1,
    ) -> None:
        low, high = (0.0, neg_iou_thr) if isinstance(neg_iou_thr, int | float) else neg_iou_thr
        if not 0 <= low <= high <= pos_iou_thr:
            raise ConfigError(
                f"MaxIoUAssigner: neg_iou_thr={neg_iou_thr} must lie in [0, pos_iou_thr] = [0, {pos_iou_thr}]"
            )
        self.pos_iou_thr, self.negative, self.min_pos_iou = pos_iou_thr, (low, high), min_pos_iou
        self.gt_max_assign_all, self.match_low_quality = gt_max_assign_all, match_low_quality
        self.ignore_iof_thr, self.ignore_wrt_candidates = ignore_iof_thr, ignore_wrt_candidates

    def assign(self, anchors: Tensor, boxes: Tensor, ignored: Tensor | None = None) -> Tensor:
        """`anchors` (N, 4), `boxes` of objects (G, 4), `ignored` boxes (M, 4) -> (N,) int64.

        k + 1 for object k, 0 for background, -1 for neither. Without objects all is background.
        """
        assigned = anchors.new_zeros(len(anchors), dtype=torch.int64)
        if len(boxes) == 0 or len(anchors) == 0:
            return assigned
        overlaps = box_iou(boxes.float(), anchors.float())  # (G, N)
        if ignored is not None and len(ignored) and self.ignore_iof_thr > 0:
            overlaps[:, self._ignored_share(anchors, ignored.float()) > self.ignore_iof_thr] = -1
        best, index = overlaps.max(0)
        assigned.fill_(-1)
        assigned[(best >= self.negative[0]) & (best < self.negative[1])] = 0
        assigned = torch.where(best >= self.pos_iou_thr, index + 1, assigned)
        return self._match_low_quality(overlaps, assigned) if self.match_low_quality else assigned

    def _ignored_share(self, anchors: Tensor, ignored: Tensor) -> Tensor:
        """The greatest share (N,) that an anchor has in common with an ignored box."""
        if self.ignore_wrt_candidates:
            return box_iou(anchors.float(), ignored, over_first=True).amax(1)
        return box_iou(ignored, anchors.float(), over_first=True).amax(0)

    def _match_low_quality(self, overlaps: Tensor, assigned: Tensor) -> Tensor:
        best, first = overlaps.max(1)  # (G,) of every object
        taken = overlaps == best[:, None]
        if not self.gt_max_assign_all:
            taken = torch.zeros_like(taken).scatter_(1, first[:, None], True)
        taken &= (best >= self.min_pos_iou)[:, None]
        number = torch.arange(1, len(best) + 1, device=taken.device)[:, None]
        last = (taken * number).amax(0)  # of several objects the later wins
        return torch.where(last > 0, last, assigned)


@dataclass
class Sampled:
    """The anchors or proposals of one picture that count. P positive, M negative ones."""

    positive: Tensor  # (P,) indices
    negative: Tensor  # (M,)
    objects: Tensor  # (P,) index of the object each positive one learns
    avg_factor: int  # what the picture adds to the divisor of the losses


@TASK_UTILS.register_module()
class PseudoSampler:
    """Takes every positive and every negative one; only the positive ones count for the divisor."""

    add_gt_as_proposals = False

    def sample(self, assigned: Tensor) -> Sampled:
        """What an assigner gave (N,) -> the chosen."""
        positive, negative = _indices(assigned > 0), _indices(assigned == 0)
        return Sampled(positive, negative, assigned[positive] - 1, max(1, len(positive)))


@TASK_UTILS.register_module()
class RandomSampler:
    """At most `num`, positive ones first, drawn at random where there are more; all of them count for the divisor.

    Args:
        num: how many are taken of a picture.
        pos_fraction: share of `num` that may be positive.
        neg_pos_ub: at most this many negative ones to a positive one (to one if there is none); -1: no such bound.
        add_gt_as_proposals: the objects' own boxes are put before the proposals and assigned to themselves.
    """

    def __init__(self, num: int, pos_fraction: float, neg_pos_ub: float = -1, add_gt_as_proposals: bool = True) -> None:
        if num < 1 or not 0 <= pos_fraction <= 1:
            raise ConfigError(f"RandomSampler: num={num} must be positive, pos_fraction={pos_fraction} in [0, 1]")
        self.num, self.pos_fraction, self.neg_pos_ub = num, pos_fraction, neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals

    def sample(self, assigned: Tensor) -> Sampled:
        """What an assigner gave (N,) -> the chosen, indices ascending."""
        positive = _draw(_indices(assigned > 0), int(self.num * self.pos_fraction))
        most = self.num - len(positive)
        if self.neg_pos_ub >= 0:
            most = min(most, int(self.neg_pos_ub * max(1, len(positive))))
        negative = _draw(_indices(assigned == 0), most)
        return Sampled(positive, negative, assigned[positive] - 1, max(1, len(positive)) + max(1, len(negative)))


def _indices(mask: Tensor) -> Tensor:
    return mask.nonzero().flatten()


def _draw(indices: Tensor, most: int) -> Tensor:
    """`most` of the `indices` at random, ascending; all of them where there are no more."""
    if len(indices) <= most:
        return indices
    return indices[torch.randperm(len(indices), device=indices.device)[:most]].sort().values
