"""Non-maximum suppression.

Letters: n boxes, G groups, L boxes of the largest group, m and k boxes of a block and of what it is held against.
"""

import torch
from torch import Tensor

from visionpatch.errors import ConfigError
from visionpatch.ops.dispatch import compiled

BLOCK = 128  # boxes that are settled at a time


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0, score_threshold: float = 0, max_num: int = -1
) -> tuple[Tensor, Tensor]:
    """Greedy suppression: from the best score on, a box goes when its IoU with a kept one is above the threshold.

    Args:
        boxes: (n, 4), x1 y1 x2 y2.
        scores: (n,); equal ones come in the order in which `torch.sort` leaves them: up to 16 boxes the earlier first.
        iou_threshold: a box at exactly this IoU stays.
        offset: added to widths and heights; 1 is the old convention of inclusive pixels.
        score_threshold: when positive, boxes of this score and below are left out.
        max_num: when positive, at most so many are returned.

    Returns:
        The kept boxes with their scores (k, 5), best first, and their indices (k,) into the input.

    Raises:
        ConfigError: wrong shapes or another `offset`.
    """
    return suppress(boxes, scores, None, iou_threshold, offset, score_threshold, max_num)


def suppress(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> tuple[Tensor, Tensor]:
    """`nms` within groups; at most `max_num` of all groups together."""
    check_boxes(boxes, scores, offset)
    chosen = (scores > score_threshold if score_threshold > 0 else torch.ones_like(scores)).nonzero()[:, 0]
    inside = None if groups is None else groups[chosen]
    keep = chosen[_keep(boxes[chosen].detach(), scores[chosen].detach(), inside, float(iou_threshold), offset)]
    return result_of(boxes, scores, keep, max_num)


def result_of(boxes: Tensor, scores: Tensor, keep: Tensor, max_num: int) -> tuple[Tensor, Tensor]:
    """The first `max_num` of `keep`, or all: boxes with scores, and indices."""
    keep = keep[:max_num] if max_num > 0 else keep
    return torch.cat([boxes[keep], scores[keep, None]], dim=1), keep


def _keep(boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float, offset: int) -> Tensor:
    """Indices of what stays, best score first."""
    order = scores.sort(descending=True).indices  # mmcv's call, for its order of equal scores
    boxes, groups = boxes[order], None if groups is None else groups[order]
    function = compiled("nms", boxes, scores) if len(boxes) else None
    if function is None:
        return order[_greedy(boxes, groups, iou_threshold, offset)]
    stays = torch.zeros_like(order, dtype=torch.bool)
    ranks = torch.arange(len(boxes), 0, -1, dtype=torch.float32, device=boxes.device)
    for members in members_of(boxes, groups):
        stays[members[function(boxes[members], ranks[members], iou_threshold, offset)[1]]] = True
    return order[stays]


def _greedy(boxes: Tensor, groups: Tensor | None, iou_threshold: float, offset: int) -> Tensor:
    """Which of the boxes (n, 4), sorted by score, stay: (n,) bool.

    All groups advance together, a block of boxes at a time: the block is settled in itself, then what it keeps is held
    against all that follows in its group, and what goes leaves the table.
    """
    n = len(boxes)
    stays = boxes.new_zeros(n + 1, dtype=torch.bool)  # the last for padding
    single = boxes.float() if boxes.dtype in (torch.float16, torch.bfloat16) else boxes
    planes = torch.cat([single, single.new_zeros(1, 4)]).T.contiguous()  # x1 y1 x2 y2
    table = _table(n, groups, boxes.device)
    while len(table):
        block = table[:, :BLOCK]
        clash = (_overlaps(planes[:, block], planes[:, block], offset) > iou_threshold).triu(1)  # the better box wins
        block = _packed(block, _settle(clash, block < n), n)
        stays[block] = True
        longer = (table[:, BLOCK:] < n).any(1)
        block, table = block[longer], table[longer, BLOCK:]
        clash = (_overlaps(planes[:, block], planes[:, table], offset) > iou_threshold) & (block < n)[..., None]
        table = _packed(table, (table < n) & ~clash.any(1), n)
    return stays[:n]


def _table(n: int, groups: Tensor | None, device: torch.device) -> Tensor:
    """Each group's boxes in a row, best first, padded with n: (G, L) int64."""
    index = torch.arange(n, device=device)
    if groups is None or n == 0:
        return index[None, :] if n else index[:, None]
    order = groups.argsort(stable=True)
    _, row, counts = groups[order].unique_consecutive(return_inverse=True, return_counts=True)
    table = torch.full((len(counts), int(counts.max())), n, device=device)
    table[row, index - (counts.cumsum(0) - counts)[row]] = order
    return table


def _packed(table: Tensor, chosen: Tensor, n: int) -> Tensor:
    """The chosen items of each row, which ascends, padded with n; rows without any are left out."""
    packed = torch.where(chosen, table, n).sort(1).values
    return packed[chosen.any(1), : int(chosen.sum(1).max()) if len(chosen) else 0]


def _settle(clash: Tensor, alive: Tensor) -> Tensor:
    """Greedy suppression in blocks: clash (G, m, m), strictly upper triangular, alive (G, m) -> who stays (G, m).

    Repeats "a box stays unless one that stays suppresses it" until nothing changes; t rounds settle the first t boxes.
    """
    keep = alive
    while True:
        after = alive & ~(clash & keep[:, :, None]).any(1)
        if torch.equal(after, keep):
            return after
        keep = after


def _overlaps(a: Tensor, b: Tensor, offset: int) -> Tensor:
    """IoU (G, m, k) of boxes given as planes x1 y1 x2 y2, (4, G, m) and (4, G, k); NaN for 0 / 0, above no bound."""
    a, b = a[..., None], b[..., None, :]
    inter = (torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])).add_(offset).clamp_(min=0)
    inter *= (torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])).add_(offset).clamp_(min=0)
    areas = [(x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b)]
    return inter / (areas[0] + areas[1]).sub_(inter)


def check_boxes(boxes: Tensor, scores: Tensor, offset: int) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        shapes = f"boxes {tuple(boxes.shape)} and scores {tuple(scores.shape)}"
        raise ConfigError(f"nms: {shapes} given; expected (n, 4) and (n,)")
    if offset not in (0, 1):
        raise ConfigError(f"nms: offset {offset!r} given; expected 0, or 1 for inclusive pixels")


def members_of(boxes: Tensor, groups: Tensor | None) -> list[Tensor]:
    """Indices of each group's boxes; one list of all without groups."""
    if groups is None or len(boxes) == 0:
        return [torch.arange(len(boxes), device=boxes.device)]
    return [(groups == group).nonzero()[:, 0] for group in groups.unique()]
