"""Reading annotation files in COCO's JSON format (https://cocodataset.org/#format-data): every entry is checked."""

import json
import os
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from visionpatch.errors import ConfigError, DataError, nearest

from . import objects as why
from .objects import Annotations, Box, ImageObjects, ObjectRecord, ReadReport, check_classes, clip_box, one_line
from .segments import NUMBERS, check_segmentation

KEYS = ("images", "annotations", "categories")
LIMIT = 1e9  # of a coordinate or an area
MAX_SIDE = 2**20
show = reprlib.repr  # short, whatever is in the file
POLICIES = ("error", "drop")
REMEDIES = {
    why.MALFORMED: 'correct it, or malformed="drop" leaves such entries out and counts them',
    why.DUPLICATE: 'duplicates="drop" keeps the first',
}


def read_coco(
    path: str | PathLike,
    classes: Sequence[str] | None = None,
    *,
    duplicates: str = "error",
    malformed: str = "error",
    keep_empty: bool = True,
    need_objects: bool = True,
    with_masks: bool = False,
) -> Annotations:
    """Pictures and objects of a COCO file. What is left out, and why, is counted in the report.

    Left out are objects of no area or outside their picture, of a category not in `classes`, or without a picture.
    Boxes that reach over the edge are clipped. A malformed segmentation becomes None. ``area`` and ``iscrowd`` may be
    missing or null: the area of the box, no crowd. So may the id of an annotation.

    Args:
        classes: category names; their order gives the labels. None takes all, in the file's order.
        duplicates: of an id used twice, "error" raises and "drop" keeps the first entry.
        malformed: of an image or annotation without a key that is needed, or with a value of the wrong kind, "error"
            raises and "drop" leaves it out.
        keep_empty: keep pictures without objects.
        need_objects: raise when no object that is not a crowd is left; False also reads files of pictures alone.
        with_masks: leave out objects without a valid segmentation.

    Raises:
        DataError: the file cannot be read, is no JSON, or is not of this format; the message names the first entry
            at fault, and how many there are.
        ConfigError: an argument is wrong.
    """
    policies = dict(duplicates=duplicates, malformed=malformed)
    for name, value in policies.items():
        if value not in POLICIES:
            raise ConfigError(f"read_coco: unknown {name}={value!r}{nearest(str(value), POLICIES)}")
    dropped = {why.DUPLICATE: duplicates == "drop", why.MALFORMED: malformed == "drop"}
    reader = _Reader(os.fspath(path), dropped, with_masks)
    tables = reader.tables(load_json(path), need_objects)
    names, category_ids, labels = reader.categories(tables["categories"], classes)
    records = reader.images(tables["images"])
    found = reader.objects(tables["annotations"], records, labels)
    images = [
        ImageObjects.of(key, name, height, width, found.get(key, ()))
        for key, (name, height, width) in records.items()
        if keep_empty or key in found
    ]
    report = reader.report
    for key in (key for key in records if key not in found):
        (report.note if keep_empty else report.leave_out)(why.EMPTY, f"image {key!r}")
    annotations = Annotations(names, category_ids, images, report)
    if need_objects:
        annotations.require_objects()
    return annotations


def load_json(path: str | PathLike) -> Any:
    """The content of a JSON file; repeated keys are refused. NaN and infinities are for the reader to refuse, by place.

    Raises:
        DataError: in one line, where in the file.
    """
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        others = nearest(os.path.basename(path), os.listdir(folder)) if os.path.isdir(folder) else ""
        raise DataError(f"{path}: annotation file does not exist{others}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: annotation file cannot be read: {error}") from None
    if not text.strip():
        raise DataError(f"{path}: annotation file is empty ({len(text)} bytes)")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        cut = "" if text.rstrip().endswith(("}", "]")) else "; the file seems cut off: fetch it again"
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: no valid JSON: {error.msg} at {place} of {len(text)} characters{cut}") from None
    except ValueError as error:
        raise DataError(f"{path}: no valid JSON: {error}") from None
    except RecursionError:
        raise DataError(f"{path}: no annotations: its lists or objects are nested too deeply") from None


class _MalformedError(Exception):
    """An entry of a table cannot be used; the text says what is wrong with it."""


class _Reader:
    """The tables of one file, one method each.

    Args:
        dropped: {MALFORMED, DUPLICATE: whether such entries are left out}; otherwise they are an error.
    """

    def __init__(self, path: str, dropped: Mapping[str, bool], with_masks: bool) -> None:
        self.path = path
        self.dropped = dropped
        self.with_masks = with_masks
        self.report = ReadReport(path)
        self.faults: Counter = Counter()
        self.first = ""  # of the faults, with what to do about it

    def tables(self, document: Any, need_objects: bool) -> dict[str, list]:
        if not isinstance(document, dict):
            what = "a list (of results?)" if isinstance(document, list) else show(document)
            raise self._error(f"an object with {', '.join(KEYS)} is expected, not {what}")
        tables = {}
        for key in KEYS:
            if key not in document and (need_objects or key != "annotations"):
                raise self._error(f'no "{key}", only {", ".join(document)[:200]}')
            tables[key] = document.get(key, [])
            if not isinstance(tables[key], list):
                raise self._error(f'"{key}" is a list, not {show(tables[key])}')
        for key in ("images", "categories"):
            if not tables[key]:
                raise self._error(f'"{key}" is empty: 0 samples')
        return tables

    def categories(
        self, table: list, classes: Sequence[str] | None
    ) -> tuple[tuple[str, ...], tuple[int, ...], dict[int, int | None]]:
        """Class names, their category ids, and {category id: label, None if it is not asked for}."""
        ids: dict[str, int] = {}
        known: set[int] = set()
        for index, entry in enumerate(table):
            try:
                key, name = _get(entry, "id"), _get(entry, "name")
                if type(key) is not int or not isinstance(name, str):
                    raise _MalformedError(f"an integer id and a name are expected, not {show(key)}, {show(name)}")
            except _MalformedError as fault:  # the labels follow from the table: none of it is left out
                raise self._error(f"{_place('categories', index, entry)}: {fault}") from None
            if key in known or name in ids:
                self._fault(why.DUPLICATE, "categories", index, entry, f'category {key} "{name}" is there before')
            else:
                known.add(key)
                ids[name] = key
        self._check()
        names = tuple(ids) if classes is None else check_classes("read_coco", classes)
        for name in names:
            if name not in ids:
                raise self._error(f'no category "{name}"{nearest(name, ids)}')
        chosen = {ids[name]: label for label, name in enumerate(names)}
        return names, tuple(chosen), {key: chosen.get(key) for key in known}

    def images(self, table: list) -> dict[int | str, tuple[str, int, int]]:
        """{id: (file name, height, width)}."""
        self.report.images = len(table)
        records: dict[int | str, tuple[str, int, int]] = {}
        for index, entry in enumerate(table):
            try:
                key, record = _image(entry)
            except _MalformedError as fault:
                self._fault(why.MALFORMED, "images", index, entry, str(fault))
                continue
            if key in records:
                self._fault(why.DUPLICATE, "images", index, entry, f"image {key!r} is there before")
            else:
                records[key] = record
        self._check()
        return records

    def objects(
        self, table: list, images: Mapping, labels: Mapping[int, int | None]
    ) -> dict[int | str, list[ObjectRecord]]:
        """{image id: its objects}, without those that are left out."""
        report, seen = self.report, set()
        report.objects = len(table)
        found: dict[int | str, list[ObjectRecord]] = {}
        for index, entry in enumerate(table):
            try:
                given, image, category, box = _annotation(entry)
            except _MalformedError as fault:
                self._fault(why.MALFORMED, "annotations", index, entry, str(fault))
                continue
            key = f"annotations[{index}]" if given is None else given
            case = f"annotation {key!r}"
            if given is None:
                report.note(why.NO_ID, case)
            if key in seen:
                self._fault(why.DUPLICATE, "annotations", index, entry, f"{case} is there before")
                continue
            seen.add(key)
            label = labels.get(category)
            if image not in images:
                report.leave_out(why.NO_IMAGE, f"{case} of image {image!r}")
            elif label is None:
                report.leave_out(why.OTHER_CLASS if category in labels else why.NO_CATEGORY, f"{case} of {category}")
            else:
                record = self._record(entry, key, label, box, images[image])
                if record is not None:
                    found.setdefault(image, []).append(record)
        self._check()
        return found

    def _record(
        self, entry: dict, key: int | str, label: int, numbers: Box, image: tuple[str, int, int]
    ) -> ObjectRecord | None:
        """The object of a valid entry, or None if it is left out."""
        _, height, width = image
        x, y, w, h = numbers
        area, crowd = float(_value(entry, "area", w * h)), bool(_value(entry, "iscrowd", 0))
        case = f"annotation {key!r} of {image[0]}"
        box: Box | None
        box, note = clip_box((x, y, x + w, y + h), width, height) if area > 0 else (None, why.NO_AREA)
        if box is None:
            self.report.leave_out(note or why.OUTSIDE, f"{case}: x, y, width, height {entry['bbox']}")
            return None
        outline, fault = self._outline(entry.get("segmentation"), height, width)
        if fault and self.with_masks:
            self.report.leave_out(fault, case)
            return None
        for what in (note, why.BAD_MASK if fault == why.BAD_MASK else None, why.CROWD if crowd else None):
            if what:
                self.report.note(what, case)
        return ObjectRecord(key, box, label, area, outline, crowd)

    @staticmethod
    def _outline(segmentation: Any, height: int, width: int) -> tuple[Any, str | None]:
        """(the valid segmentation or None, what is wrong with it)."""
        if segmentation is None or segmentation == []:
            return None, why.NO_MASK
        valid = check_segmentation(segmentation, height, width)
        return valid, why.BAD_MASK if valid is None else None

    def _fault(self, kind: str, table: str, index: int, entry: Any, message: str) -> None:
        """An entry that is left out, or an error at the end of its table."""
        if self.dropped[kind]:
            self.report.leave_out(kind, f"{_place(table, index, entry)}: {message}")
        else:
            self.first = self.first or f"{_place(table, index, entry)}: {message}; {REMEDIES[kind]}"
            self.faults[kind] += 1

    def _check(self) -> None:
        """DataError if the table that was read has faults."""
        if self.faults.total() == 1:
            raise self._error(self.first)
        if self.faults:
            counts = ", ".join(f"{count} {kind}" for kind, count in self.faults.most_common())
            raise self._error(
                f"{self.first} ({self.faults.total()} entries cannot be used: {counts}; this is the first)"
            )

    def _error(self, message: str) -> DataError:
        return DataError(f"{self.path}: {one_line(message)}")


def _place(table: str, index: int, entry: Any) -> str:
    return f"{table}[{index}]" + (f" (id {show(entry.get('id'))})" if isinstance(entry, dict) else "")


def _get(entry: Any, key: str) -> Any:
    if not isinstance(entry, dict):
        raise _MalformedError(f"an object is expected, not {show(entry)}")
    if key not in entry:
        raise _MalformedError(f'no "{key}", only {", ".join(entry)[:120]}')
    return entry[key]


def _value(entry: dict, key: str, default: float) -> Any:
    """What may be missing or null."""
    value = entry.get(key)
    return default if value is None else value


def _image(entry: Any) -> tuple[int | str, tuple[str, int, int]]:
    """(id, (file name, height, width)) of an image."""
    key, name, *sides = (_get(entry, field) for field in ("id", "file_name", "height", "width"))
    if type(key) not in (int, str):
        raise _MalformedError(f"the id is an integer or a text, not {show(key)}")
    if not isinstance(name, str) or not is_path(name):
        raise _MalformedError(f"file_name is the name of a file, not {show(name)}")
    for side in sides:
        if type(side) not in NUMBERS or not 1 <= side <= MAX_SIDE or side != int(side):
            raise _MalformedError(f"height and width are whole numbers from 1, not {show(side)}")
    return key, (name.replace("\\", "/"), int(sides[0]), int(sides[1]))


def _annotation(entry: Any) -> tuple[int | str | None, int | str, int, Box]:
    """(id, image id, category id, box as x, y, width, height) of an annotation whose other values are valid."""
    image, category, box = (_get(entry, field) for field in ("image_id", "category_id", "bbox"))
    key = entry.get("id")
    if type(key) not in (int, str, type(None)) or type(image) not in (int, str) or type(category) is not int:
        given = ", ".join(map(show, (key, image, category)))
        raise _MalformedError(f"id, image_id and category_id are integers, not {given}")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise _MalformedError(f"bbox is four numbers, x, y, width, height, not {show(box)}")
    area, crowd = _value(entry, "area", 0), _value(entry, "iscrowd", 0)
    if not _is_number(area):
        raise _MalformedError(f"area is a number, not {show(area)}")
    if crowd not in (0, 1) or isinstance(crowd, float):
        raise _MalformedError(f"iscrowd is 0 or 1, not {show(crowd)}")
    x, y, width, height = map(float, box)
    return key, image, category, (x, y, width, height)


def _is_number(value: Any) -> bool:
    return type(value) in NUMBERS and -LIMIT < value < LIMIT


def is_path(name: str) -> bool:
    """Whether a file can have this name: not blank, no control characters, no halves of characters."""
    return bool(name.strip()) and min(name) >= " " and not any("\ud800" <= c <= "\udfff" for c in name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f'the key "{next(n for n in names if names.count(n) > 1)[:40]}" stands twice in one object')
    return made
