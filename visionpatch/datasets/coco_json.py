"""Reading annotation files in COCO's JSON format (https://cocodataset.org/#format-data): every entry is checked."""

import json
import os
import reprlib
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, NoReturn

from visionpatch.errors import ConfigError, DataError, nearest

from . import objects as why
from .objects import Annotations, Box, ImageObjects, ObjectRecord, ReadReport, check_classes, clip_box, one_line
from .segments import NUMBERS, check_segmentation

KEYS = ("images", "annotations", "categories")
LIMIT = 1e9  # of a coordinate or an area
MAX_SIDE = 2**20
show = reprlib.repr  # short, whatever is in the file
DUPLICATES = ("error", "drop")


def read_coco(
    path: str | PathLike,
    classes: Sequence[str] | None = None,
    *,
    duplicates: str = "error",
    keep_empty: bool = True,
    need_objects: bool = True,
    with_masks: bool = False,
) -> Annotations:
    """Pictures and objects of a COCO file. What is left out, and why, is counted in the report.

    Left out are objects of no area or outside their picture, of a category not in `classes`, or without a picture.
    Boxes that reach over the edge are clipped. A malformed segmentation becomes None.

    Args:
        classes: category names; their order gives the labels. None takes all, in the file's order.
        duplicates: of an id used twice, "error" raises and "drop" keeps the first entry.
        keep_empty: keep pictures without objects.
        need_objects: raise when no object that is not a crowd is left; False also reads files of pictures alone.
        with_masks: leave out objects without a valid segmentation.

    Raises:
        DataError: the file cannot be read, is no JSON, or is not of this format; the message names the entry.
        ConfigError: an argument is wrong.
    """
    if duplicates not in DUPLICATES:
        raise ConfigError(f"read_coco: unknown duplicates={duplicates!r}{nearest(str(duplicates), DUPLICATES)}")
    reader = _Reader(os.fspath(path), duplicates == "drop", with_masks)
    tables = reader.tables(load_json(path), need_objects)
    names, category_ids, labels = reader.categories(tables["categories"], classes)
    records = reader.images(tables["images"])
    found = reader.objects(tables["annotations"], records, labels, names)
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
    """The content of a JSON file; NaN, infinities and repeated keys are refused.

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
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        cut = "" if text.rstrip().endswith(("}", "]")) else "; the file seems cut off: fetch it again"
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: no valid JSON: {error.msg} at {place} of {len(text)} characters{cut}") from None
    except ValueError as error:
        raise DataError(f"{path}: no valid JSON: {error}") from None
    except RecursionError:
        raise DataError(f"{path}: no annotations: its lists or objects are nested too deeply") from None


class _Reader:
    """The tables of one file, one method each."""

    def __init__(self, path: str, drop_duplicates: bool, with_masks: bool) -> None:
        self.path = path
        self.drop_duplicates = drop_duplicates
        self.with_masks = with_masks
        self.report = ReadReport(path)

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
            key, name = self._get(entry, "id", "categories", index), self._get(entry, "name", "categories", index)
            if type(key) is not int or not isinstance(name, str):
                self._fail(
                    "categories", index, entry, f"an integer id and a name are expected, not {show(key)}, {show(name)}"
                )
            if key in known or name in ids:
                self._duplicate("categories", index, entry, f'category {key} "{name}"')
            else:
                known.add(key)
                ids[name] = key
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
            key = self._get(entry, "id", "images", index)
            name = self._get(entry, "file_name", "images", index)
            sides = [self._get(entry, side, "images", index) for side in ("height", "width")]
            if type(key) not in (int, str):
                self._fail("images", index, entry, f"the id is an integer or a text, not {show(key)}")
            if not isinstance(name, str) or not is_path(name):
                self._fail("images", index, entry, f"file_name is the name of a file, not {show(name)}")
            for side in sides:
                if type(side) not in NUMBERS or not 1 <= side <= MAX_SIDE or side != int(side):
                    self._fail("images", index, entry, f"height and width are whole numbers from 1, not {show(side)}")
            if key in records:
                self._duplicate("images", index, entry, f"image {key!r}")
            else:
                records[key] = (name.replace("\\", "/"), int(sides[0]), int(sides[1]))
        return records

    def objects(
        self, table: list, images: Mapping, labels: Mapping[int, int | None], names: Sequence[str]
    ) -> dict[int | str, list[ObjectRecord]]:
        """{image id: its objects}, without those that are left out."""
        report, seen = self.report, set()
        report.objects = len(table)
        found: dict[int | str, list[ObjectRecord]] = {}
        for index, entry in enumerate(table):
            key, image, category, numbers = self._identify(entry, index)
            case = f"annotation {key!r}"
            if key in seen:
                self._duplicate("annotations", index, entry, case)
                continue
            seen.add(key)
            label = labels.get(category)
            if image not in images:
                report.leave_out(why.NO_IMAGE, f"{case} of image {image!r}")
            elif label is None:
                report.leave_out(why.OTHER_CLASS if category in labels else why.NO_CATEGORY, f"{case} of {category}")
            else:
                record = self._record(entry, index, key, label, numbers, images[image])
                if record is not None:
                    found.setdefault(image, []).append(record)
        return found

    def _identify(self, entry: Any, index: int) -> tuple[int | str, int | str, int, list]:
        """(id, image id, category id, box as x, y, width, height) of an annotation."""
        key, image, category, numbers = (
            self._get(entry, name, "annotations", index) for name in ("id", "image_id", "category_id", "bbox")
        )
        if type(key) not in (int, str) or type(image) not in (int, str) or type(category) is not int:
            self._fail("annotations", index, entry, "id, image_id and category_id are integers")
        if not isinstance(numbers, list) or len(numbers) != 4 or not all(map(_is_number, numbers)):
            self._fail("annotations", index, entry, f"bbox is four numbers, x, y, width, height, not {show(numbers)}")
        return key, image, category, numbers

    def _record(
        self, entry: dict, index: int, key: int | str, label: int, numbers: list, image: tuple[str, int, int]
    ) -> ObjectRecord | None:
        """The object, or None if it is left out."""
        _, height, width = image
        x, y, w, h = map(float, numbers)
        area, crowd = entry.get("area", w * h), entry.get("iscrowd", 0)
        if not _is_number(area):
            self._fail("annotations", index, entry, f"area is a number, not {show(area)}")
        if crowd not in (0, 1) or isinstance(crowd, float):
            self._fail("annotations", index, entry, f"iscrowd is 0 or 1, not {show(crowd)}")
        case = f"annotation {key!r} of {image[0]}"
        box: Box | None
        box, note = clip_box((x, y, x + w, y + h), width, height) if area > 0 else (None, why.NO_AREA)
        if box is None:
            self.report.leave_out(note or why.OUTSIDE, f"{case}: x, y, width, height {numbers}")
            return None
        outline, fault = self._outline(entry.get("segmentation"), height, width)
        if fault and self.with_masks:
            self.report.leave_out(fault, case)
            return None
        for what in (note, why.BAD_MASK if fault == why.BAD_MASK else None, why.CROWD if crowd else None):
            if what:
                self.report.note(what, case)
        return ObjectRecord(key, box, label, float(area), outline, bool(crowd))

    @staticmethod
    def _outline(segmentation: Any, height: int, width: int) -> tuple[Any, str | None]:
        """(the valid segmentation or None, what is wrong with it)."""
        if segmentation is None or segmentation == []:
            return None, why.NO_MASK
        valid = check_segmentation(segmentation, height, width)
        return valid, why.BAD_MASK if valid is None else None

    def _get(self, entry: Any, key: str, table: str, index: int) -> Any:
        if not isinstance(entry, dict):
            raise self._error(f"{table}[{index}] is an object, not {show(entry)}")
        if key not in entry:
            self._fail(table, index, entry, f'no "{key}", only {", ".join(entry)[:120]}')
        return entry[key]

    def _duplicate(self, table: str, index: int, entry: dict, what: str) -> None:
        if not self.drop_duplicates:
            self._fail(table, index, entry, f'{what} is there before; duplicates="drop" keeps the first')
        self.report.leave_out(why.DUPLICATE, what)

    def _fail(self, table: str, index: int, entry: dict, message: str) -> NoReturn:
        raise self._error(f"{table}[{index}] (id {show(entry.get('id'))}): {message}")

    def _error(self, message: str) -> DataError:
        return DataError(f"{self.path}: {one_line(message)}")


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


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")
