"""Reading object annotations in PASCAL VOC's XML format (http://host.robots.ox.ac.uk/pascal/VOC/voc2012)."""

import math
import os
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from visionpatch.errors import BadSampleError, ConfigError, DataError, nearest

from . import objects as why
from .objects import Annotations, Box, ImageObjects, ObjectRecord, ReadReport, check_classes, clip_box, one_line
from .transforms.decode import read_bytes

MAX_BYTES = 2**24  # of a file; real ones have a few thousand
MAX_SIDE = 2**20
SIDES = ("xmin", "ymin", "xmax", "ymax")
UNKNOWN = ("error", "drop")


def read_voc_objects(
    path: str | PathLike, classes: Sequence[str], *, unknown: str = "error", report: ReadReport | None = None
) -> ImageObjects:
    """The objects of one picture.

    The file's coordinates number pixels from 1, the last one included. They come back as edges: x1 = xmin - 1,
    y1 = ymin - 1, x2 = xmax, y2 = ymax, so that a box of one pixel has the area 1, and overlaps by area equal those of
    the challenge. Objects without area or outside the picture are left out, boxes over its edge are clipped.

    Args:
        classes: names; their order gives the labels.
        unknown: an object of another name: "error" raises, "drop" leaves it out.
        report: counts what is left out.

    Raises:
        BadSampleError: the file is no such annotation, holds a document type or entities, or an unknown name.
        ConfigError: an argument is wrong.
    """
    names = check_classes("read_voc_objects", classes)
    if unknown not in UNKNOWN:
        raise ConfigError(f"read_voc_objects: unknown={unknown!r} is no choice{nearest(str(unknown), UNKNOWN)}")
    report = ReadReport(str(path)) if report is None else report
    root = parse_xml(read_bytes(path), path)
    if root.tag != "annotation":
        _fail(path, f"the outer element is <annotation>, not <{root.tag[:40]}>")
    width, height = (_side(root, name, path) for name in ("width", "height"))
    stem = Path(path).stem
    file_name = (root.findtext("filename") or "").strip() or f"{stem}.jpg"
    report.images += 1
    found = []
    for number, node in enumerate(root.findall("object")):
        report.objects += 1
        record = _object(node, f"object {number}", path, (width, height), names, unknown == "drop", report)
        if record is not None:
            found.append(record)
    if not found:
        report.note(why.EMPTY, stem)
    return ImageObjects.of(stem, file_name, height, width, found)


def read_voc(
    paths: Iterable[str | PathLike], classes: Sequence[str], *, unknown: str = "error", need_objects: bool = True
) -> Annotations:
    """The pictures of a list of XML files; see `read_voc_objects`.

    Raises:
        DataError: no file, the same picture twice, or (with `need_objects`) no usable object.
    """
    names = check_classes("read_voc", classes)
    files = [Path(path) for path in paths]
    if not files:
        raise DataError("read_voc: no XML files are given: 0 samples")
    stems = [file.stem for file in files]
    if len(set(stems)) != len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise DataError(f"{files[0].parent}: {twice} is listed more than once; remove it from the split list")
    report = ReadReport(os.path.commonpath([file.parent for file in files]) or ".")
    images = [read_voc_objects(file, names, unknown=unknown, report=report) for file in files]
    annotations = Annotations(names, tuple(range(len(names))), images, report)
    if need_objects:
        annotations.require_objects()
    return annotations


def parse_xml(data: bytes, path: str | PathLike) -> Element:
    """The tree of an XML document that declares nothing: without a document type there are no entities to expand."""
    if len(data) > MAX_BYTES:
        _fail(path, f"{len(data)} bytes are too many for the annotation of one picture ({MAX_BYTES} allowed)")

    def refuse(*_: Any) -> NoReturn:
        _fail(path, "holds a document type (DOCTYPE), which may define entities; remove it, annotations need none")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
        return builder.close()
    except BadSampleError:
        raise
    except (expat.ExpatError, LookupError, ValueError, AssertionError) as error:
        _fail(path, f"no valid XML ({error}); is the file cut off?")


def _object(
    node: Element,
    number: str,
    path: str | PathLike,
    size: tuple[int, int],
    names: tuple[str, ...],
    drop_unknown: bool,
    report: ReadReport,
) -> ObjectRecord | None:
    name = (node.findtext("name") or "").strip()
    case = f"{Path(path).stem} {number}"
    if not name:
        _fail(path, f"{number} has no <name>")
    if name not in names:
        if not drop_unknown:
            _fail(path, f'{number} is a "{name[:40]}", not one of the {len(names)} classes{nearest(name, names)}')
        report.leave_out(why.OTHER_CLASS, f"{case}: {name}")
        return None
    outline = node.find("bndbox")
    if outline is None:
        _fail(path, f"{number} ({name}) has no <bndbox>")
    x1, y1, x2, y2 = (_number(outline, side, path, f"{number} ({name})") for side in SIDES)
    difficult, truncated = (_flag(node, flag, path, number) for flag in ("difficult", "truncated"))
    box: Box | None
    box, note = clip_box((x1 - 1, y1 - 1, x2, y2), *size)
    if box is None:
        report.leave_out(note or why.OUTSIDE, f"{case}: {name} {x1:g} {y1:g} {x2:g} {y2:g}")
        return None
    for what in (note, why.DIFFICULT if difficult else None):
        if what:
            report.note(what, case)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return ObjectRecord(number, box, names.index(name), area, difficult=difficult, truncated=truncated)


def _side(root: Element, name: str, path: str | PathLike) -> int:
    size = root.find("size")
    if size is None:
        _fail(path, "no <size>; it holds the picture's <width> and <height>")
    value = _number(size, name, path, "<size>")
    if not 1 <= value <= MAX_SIDE or value != int(value):
        _fail(path, f"<{name}> is a whole number of pixels from 1, not {value:g}")
    return int(value)


def _number(node: Element, name: str, path: str | PathLike, where: str) -> float:
    text = node.findtext(name)
    if text is None:
        _fail(path, f"{where} has no <{name}>, only {', '.join(child.tag for child in node)[:120] or 'nothing'}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e9:  # nan as well
        _fail(path, f"{where}: <{name}> is a number, not {text.strip()[:40]!r}")
    return value


def _flag(node: Element, name: str, path: str | PathLike, number: str) -> bool:
    text = (node.findtext(name) or "0").strip()
    if text not in ("0", "1"):
        _fail(path, f"{number}: <{name}> is 0 or 1, not {text[:40]!r}")
    return text == "1"


def _fail(path: str | PathLike, message: str) -> NoReturn:
    raise BadSampleError(f"{path}: {one_line(message)}")
