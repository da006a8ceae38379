"""The objects of a sample, moved as its picture is; and those that are left out.

Letters: n objects, H, W picture. Boxes are x1 y1 x2 y2 in pixels, edges included: a box over the whole picture is
0 0 W H. Every function leaves a sample without boxes and masks as it is.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from visionpatch.errors import ConfigError
from visionpatch.registry import TRANSFORMS

from .base import BaseTransform, Results

PER_OBJECT = ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags", "gt_masks")
Size = tuple[int, int]  # width, height


@TRANSFORMS.register_module()
class FilterAnnotations(BaseTransform):
    """Leave out objects that earlier transforms made too small to learn from; the sample stays, even without any.

    What a sample is follows from (seed, epoch, index): it is never exchanged for another one.

    Args:
        min_gt_bbox_wh: boxes have to be wider and higher than this, in pixels.
        min_gt_mask_area: masks have to hold this many pixels.
        by_box, by_mask: which of the two is asked for.
        keep_empty: False, as in the configs of mmdet that keep samples without objects: its True throws them away.
    """

    def __init__(
        self,
        min_gt_bbox_wh: Sequence[float] = (1.0, 1.0),
        min_gt_mask_area: int = 1,
        by_box: bool = True,
        by_mask: bool = False,
        keep_empty: bool = False,
    ) -> None:
        if keep_empty:
            raise ConfigError(
                "FilterAnnotations: keep_empty=True means in mmdet that a sample without objects is replaced by "
                "another; here it stays: leave the argument out"
            )
        if not by_box and not by_mask:
            raise ConfigError("FilterAnnotations: by_box or by_mask has to be True, or nothing is left out")
        if len(min_gt_bbox_wh) != 2:
            raise ConfigError(f"FilterAnnotations: min_gt_bbox_wh is (width, height), not {min_gt_bbox_wh!r}")
        self.min_gt_bbox_wh = tuple(min_gt_bbox_wh)
        self.min_gt_mask_area = min_gt_mask_area
        self.by_box = by_box
        self.by_mask = by_mask

    def transform(self, results: Results) -> Results:
        boxes = results["gt_bboxes"]
        keep = np.ones(len(boxes), bool)
        if self.by_box:
            keep &= (boxes[:, 2:] - boxes[:, :2] > np.array(self.min_gt_bbox_wh, np.float32)).all(1)
        if self.by_mask:
            keep &= np.count_nonzero(results["gt_masks"], axis=(1, 2)) >= self.min_gt_mask_area
        keep_objects(results, keep)
        return results


def keep_objects(results: Results, keep: np.ndarray) -> None:
    """Keep the objects where `keep` (n,) is True."""
    if not keep.all():
        for key in PER_OBJECT:
            if key in results:
                results[key] = results[key][keep]


def scale_objects(results: Results, old: Size, new: Size) -> None:
    """The picture went from the size `old` to `new`; masks take the nearest pixel."""
    if "gt_bboxes" in results:
        factors = np.array([new[0] / old[0], new[1] / old[1]] * 2, np.float32)
        results["gt_bboxes"] = _clip(results["gt_bboxes"] * factors, new)
    if "gt_masks" in results and old != new:
        out = np.empty((len(results["gt_masks"]), new[1], new[0]), np.uint8)  # (n, H, W)
        for mask, target in zip(results["gt_masks"], out):
            cv2.resize(np.ascontiguousarray(mask), new, dst=target, interpolation=cv2.INTER_NEAREST)
        results["gt_masks"] = out


def flip_objects(results: Results, horizontal: bool, vertical: bool, size: Size) -> None:
    """The picture of `size` was mirrored."""
    if "gt_bboxes" in results:
        boxes = results["gt_bboxes"].copy()
        if horizontal:
            boxes[:, [0, 2]] = size[0] - boxes[:, [2, 0]]
        if vertical:
            boxes[:, [1, 3]] = size[1] - boxes[:, [3, 1]]
        results["gt_bboxes"] = boxes
    if "gt_masks" in results:
        results["gt_masks"] = results["gt_masks"][:, :: -1 if vertical else 1, :: -1 if horizontal else 1]


def crop_objects(results: Results, window: tuple[slice, slice], recompute_bbox: bool = False) -> None:
    """The window (rows, columns) was cut out: boxes are clipped to it, objects outside are left out.

    With `recompute_bbox` the boxes are those around what is left of the masks.
    """
    rows, columns = window
    if "gt_masks" in results:
        results["gt_masks"] = results["gt_masks"][:, rows, columns]
    if "gt_bboxes" in results:
        boxes = _move(results["gt_bboxes"], -columns.start, -rows.start)
        boxes = _clip(boxes, (columns.stop - columns.start, rows.stop - rows.start))
        inside: Any = (boxes[:, 2:] > boxes[:, :2]).all(1)
        if recompute_bbox and "gt_masks" in results:
            boxes = boxes_of(results["gt_masks"])
            inside &= boxes[:, 2] > 0
        results["gt_bboxes"] = boxes
        keep_objects(results, inside)


def pad_objects(results: Results, left: int, top: int, right: int, bottom: int, value: int = 0) -> None:
    """The picture grew by so many pixels on each side, where masks hold `value`."""
    if "gt_bboxes" in results and (left or top):
        results["gt_bboxes"] = _move(results["gt_bboxes"], left, top)
    if "gt_masks" in results:
        sides = ((0, 0), (top, bottom), (left, right))
        results["gt_masks"] = np.pad(results["gt_masks"], sides, constant_values=value)


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """The boxes (n, 4) float32 around masks (n, H, W); of an empty mask, zeros."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for axis, start in ((1, 0), (2, 1)):
        filled: Any = masks.any(axis=axis)  # (n, W), (n, H)
        boxes[:, start] = filled.argmax(1)
        boxes[:, start + 2] = np.where(filled.any(1), filled.shape[1] - filled[:, ::-1].argmax(1), 0)
    return boxes


def _move(boxes: np.ndarray, x: int, y: int) -> np.ndarray:
    return boxes + np.array([x, y, x, y], np.float32)


def _clip(boxes: np.ndarray, size: Size) -> np.ndarray:
    return np.clip(boxes, 0, np.array([*size, *size], np.float32))
