"""COCO's format: the tables of a file, and entries as evaluators need them."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionpatch.datasets import objects as why
from visionpatch.datasets.coco_json import load_json, show
from visionpatch.datasets.segments import compressed
from visionpatch.errors import DataError
from visionpatch.evaluation.instances import Objects, mask_codec
from visionpatch.paths import data_path

MALFORMED_CROWD = "iscrowd is not 0 or 1"
MALFORMED_AREA = "area is no number"


@dataclass
class Truth:
    """What a COCO file says.

    Attributes:
        images: {id: (height, width), None where the file says nothing valid}.
        annotations: the entries of these pictures and categories, as they are in the file.
        categories: {name: id}.
        left_out: {reason: how many other entries}; `first` says which the first of them is.
    """

    path: str
    images: dict[int | str, tuple[int, int] | None]
    categories: dict[str, int]
    annotations: list[dict] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    first: str = ""

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.most_common())
        return f"{self.path}: entries are left out of the evaluation: {reasons} (first: {self.first})"


def read_truth(path: str | Path) -> Truth:
    """The content of a COCO file; ``data/...`` is also looked for below VISIONPATCH_DATA.

    Entries that no evaluator can use are left out and counted. The keys that COCO's evaluation does without may be
    missing: ids of annotations, ``area``, ``iscrowd``, names of files.

    Raises:
        DataError: the file cannot be read or is not of this format.
    """
    path = str(data_path(path))
    content = load_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: a COCO file is an object with images, annotations, categories, not {show(content)}")
    truth = Truth(path, {}, {})
    for place, entry in _entries(content, "images", path):
        if not isinstance(entry, dict) or type(entry.get("id")) not in (int, str):
            _leave_out(truth, why.MALFORMED, place)
            continue
        if entry["id"] in truth.images:
            _leave_out(truth, why.DUPLICATE, place)
        truth.images.setdefault(entry["id"], _size(entry))
    for place, entry in _entries(content, "categories", path):
        known = isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("name"), str)
        if not known:
            raise DataError(f"{path}: {place}: an integer id and a name are expected, not {show(entry)}")
        if entry["name"] in truth.categories:
            _leave_out(truth, why.DUPLICATE, place)
        truth.categories.setdefault(entry["name"], entry["id"])
    _read_annotations(truth, content)
    return truth


def _size(entry: dict) -> tuple[int, int] | None:
    """(height, width) of an image, None without valid ones."""
    sides: list[Any] = [entry.get("height"), entry.get("width")]
    known = all(_is_number(side) and side >= 1 and side == int(side) for side in sides)
    return (int(sides[0]), int(sides[1])) if known else None


def _entries(content: dict, key: str, path: str) -> list[tuple[str, Any]]:
    """(its place, for messages, and the entry) of every entry of a table."""
    table = content.get(key)
    if not isinstance(table, list):
        raise DataError(f'{path}: "{key}" of a COCO file is a list of objects, not {show(table)}')
    return [(f"{key}[{index}]", entry) for index, entry in enumerate(table)]


def _read_annotations(truth: Truth, content: dict) -> None:
    if content.get("annotations") is None:  # a test set without ground truth
        return
    categories, seen = set(truth.categories.values()), set()
    for place, entry in _entries(content, "annotations", truth.path):
        fault = _fault(entry, truth, categories)
        if fault is None and entry.get("id") is not None:
            fault = why.DUPLICATE if str(entry["id"]) in seen else None
            seen.add(str(entry["id"]))
        if fault is None:
            truth.annotations.append(entry)
        else:
            _leave_out(truth, fault, place)


def _leave_out(truth: Truth, reason: str, place: str) -> None:
    truth.left_out[reason] += 1
    truth.first = truth.first or f"{place}, {reason}"


def _fault(entry: Any, truth: Truth, categories: set[int]) -> str | None:
    """Why an annotation cannot be used."""
    if not isinstance(entry, dict) or type(entry.get("image_id")) not in (int, str):
        return why.MALFORMED
    if type(entry.get("category_id")) is not int:
        return why.MALFORMED
    if entry["image_id"] not in truth.images:
        return why.NO_IMAGE
    if entry["category_id"] not in categories:
        return why.NO_CATEGORY
    if type(entry.get("iscrowd") or 0) not in (int, bool) or (entry.get("iscrowd") or 0) not in (0, 1):
        return MALFORMED_CROWD
    return None if entry.get("area") is None or _is_number(entry["area"]) else MALFORMED_AREA


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


def completed(entry: dict, kind: str, size: tuple[int, int]) -> dict | None:
    """An annotation of a file with the fields an evaluator needs; None without a valid box or segmentation.

    Args:
        size: (height, width) of the picture.
    """
    numbers: Any = entry.get("bbox")
    runs = compressed(entry.get("segmentation"), *size) if kind == "segm" else None
    if kind == "segm" and runs is None:
        return None
    valid = isinstance(numbers, list) and len(numbers) == 4 and all(_is_number(number) for number in numbers)
    if not valid:
        if runs is None:
            return None
        numbers = mask_codec().toBbox(runs).tolist()
    area = entry.get("area")
    if area is None:
        area = numbers[2] * numbers[3] if runs is None else float(mask_codec().area(runs))
    crowd = int(entry.get("iscrowd") or 0)
    common = dict(image_id=entry["image_id"], category_id=entry["category_id"], bbox=numbers, area=area, iscrowd=crowd)
    return {**common, "segmentation": runs} if runs is not None else common


def _xywh(objects: Objects) -> list[list[float]]:
    boxes = objects.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes.tolist()


def image_entry(key: int | str, height: int, width: int) -> dict:
    return dict(id=key, height=height, width=width)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
