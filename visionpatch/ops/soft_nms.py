"""Soft-NMS (Bodla et al., ICCV 2017)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from visionpatch.errors import ConfigError, nearest
from visionpatch.ops.dispatch import compiled
from visionpatch.ops.nms import check_boxes, members_of


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS: overlapping boxes lose score instead of being dropped (section 3).

    The box of the best remaining score is taken; the scores of all others are multiplied by ``1 - IoU`` where the IoU
    reaches `iou_threshold` ("linear"), by 0 there ("naive"), or by ``exp(-IoU^2 / sigma)`` everywhere ("gaussian");
    those below `min_score` leave.

    Args:
        boxes, scores, offset: as in `nms`.

    Returns:
        Boxes with their new scores (k, 5) in the order taken, and indices (k,) into the input. No gradient.

    Raises:
        ConfigError: wrong shapes, another `offset` or `method`.
    """
    return soften(boxes, scores, None, iou_threshold, sigma, min_score, method, offset)


def soften(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
    max_num: int = -1,
) -> tuple[Tensor, Tensor]:
    """`soft_nms` within groups; at most `max_num` of all groups together, best first."""
    check_boxes(boxes, scores, offset)
    if method not in METHODS:
        raise ConfigError(f'soft_nms: unknown method "{method}"' + nearest(str(method), METHODS))
    with torch.no_grad():
        found = []
        areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(1)
        kernel = compiled("soft_nms", boxes, scores) if (areas != 0).all() else None  # its IoU of 0 / 0 is NaN
        function = kernel or _soft_greedy
        for members in members_of(boxes, groups):
            dets, keep = function(boxes[members], scores[members], iou_threshold, sigma, min_score, method, offset)
            found.append((dets[:, 4], members[keep]))
        values, keep = (torch.cat(parts) for parts in zip(*found))
        if groups is not None:
            values, order = values.sort(descending=True, stable=True)
            keep = keep[order]
        count = max_num if max_num > 0 else len(keep)
        return torch.cat([boxes[keep], values[:, None].to(boxes)], dim=1)[:count], keep[:count]


def _soft_greedy(
    boxes: Tensor, scores: Tensor, iou_threshold: float, sigma: float, min_score: float, method: str, offset: int
) -> tuple[Tensor, Tensor]:
    """Soft-NMS of one group, one box after the other on the CPU.

    The order of the list changes as in mmcv's, which decides between equal scores.
    """
    kind = torch.float64 if boxes.dtype == torch.float64 else torch.float32
    planes = boxes.detach().to("cpu", kind).T.contiguous().numpy()  # x1 y1 x2 y2
    values, left = scores.detach().to("cpu", kind).numpy().copy(), np.arange(len(boxes))
    taken, kept = [], []
    while len(left):
        best = values.argmax()
        taken.append(values[best])
        kept.append(left[best])
        left[best], values[best] = left[0], values[0]
        left, values = left[1:], values[1:]
        values *= METHODS[method](_overlap(planes[:, kept[-1]], planes[:, left], offset), iou_threshold, sigma)
        gone = values < min_score
        if gone.any():
            left, values = _without(gone, left, values)
    keep = torch.tensor(kept, dtype=torch.int64, device=boxes.device)
    return torch.cat([boxes[keep], boxes.new_tensor(np.array(taken))[:, None]], dim=1), keep


@np.errstate(over="ignore", invalid="ignore")
def _overlap(box: np.ndarray, others: np.ndarray, offset: int) -> np.ndarray:
    """IoU of one box (4,) and others (4, k); 0 for 0 / 0 and where areas overflow."""
    inter = np.maximum(np.minimum(box[2], others[2]) - np.maximum(box[0], others[0]) + offset, 0)
    inter *= np.maximum(np.minimum(box[3], others[3]) - np.maximum(box[1], others[1]) + offset, 0)
    area = (box[2] - box[0] + offset) * (box[3] - box[1] + offset)
    union = area + (others[2] - others[0] + offset) * (others[3] - others[1] + offset) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def _without(gone: np.ndarray, *lists: np.ndarray) -> list[np.ndarray]:
    """The lists without the items that are `gone`; each hole is filled with the last item that stays."""
    count = len(gone) - int(gone.sum())
    holes, movers = gone[:count].nonzero()[0], (~gone[count:]).nonzero()[0][::-1] + count
    for x in lists:
        x[holes] = x[movers]
    return [x[:count] for x in lists]


# by what the score of a box with an IoU is multiplied
METHODS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "naive": lambda iou, threshold, sigma: iou < threshold,
    "linear": lambda iou, threshold, sigma: np.where(iou >= threshold, 1 - iou, 1),
    "gaussian": lambda iou, threshold, sigma: np.exp(-(iou * iou) / sigma),
}
