"""Pictures and their objects: the base of every detection format."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log

from visionpatch.errors import ConfigError, DataError, nearest
from visionpatch.palette import colour_map
from visionpatch.paths import data_path

from . import objects as why
from .base import BaseDataset, take
from .classes import resolve_classes
from .objects import Annotations, ImageObjects
from .packed import PackedImages
from .paths import require_folder

FILTER = dict(filter_empty_gt=True, min_size=32)
MOST_CLASSES = 2**16


class DetectionDataset(BaseDataset):
    """Pictures with boxes, labels and outlines of objects, for LoadAnnotations(with_bbox=True, with_mask=...).

    The annotations lie in one array that loading processes share. What was left out of the files, and why, is logged
    once, in one line, and kept as `read_report`.

    Args:
        annotations: what a reader returned.
        img_dir: folder the file names are relative to; every file must be there.
        metainfo: dict(palette=[...]), one colour a class; None makes them up.
        filter_cfg: for training only: `filter_empty_gt` leaves out pictures without any object (crowds count as one),
            `min_size` those with a shorter side than this; objects with a side below `bbox_min_size` are ignored ones.
            None keeps all.
        pipeline, test_mode, indices: as SegmentationDataset.

    Attributes:
        metainfo: dict(classes, palette, cat_ids): the ids of the classes in the file.
        read_report: the ReadReport.

    Raises:
        DataError: a picture is missing, none is left, or masks are loaded and no object has one.
        ConfigError: `filter_cfg` has a wrong key or value.
    """

    def __init__(
        self,
        annotations: Annotations,
        img_dir: str,
        *,
        metainfo: Mapping[str, Any] | None = None,
        filter_cfg: Mapping[str, Any] | None = FILTER,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(pipeline, test_mode)
        name = type(self).__name__
        colours = colour_map(len(annotations.classes) + 1)[1:]  # the first is black
        given = {"palette": colours, **(metainfo or {}), "classes": annotations.classes}
        self.metainfo, _ = resolve_classes(name, {}, given, most=MOST_CLASSES)
        self.metainfo["cat_ids"] = annotations.category_ids
        self.read_report = annotations.report
        self.img_dir = img_dir
        filters = check_filter(name, filter_cfg)
        images = annotations.images if test_mode else _filter(annotations, **filters)
        images = take(images, indices)
        _require_files(img_dir, images, self.read_report.source)
        if any(getattr(step, "with_mask", False) for step in self.pipeline.transforms):
            _count_masks(annotations, images, test_mode)
        self.images = PackedImages(images)
        first = self.read_report.first_case
        lost = bool(first) or self.read_report.left_out.total() > 0
        text = f"{self.read_report}; first: {first}" if first else str(self.read_report)
        print_log(text, "current", logging.WARNING if lost else logging.INFO)

    def __len__(self) -> int:
        return len(self.images)

    def get_data_info(self, index: int) -> dict[str, Any]:
        objects = self.images[index]
        return dict(
            img_path=os.path.join(self.img_dir, objects.file_name),
            img_id=objects.id,
            sample_idx=index,
            height=objects.height,
            width=objects.width,
            objects=objects,
            classes=self.metainfo["classes"],
            seg_fields=[],
        )


def check_filter(owner: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """`filter_cfg` with every key; what is not given filters nothing."""
    filters = {"filter_empty_gt": False, "min_size": 0, "bbox_min_size": 0}
    for key, value in dict(given or {}).items():
        if key not in filters:
            raise ConfigError(f'{owner}: filter_cfg has no key "{key}"{nearest(str(key), filters)}')
        if not isinstance(value, int) or value < 0:
            raise ConfigError(f"{owner}: filter_cfg.{key} is True or False, or pixels, not {value!r}")
        filters[key] = value
    return filters


def image_folder(
    owner: str, data_root: str, prefix: Mapping[str, str] | None, default: str = "", others: Sequence[str] = ()
) -> tuple[str, str]:
    """(the folder `data_root`, the folder of the pictures ``data_prefix["img"]`` below it).

    ``img_path``, the name in segmentation datasets, means the same as ``img``; `others` are keys for the caller.
    """
    given, keys = dict(prefix or {}), ("img", "img_path", *others)
    for key in given:
        if key not in keys:
            raise ConfigError(f'{owner}: data_prefix has no key "{key}"{nearest(str(key), keys)}')
    root = require_folder(data_path(data_root), "data_root") if data_root else ""
    folder = given.get("img", given.get("img_path", default))
    return root, require_folder(under(root, folder), "data_prefix.img")


def under(root: str, path: str) -> str:
    """`path` below `root`; without a root, as `data_path` finds it."""
    return os.path.join(root, path) if root else data_path(path or ".")


def _filter(annotations: Annotations, filter_empty_gt: bool, min_size: int, bbox_min_size: int) -> list[ImageObjects]:
    """The pictures to train on; the others are counted in the report."""
    report, kept = annotations.report, []
    if filter_empty_gt:
        report.noted.pop(why.EMPTY, None)  # they are counted as left out instead
    for image in annotations.images:
        if filter_empty_gt and not len(image.boxes):
            report.leave_out(why.EMPTY, f"image {image.id!r}")
        elif min(image.height, image.width) < min_size:
            report.leave_out(f"image with a side below {min_size} pixels", f"image {image.id!r}")
        else:
            kept.append(image)
            small = (image.boxes[:, 2:] - image.boxes[:, :2] < bbox_min_size).any(1)
            image.difficult |= small
            for key in (image.object_ids[place] for place in np.flatnonzero(small)):
                report.note(f"object with a side below {bbox_min_size} pixels, ignored", f"object {key!r}")
    if not kept:
        raise DataError(f"{report}: no picture is left to train on; see filter_cfg")
    return kept


def _require_files(folder: str, images: Iterable[ImageObjects], source: str) -> None:
    known: dict[str, set[str]] = {}  # files by subfolder: listing a folder costs less than asking for each file
    missing, total = [], 0
    for total, image in enumerate(images, 1):  # noqa: B007
        place, name = os.path.split(os.path.join(folder, image.file_name))
        if place not in known:
            known[place] = set(os.listdir(place)) if os.path.isdir(place) else set()
        if name not in known[place]:
            missing.append(image.file_name)
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        example = os.path.join(folder, missing[0])
        raise DataError(
            f"{source}: {len(missing)} of {total} pictures are missing: {shown} (expected {example}); wrong data_root "
            "or data_prefix.img?"
        )


def _count_masks(annotations: Annotations, images: Sequence[ImageObjects], test_mode: bool) -> None:
    """Note in the report the objects without a valid outline: LoadAnnotations makes them ignored ones."""
    report, objects = annotations.report, 0
    for image in images:
        objects += len(image.segmentations)
        for key, segmentation in zip(image.object_ids, image.segmentations):
            if segmentation is None:
                report.note(why.MASKLESS, f"annotation {key!r} of {image.file_name}")
    if objects and report.noted[why.MASKLESS] == objects and not test_mode:
        raise DataError(
            f"{report}: the pipeline loads masks, but no object has a valid segmentation; set with_mask=False in "
            "LoadAnnotations and use a model without mask head"
        )
