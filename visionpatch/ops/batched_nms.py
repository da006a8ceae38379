"""Suppression within groups, such as classes or levels of a pyramid."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from visionpatch.errors import ConfigError, nearest
from visionpatch.ops.nms import check_boxes, result_of, suppress
from visionpatch.ops.soft_nms import soften

LIMIT = 2**17  # pixels up to which float32 rounds a coordinate by less than 1 / 200


def batched_nms(
    boxes: Tensor, scores: Tensor, idxs: Tensor, nms_cfg: Mapping[str, Any] | None, class_agnostic: bool = False
) -> tuple[Tensor, Tensor]:
    """Suppression within each group of boxes with the same `idxs`, e.g. the same class.

    mmcv moves the groups apart by adding to the coordinates, which rounds them. Here overlaps are those of the same
    rounded boxes, but only up to coordinates of 131072: beyond, no box is rounded. It differs in three more things:
    groups never mix (there they do when coordinates are negative), `class_agnostic` holds for any number of boxes
    (there below `split_thr`), and zero boxes are no error.

    Args:
        boxes, scores: as in `nms`.
        idxs: (n,), the group of each box.
        nms_cfg: ``dict(type="nms" | "soft_nms", iou_threshold=..., class_agnostic=...)`` with further arguments of that
            function; `max_num` bounds all groups together. None only sorts by score. `split_thr` has no effect.
        class_agnostic: suppress across groups; a value in `nms_cfg` takes precedence.

    Returns:
        Boxes with scores (k, 5), best first, and indices (k,) into the input.

    Raises:
        ConfigError: wrong shapes, an unknown type or argument.
    """
    cfg = dict(nms_cfg) if nms_cfg is not None else {"type": "none"}
    cfg.pop("split_thr", None)
    groups = None if cfg.pop("class_agnostic", class_agnostic) else idxs
    kind = cfg.pop("type", "nms")
    if kind not in TYPES:
        raise ConfigError(f'nms_cfg: unknown type "{kind}"' + nearest(str(kind), TYPES))
    if "iou_thr" in cfg:  # the name of mmcv before 1.1
        cfg.setdefault("iou_threshold", cfg.pop("iou_thr"))
    function, arguments = TYPES[kind]
    for name in cfg:
        if name not in arguments:
            raise ConfigError(f'nms_cfg of type "{kind}": unknown argument "{name}"' + nearest(name, arguments))
    if kind == "nms" and "iou_threshold" not in cfg:
        raise ConfigError('nms_cfg: "iou_threshold" is missing, e.g. dict(type="nms", iou_threshold=0.5)')
    if idxs.shape != scores.shape:
        raise ConfigError(f"batched_nms: idxs of shape {tuple(idxs.shape)} for scores of {tuple(scores.shape)}")
    if groups is None:
        return function(boxes, scores, None, **cfg)
    dets, keep = function(_moved(boxes, groups), scores, groups, **cfg)
    return torch.cat([boxes[keep], dets[:, 4:]], 1), keep


def _moved(boxes: Tensor, groups: Tensor) -> Tensor:
    """The boxes where mmcv moves them, for the sake of its rounding; unmoved where that would be coarse."""
    if len(boxes) == 0 or boxes.shape != (len(groups), 4) or boxes.dtype != torch.float32:
        return boxes
    moved = boxes.detach() + (groups.to(boxes) * (boxes.detach().max() + 1))[:, None]
    return moved if moved.abs().max() < LIMIT else boxes


def _sort_only(boxes: Tensor, scores: Tensor, groups: Tensor | None) -> tuple[Tensor, Tensor]:
    check_boxes(boxes, scores, 0)
    return result_of(boxes, scores, scores.sort(descending=True).indices, -1)


# nms_cfg's type: the function and its arguments
TYPES: dict[str, tuple[Callable[..., tuple[Tensor, Tensor]], tuple[str, ...]]] = {
    "nms": (suppress, ("iou_threshold", "offset", "score_threshold", "max_num")),
    "soft_nms": (soften, ("iou_threshold", "sigma", "min_score", "method", "offset", "max_num")),
    "none": (_sort_only, ()),
}
