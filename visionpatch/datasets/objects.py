"""Annotated objects: what the readers of detection formats return, and their record of what was left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionpatch.errors import ConfigError, DataError

MIN_SIDE = 0.01  # pixels; COCO rounds to two decimals, so a shorter side is none and a shorter overhang is rounding

# why an object is left out
DUPLICATE = "duplicate id"
MALFORMED = "malformed entry"
NO_IMAGE = "annotation without image"
NO_CATEGORY = "category_id not among the categories"
OTHER_CLASS = "category not in classes"
NO_AREA = "zero or negative area"
OUTSIDE = "box outside the picture"
BAD_MASK = "malformed segmentation"
NO_MASK = "no segmentation"
# what is only counted
CLIPPED = "box clipped to the picture"
CROWD = "crowd"
DIFFICULT = "difficult"
EMPTY = "image without objects"
NO_ID = "annotation without id"
MASKLESS = "object without valid outline, ignored"
LOSSES = (BAD_MASK, MASKLESS)  # counted ones that a user should hear of

Box = tuple[float, float, float, float]


@dataclass
class ObjectRecord:
    """One object: `box` is x1, y1, x2, y2; the rest as in ImageObjects."""

    id: int | str
    box: Box
    label: int
    area: float
    segmentation: Any = None
    crowd: bool = False
    difficult: bool = False
    truncated: bool = False


@dataclass
class ImageObjects:
    """A picture and its n objects.

    Attributes:
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels, clipped to the picture: 0 is the left (upper) edge of the first
            pixel, `width` (`height`) the right (lower) edge of the last one.
        labels: (n,) int64, index into the classes asked for.
        areas: (n,) float64, pixels, as the file says; of the box where it says nothing.
        crowd, difficult, truncated: (n,) bool; False where the format does not know them.
        segmentations: n of: list of polygons [x, y, x, y, ...], run-length dict(size, counts), or None.
        object_ids: n ids.
    """

    id: int | str
    file_name: str
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    truncated: np.ndarray
    segmentations: list
    object_ids: list

    @classmethod
    def of(
        cls, id: int | str, file_name: str, height: int, width: int, objects: Sequence[ObjectRecord]
    ) -> "ImageObjects":
        return cls(
            id=id,
            file_name=file_name,
            height=height,
            width=width,
            boxes=np.array([o.box for o in objects], np.float32).reshape(-1, 4),
            labels=np.array([o.label for o in objects], np.int64),
            areas=np.array([o.area for o in objects], np.float64),
            crowd=np.array([o.crowd for o in objects], bool),
            difficult=np.array([o.difficult for o in objects], bool),
            truncated=np.array([o.truncated for o in objects], bool),
            segmentations=[o.segmentation for o in objects],
            object_ids=[o.id for o in objects],
        )


@dataclass
class ReadReport:
    """What was in a file (or a set of them) and what was left out.

    Attributes:
        images, objects: how many the file holds.
        left_out: {reason: objects, or images, not returned}.
        noted: {what: how many}; these are returned.
        examples: {reason or what: its first cases}.
    """

    source: str
    images: int = 0
    objects: int = 0
    left_out: Counter = field(default_factory=Counter)
    noted: Counter = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, case: str) -> None:
        self._count(self.left_out, reason, case)

    def note(self, what: str, case: str) -> None:
        self._count(self.noted, what, case)

    def _count(self, counter: Counter, what: str, case: str) -> None:
        counter[what] += 1
        cases = self.examples.setdefault(what, [])
        if len(cases) < 5:
            cases.append(case)

    @property
    def first_case(self) -> str:
        """The first case of what is lost, for messages; empty if nothing is."""
        reasons = [reason for reason in (*self.left_out, *LOSSES) if self.left_out[reason] + self.noted[reason]]
        return next((f"{self.examples[reason][0]} ({reason})" for reason in reasons if reason != EMPTY), "")

    def __str__(self) -> str:
        parts = [f"{self.source}: {self.objects} objects in {self.images} images"]
        for title, counter in (("left out", self.left_out), ("counted", self.noted)):
            if counter:
                parts.append(f"{title}: " + ", ".join(f"{n} {what}" for what, n in counter.most_common()))
        return "; ".join(parts)


@dataclass
class Annotations:
    """A set of pictures with their objects.

    Attributes:
        classes: names by label.
        category_ids: the file's ids by label (for results in its format); the labels themselves where it has none.
        images: in the order of the file.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: list[ImageObjects]
    report: ReadReport

    def require_objects(self) -> None:
        """DataError unless an object is left that is neither a crowd nor difficult; says what became of the others."""
        if any((~(image.crowd | image.difficult)).any() for image in self.images):
            return
        cases = [case for reason in self.report.left_out for case in self.report.examples[reason]]
        example = f" (first: {cases[0]})" if cases else ""
        raise DataError(
            f"{self.report}: no usable object is left{example}; correct the annotations or `classes`; a data set of "
            "pictures without objects takes filter_cfg=None (read_coco: need_objects=False)"
        )


def clip_box(box: Box, width: int, height: int) -> tuple[Box | None, str | None]:
    """(the part of `box` inside the picture, CLIPPED or None); (None, the reason) if it has no area there."""
    x1, y1, x2, y2 = box
    if x2 - x1 < MIN_SIDE or y2 - y1 < MIN_SIDE:
        return None, NO_AREA
    inside = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if inside[2] - inside[0] < MIN_SIDE or inside[3] - inside[1] < MIN_SIDE:
        return None, OUTSIDE
    overhang = max(-x1, -y1, x2 - width, y2 - height)
    return inside, CLIPPED if overhang > MIN_SIDE else None


def one_line(text: str) -> str:
    """`text`, which may quote a file, without line breaks and unprintable halves of characters."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def check_classes(owner: str, classes: Sequence[str]) -> tuple[str, ...]:
    """`classes` as a tuple of different names."""
    names = () if isinstance(classes, str) else tuple(classes)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ConfigError(f"{owner}: classes is a tuple of different names, not {classes!r}")
    return names
