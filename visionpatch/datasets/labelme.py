"""A folder of LabelMe's JSON files, one a picture (https://github.com/wkentaro/labelme)."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from visionpatch.errors import DataError
from visionpatch.registry import DATASETS

from . import objects as why
from .coco_json import LIMIT, MAX_SIDE, is_path, load_json, show
from .detection import FILTER, DetectionDataset, image_folder, under
from .objects import Annotations, ImageObjects, ObjectRecord, ReadReport, check_classes, clip_box, one_line
from .paths import index_files
from .segmentation import read_split, require_all, strip_suffix
from .segments import NUMBERS, check_segmentation

CORNERS = 64  # of the polygon that stands for a circle
POINTS = dict(polygon=3, rectangle=2, circle=2)  # at least; other shapes outline nothing
OTHER_SHAPE = "shape that is no polygon, rectangle or circle"
FEW_POINTS = "shape of too few points"


@DATASETS.register_module()
class LabelMeDataset(DetectionDataset):
    """Pictures with the polygons, rectangles and circles that LabelMe drew on them.

    ``LabelMeDataset(data_root="data/mine")`` reads every JSON file of the folder. Shapes of one label and group id are
    the parts of one object.

    Args:
        data_root: the folder of the JSON files; ``data/...`` is also looked for below VISIONPATCH_DATA.
        ann_file: split list, one stem a line, relative to `data_root`; empty takes every JSON file.
        data_prefix: dict(img=folder of the pictures) where they do not lie where the JSON files say, or beside them.
        metainfo: dict(classes=(...), palette=[...]). None takes all labels of the folder, sorted; with classes given,
            objects of other labels are left out.
        filter_cfg, pipeline, test_mode, indices: as CocoDataset.

    Raises:
        DataError: a file is missing or malformed, or nothing is left to train on.
        ConfigError: an argument is wrong.
    """

    def __init__(
        self,
        *,
        data_root: str,
        ann_file: str = "",
        data_prefix: Mapping[str, str] | None = None,
        metainfo: Mapping[str, Any] | None = None,
        filter_cfg: Mapping[str, Any] | None = FILTER,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        root, img_dir = image_folder("LabelMeDataset", data_root, data_prefix)
        split = under(root, ann_file) if ann_file else ""
        annotations = read_labelme(root, (metainfo or {}).get("classes"), split)
        for image in annotations.images:
            image.file_name = _find(img_dir, image)
        if not test_mode and (filter_cfg or {}).get("filter_empty_gt"):
            annotations.require_objects()
        super().__init__(
            annotations,
            img_dir,
            metainfo=metainfo,
            filter_cfg=filter_cfg,
            pipeline=pipeline,
            test_mode=test_mode,
            indices=indices,
        )


def read_labelme(folder: str, classes: Sequence[str] | None = None, split: str = "") -> Annotations:
    """Pictures and objects of the JSON files below a folder, or of those whose stems a split list names.

    File names are relative to the folder. What is left out, and why, is counted in the report.

    Args:
        classes: labels; their order gives the indices. None takes all that occur in the folder, sorted.

    Raises:
        DataError: no such file, or one that is not LabelMe's.
    """
    files = index_files(folder, ".json")
    if not files:
        raise DataError(f"{folder}: no JSON file of LabelMe in it")
    stems = [strip_suffix(stem, ".json", files) for stem in read_split(split)] if split else sorted(files)
    require_all(stems, files, split or folder, folder, "annotation", ".json")
    # without `classes`, the whole folder is read: the labels are the same in every split then
    documents = {stem: _document(f"{folder}/{files[stem]}") for stem in (stems if classes else sorted(files))}
    names = check_classes("read_labelme", classes) if classes else _labels(documents.values())
    if not names:
        raise DataError(f"{folder}: none of its {len(files)} JSON files holds a shape")
    report = ReadReport(split or folder)
    images = [_image(stem, files[stem], documents[stem], names, report) for stem in stems]
    return Annotations(names, tuple(range(len(names))), images, report)


def _find(img_dir: str, image: ImageObjects) -> str:
    """The picture's file below `img_dir`: where the JSON file says, beside it, or at the top."""
    name = os.path.basename(image.file_name)
    places = (image.file_name, os.path.join(os.path.dirname(str(image.id)), name), name)
    return next((place for place in places if os.path.isfile(f"{img_dir}/{place}")), places[1])


def _document(path: str) -> dict:
    """The content of a file, its outer fields checked."""
    document = load_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        coco = isinstance(document, dict) and "annotations" in document
        raise DataError(f'{path}: a list "shapes" is expected{"; for COCO files use CocoDataset" if coco else ""}')
    for key in ("imageHeight", "imageWidth"):
        value = document.get(key)
        if type(value) is not int or not 1 <= value <= MAX_SIDE:
            raise DataError(f"{path}: {key} is a whole number from 1, not {one_line(show(value))}")
    name = document.get("imagePath")
    if not isinstance(name, str) or not is_path(name):
        raise DataError(f"{path}: imagePath is the name of a file, not {one_line(show(name))}")
    for index, shape in enumerate(document["shapes"]):
        where = f"{path}: shapes[{index}]"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise DataError(f"{where}: an object with a label is expected, not {one_line(show(shape))}")
        if not _are_points(shape.get("points")):
            raise DataError(f"{where}: points are a list of [x, y], not {one_line(show(shape.get('points')))}")
    return document


def _are_points(points: Any) -> bool:
    return isinstance(points, list) and all(
        isinstance(p, list) and len(p) == 2 and all(type(v) in NUMBERS and abs(v) < LIMIT for v in p) for p in points
    )


def _labels(documents: Any) -> tuple[str, ...]:
    return tuple(sorted({shape["label"] for document in documents for shape in document["shapes"]}))


def _image(stem: str, file: str, document: dict, names: tuple[str, ...], report: ReadReport) -> ImageObjects:
    report.images += 1
    groups: dict[Any, list[dict]] = {}
    for index, shape in enumerate(document["shapes"]):
        group = shape.get("group_id")
        groups.setdefault((shape["label"], index if group is None else f"group {group}"), []).append(shape)
    size = document["imageWidth"], document["imageHeight"]
    found = []
    for number, ((label, _), shapes) in enumerate(groups.items()):
        report.objects += 1
        case = f"{stem} object {number}: {one_line(label)}"
        if label not in names:
            report.leave_out(why.OTHER_CLASS, case)
            continue
        record = _object(number, shapes, names.index(label), size, case, report)
        if record is not None:
            found.append(record)
    if not found:
        report.note(why.EMPTY, stem)
    name = document["imagePath"].replace("\\", "/")
    return ImageObjects.of(stem, os.path.normpath(str(Path(file).parent / name)), size[1], size[0], found)


def _object(
    number: int, shapes: list[dict], label: int, size: tuple[int, int], case: str, report: ReadReport
) -> ObjectRecord | None:
    outlines = [outline for outline in map(_outline, shapes) if isinstance(outline, list)]
    if not outlines:
        report.leave_out(str(_outline(shapes[0])), case)
        return None
    xs, ys = ([v for outline in outlines for v in outline[start::2]] for start in (0, 1))
    box, note = clip_box((min(xs), min(ys), max(xs), max(ys)), *size)
    if box is None:
        report.leave_out(note or why.OUTSIDE, case)
        return None
    if note:
        report.note(note, case)
    segmentation = check_segmentation(outlines, size[1], size[0])
    if segmentation is None:
        report.note(why.BAD_MASK, case)
    return ObjectRecord(number, box, label, sum(map(_area, outlines)), segmentation)


def _outline(shape: dict) -> list[float] | str:
    """The polygon x, y, x, y, ... of a shape, or why there is none."""
    kind, points = str(shape.get("shape_type", "polygon")), shape["points"]
    if kind not in POINTS:
        return OTHER_SHAPE
    if len(points) < POINTS[kind]:
        return FEW_POINTS
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points[:2]
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    if kind == "circle":
        (x, y), edge = points[:2]
        radius = math.dist((x, y), edge)
        angles = [2 * math.pi * k / CORNERS for k in range(CORNERS)]
        return [v for a in angles for v in (x + radius * math.cos(a), y + radius * math.sin(a))]
    return [v for point in points for v in point]


def _area(outline: list[float]) -> float:
    """Of a polygon: the shoelace formula."""
    xs, ys = outline[::2], outline[1::2]
    return abs(sum(x * ys[i - 1] - xs[i - 1] * y for i, (x, y) in enumerate(zip(xs, ys)))) / 2
