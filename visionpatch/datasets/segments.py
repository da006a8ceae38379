"""Object outlines in COCO's forms, polygons and run lengths: checked, and turned into masks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from visionpatch.errors import DataError, MissingDependencyError

from .objects import ImageObjects
from .transforms.decode import MAX_PIXELS

NUMBERS = {int, float}


def check_segmentation(segmentation: Any, height: int, width: int) -> list | dict | None:
    """`segmentation` without its degenerate polygons; None if nothing in it is an outline in a picture of this size.

    A polygon is x, y, x, y, ... of at least three points, none further outside than the picture is large. Run lengths
    are dict(size=[height, width], counts=list or COCO's compressed string) that add up to the picture.
    """
    if isinstance(segmentation, dict):
        same = segmentation.get("size") == [height, width]
        return segmentation if same and run_lengths(segmentation.get("counts"), height * width) is not None else None
    if not isinstance(segmentation, list):
        return None
    good = [p for p in segmentation if isinstance(p, list) and len(p) >= 6]
    reach = max(height, width)
    for polygon in good:
        if len(polygon) % 2 or not set(map(type, polygon)) <= NUMBERS:
            return None
        if not (min(polygon) >= -reach and max(polygon) <= 2 * reach and math.isfinite(sum(polygon))):
            return None
    return good or None


def run_lengths(counts: Any, total: int) -> list[int] | None:
    """Lengths of the runs of 0 and 1 in turn, column by column; None unless they add up to `total`."""
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    runs = _decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not set(map(type, runs)) <= {int}:
        return None
    return runs if runs and min(runs) >= 0 and sum(runs) == total else None


def mask_of(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The mask (height, width), bool, of polygons or run lengths; polygons are filled as pycocotools fills them.

    Raises:
        DataError: the segmentation is malformed or belongs to a picture of another size.
    """
    if not 0 < height * width <= MAX_PIXELS or height < 1:
        raise DataError(f"a mask of {width}x{height} pixels is asked for; 1 to {MAX_PIXELS} are possible")
    valid = check_segmentation(segmentation, height, width)
    if valid is None:
        raise DataError(
            f"malformed segmentation for a picture of {width}x{height}: {str(segmentation)[:80]}; polygons of three "
            "or more points or run lengths that add up to the picture are expected"
        )
    if isinstance(valid, list):
        return _fill(valid, height, width)
    runs = np.array(run_lengths(valid["counts"], height * width), np.int64)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def paint_objects(objects: ImageObjects) -> np.ndarray:
    """The label map (H, W) uint8 of a picture's objects: 0 where there is none, 1 + label elsewhere, 255 unknown.

    Where objects overlap, the smaller one, by the area its file gives, lies in front of the larger one, and of two
    equal ones the later in the file. Crowds lie behind single objects. The box of an object without a valid outline is
    unknown, behind everything.

    Raises:
        DataError: a picture too large, or a label above 253.
    """
    height, width = objects.height, objects.width
    if not 0 < height * width <= MAX_PIXELS or objects.labels.max(initial=0) > 253:
        raise DataError(f"{objects.file_name}: {width}x{height} pixels, labels up to {objects.labels.max(initial=0)}")
    painted, unknown = np.zeros((height, width), np.uint8), []
    for index in np.lexsort((-objects.areas, ~objects.crowd)):
        try:
            painted[mask_of(objects.segmentations[index], height, width)] = 1 + objects.labels[index]
        except DataError:
            left, top = np.floor(objects.boxes[index, :2]).astype(int)
            right, bottom = np.ceil(objects.boxes[index, 2:]).astype(int)
            unknown.append(painted[top:bottom, left:right])
    for box in unknown:
        box[box == 0] = 255
    return painted


def compressed(segmentation: Any, height: int, width: int) -> dict | None:
    """`segmentation` as COCO's compressed run lengths, dict(size, counts); None if it is malformed."""
    valid = check_segmentation(segmentation, height, width)
    if isinstance(valid, list):
        return _filled(valid, height, width) if _can_be_filled(valid, height, width) else None
    if valid is None or isinstance(valid["counts"], str | bytes):
        return valid
    return _codec().frPyObjects(valid, height, width)


def _fill(polygons: Sequence[list], height: int, width: int) -> np.ndarray:
    codec = _codec()
    if not _can_be_filled(polygons, height, width):
        raise DataError(f"malformed segmentation: an outline of {_length(polygons):.0f} pixels in {width}x{height}")
    return codec.decode(_filled(polygons, height, width)).view(bool)


def _filled(polygons: Sequence[list], height: int, width: int) -> dict:
    codec = _codec()
    return codec.merge(codec.frPyObjects(polygons, height, width))


def _codec() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise MissingDependencyError("masks of polygons need pycocotools: pip install pycocotools") from None
    return mask


def _can_be_filled(polygons: Sequence[list], height: int, width: int) -> bool:
    """Whether the outline has a length that a picture can hold: the filling takes memory for every step along it."""
    return _length(polygons) <= min(max(10**6, 4 * height * width), 2**24)


def _length(polygons: Sequence[list]) -> float:
    total = 0.0
    for polygon in polygons:
        points = np.array(polygon, np.float64).reshape(-1, 2)
        total += float(np.abs(points - np.roll(points, 1, axis=0)).max(1).sum())
    return total


def _decompress(text: str) -> list[int] | None:
    """COCO's string of run lengths: 5 bits a character from "0" on, bit 5 = more follow; from the third run on a length
    is the difference to the one before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for code in text.encode("utf-8", "replace"):
        bits = code - 48
        if not 0 <= bits < 64 or shift > 35:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return None if shift else runs
