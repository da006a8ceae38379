"""The annotations of a whole set in one array of bytes, which loading processes share instead of copying."""

import json
from array import array
from collections.abc import Iterable

import numpy as np

from .objects import ImageObjects


class PackedImages:
    """A sequence of ImageObjects kept one after the other in one uint8 array; an item is decoded when read.

    A forked process shares the pages of an array for good. Of a list of objects it copies every page it looks at, as
    the reference counts in them change.
    """

    def __init__(self, images: Iterable[ImageObjects]) -> None:
        parts = [_encode(image) for image in images]
        self.ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        self.data = np.frombuffer(b"".join(parts), np.uint8)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> ImageObjects:
        start = self.ends[index - 1] if index else 0
        return _decode(self.data[start : self.ends[index]].tobytes())


def _encode(image: ImageObjects) -> bytes:
    """The length of a text, the text (JSON), and numbers (float64): all that is a number of objects or polygons.

    In the text a polygon is the count of its numbers.
    """
    flags = image.crowd + 2 * image.difficult + 4 * image.truncated
    numbers = array("d", np.concatenate([image.boxes.ravel(), image.labels, image.areas, flags]).tobytes())
    outlines = []
    for segmentation in image.segmentations:
        outlines.append([len(p) for p in segmentation] if isinstance(segmentation, list) else segmentation)
        for polygon in segmentation if isinstance(segmentation, list) else ():
            numbers.extend(polygon)
    fields = [image.id, image.file_name, image.height, image.width, image.object_ids, outlines]
    text = json.dumps(fields, separators=(",", ":")).encode()
    return len(text).to_bytes(4, "little") + text + numbers.tobytes()


def _decode(data: bytes) -> ImageObjects:
    end = 4 + int.from_bytes(data[:4], "little")
    key, name, height, width, object_ids, outlines = json.loads(data[4:end])
    n = len(object_ids)
    numbers = np.frombuffer(data, np.float64, offset=end)
    flags = numbers[6 * n : 7 * n].astype(np.int64)
    return ImageObjects(
        id=key,
        file_name=name,
        height=height,
        width=width,
        boxes=numbers[: 4 * n].astype(np.float32).reshape(-1, 4),
        labels=numbers[4 * n : 5 * n].astype(np.int64),
        areas=numbers[5 * n : 6 * n].copy(),
        crowd=flags & 1 > 0,
        difficult=flags & 2 > 0,
        truncated=flags & 4 > 0,
        segmentations=_segmentations(outlines, numbers[7 * n :].tolist()),
        object_ids=object_ids,
    )


def _segmentations(outlines: list, numbers: list[float]) -> list:
    """The segmentations, each count replaced by that many of `numbers`."""
    made, start = [], 0
    for outline in outlines:
        if isinstance(outline, list):
            polygons = []
            for count in outline:
                polygons.append(numbers[start : start + count])
                start += count
            outline = polygons
        made.append(outline)
    return made
