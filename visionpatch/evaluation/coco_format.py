"""COCO's format: the tables of a file, and entries as evaluators need them."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionpatch.errors import DataError
from visionpatch.evaluation.instances import Objects, mask_codec
from visionpatch.paths import data_path

FIELDS = dict(images=("id",), annotations=("image_id", "category_id"), categories=("id", "name"))


def read_truth(path: str | Path) -> dict[str, list[dict]]:
    """Images, annotations and categories of a COCO file; ``data/...`` is also looked for below VISIONPATCH_DATA.

    Raises:
        DataError: the file cannot be read or is not of this format.
    """
    path = data_path(path)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: annotation file of CocoMetric cannot be read: {error}") from None
    tables = {}
    for key, needed in FIELDS.items():
        table = content.get(key) if isinstance(content, dict) else None
        if key == "annotations" and table is None:
            table = []  # a test set without ground truth
        if not isinstance(table, list) or not all(isinstance(e, dict) and set(needed) <= set(e) for e in table):
            raise DataError(f'{path}: "{key}" of a COCO file is a list of objects with {", ".join(needed)}')
        tables[key] = table
    return tables


def records(result: dict, kind: str, category_ids: Sequence[int]) -> list[dict]:
    """The predictions of a picture in COCO's results format; those of masks without boxes, which would size them."""
    found: Objects = result["found"]
    common = [
        dict(image_id=result["img_id"], category_id=category_ids[label], score=score)
        for label, score in zip(found.labels.tolist(), found.scores.tolist())
    ]
    if kind == "segm":
        return [{**record, "segmentation": mask} for record, mask in zip(common, found.masks or (), strict=True)]
    return [{**record, "bbox": numbers} for record, numbers in zip(common, _xywh(found), strict=True)]


def annotations_of(result: dict, category_ids: Sequence[int]) -> list[dict]:
    """The annotated objects of a picture in COCO's form; those with masks have the size of the mask."""
    truth: Objects = result["truth"]
    masks = truth.masks or itertools.repeat(None)
    found = []
    for label, crowd, numbers, mask in zip(truth.labels.tolist(), truth.ignored.tolist(), _xywh(truth), masks):
        entry = dict(image_id=result["img_id"], category_id=category_ids[label], bbox=numbers, iscrowd=int(crowd))
        entry["area"] = numbers[2] * numbers[3] if mask is None else float(mask_codec().area(mask))
        found.append({**entry, "segmentation": mask} if mask is not None else entry)
    return found


def completed(entry: dict, kind: str, image: dict) -> dict | None:
    """An annotation of a file with the fields an evaluator needs; None without a valid box or segmentation."""
    numbers: Any = entry.get("bbox")
    runs: dict | None = None
    if kind == "segm":
        runs = _run_lengths(entry.get("segmentation"), image.get("height"), image.get("width"))
        if runs is None:
            return None
    valid = isinstance(numbers, list) and len(numbers) == 4 and all(_is_number(number) for number in numbers)
    if not valid:
        if runs is None:
            return None
        numbers = mask_codec().toBbox(runs).tolist()
    area = entry.get("area")
    if not _is_number(area):
        area = numbers[2] * numbers[3] if runs is None else float(mask_codec().area(runs))
    crowd = int(entry.get("iscrowd") in (1, True))
    common = dict(image_id=entry["image_id"], category_id=entry["category_id"], bbox=numbers, area=area, iscrowd=crowd)
    return {**common, "segmentation": runs} if runs is not None else common


def _run_lengths(segmentation: Any, height: Any, width: Any) -> dict | None:
    """Polygons or run lengths as compressed run lengths; None if they are not valid."""
    codec = mask_codec()
    try:
        if isinstance(segmentation, dict):
            packed = isinstance(segmentation["counts"], str | bytes)
            runs = segmentation if packed else codec.frPyObjects(segmentation, height, width)
            return runs if list(runs["size"]) == [height, width] else None
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        return codec.merge(codec.frPyObjects(polygons, height, width)) if polygons else None
    except Exception:  # pycocotools raises its own and Python's errors for what is no outline
        return None


def _xywh(objects: Objects) -> list[list[float]]:
    boxes = objects.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes.tolist()


def image_entry(key: int | str, height: int, width: int) -> dict:
    return dict(id=key, height=height, width=width)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
