"""Samples made of several: the dataset has to be a MultiImageMixDataset."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from visionpatch.errors import ConfigError
from visionpatch.registry import TRANSFORMS

from .base import IGNORED, BaseTransform, Results, pair, span, where
from .crop import crop
from .flip import Pad, flip
from .instances import PER_OBJECT, pad_objects
from .resize import resize

NO_OTHERS = "needs other samples: put it into the pipeline of a MultiImageMixDataset"


@TRANSFORMS.register_module()
class Mosaic(BaseTransform):
    """Four pictures around a random point, cut off at the edges, twice as large as each (arXiv 2004.10934, figure 3).

    The first is the sample's own, at the upper left; the others go to the upper right, lower left and lower right. Each
    is resized to fit `img_scale`.

    Args:
        img_scale: (width, height) of a quarter.
        center_ratio_range: where the point lies, as shares of `img_scale`.
        pad_val: value of the pixels without a picture.
        prob: probability of being applied.
    """

    def __init__(
        self,
        img_scale: int | Sequence[int] = (640, 640),
        center_ratio_range: tuple[float, float] = (0.5, 1.5),
        pad_val: float = 114,
        prob: float = 1.0,
    ) -> None:
        self.img_scale = pair("Mosaic: img_scale", img_scale)
        self.center_ratio_range = span("Mosaic: center_ratio_range", center_ratio_range, positive=False)
        if self.center_ratio_range[1] > 2:
            raise ConfigError(f"Mosaic: center_ratio_range ends at 2, the lower right, not {center_ratio_range!r}")
        self.pad_val = pad_val
        self.prob = span("Mosaic: prob", (prob, 1.0), positive=False)[0]

    def get_indexes(self, dataset: Any) -> list[int]:
        """Three other samples."""
        return [int(i) for i in np.random.randint(len(dataset), size=3)]

    def transform(self, results: Results) -> Results:
        others = _others(self, results, 3)
        if np.random.random_sample() >= self.prob:
            return results
        size = 2 * self.img_scale[0], 2 * self.img_scale[1]
        middle = [int(np.random.uniform(*self.center_ratio_range) * side) for side in self.img_scale]
        parts = [self._place(part, i, middle, size) for i, part in enumerate((results, *others))]
        canvas = np.full((size[1], size[0], *results["img"].shape[2:]), self.pad_val, results["img"].dtype)
        made = {**results, "img": _paste(canvas, "img", parts), "img_shape": (size[1], size[0])}
        for key in results.get("seg_fields", ()):
            made[key] = _paste(np.full((size[1], size[0]), IGNORED, np.uint8), key, parts)
        _join_objects(made, [part for part, _ in parts])
        made.pop("scale_factor", None)
        return made

    def _place(self, part: Results, number: int, middle: Sequence[int], size: Sequence[int]) -> tuple[Results, Any]:
        """(the part as it is seen, (left, top) of it in the whole)."""
        part = dict(part)
        _fit(part, self.img_scale)
        height, width = part["img"].shape[:2]
        left = middle[0] if number % 2 else middle[0] - width
        top = middle[1] if number >= 2 else middle[1] - height
        rows = slice(max(-top, 0), max(min(height, size[1] - top), 0))
        columns = slice(max(-left, 0), max(min(width, size[0] - left), 0))
        crop(part, (rows, columns))
        height, width = part["img"].shape[:2]
        left, top = max(left, 0), max(top, 0)
        pad_objects(part, left, top, size[0] - left - width, size[1] - top - height)
        return part, (left, top)


@TRANSFORMS.register_module()
class MixUp(BaseTransform):
    """The mean of two pictures, with the objects of both (arXiv 1710.09412; in the form of YOLOX, arXiv 2107.08430).

    The other picture is fitted into `img_scale`, resized by a random factor, mirrored or not, and cut or padded to the
    size of the sample. It stays away if it has no object.

    Args:
        img_scale: (width, height).
        ratio_range: (low, high) of the factor.
        flip_ratio: probability of mirroring the other picture.
        pad_val: value of its padding.
        max_iters: how often another sample is drawn to find one with an object.
    """

    def __init__(
        self,
        img_scale: int | Sequence[int] = (640, 640),
        ratio_range: tuple[float, float] = (0.5, 1.5),
        flip_ratio: float = 0.5,
        pad_val: float = 114,
        max_iters: int = 15,
    ) -> None:
        self.img_scale = pair("MixUp: img_scale", img_scale)
        self.ratio_range = span("MixUp: ratio_range", ratio_range)
        self.flip_ratio = span("MixUp: flip_ratio", (flip_ratio, 1.0), positive=False)[0]
        self.pad_val = pad_val
        self.max_iters = pair("MixUp: max_iters", max_iters)[0]

    def get_indexes(self, dataset: Any) -> int:
        """Another sample, with an object if one is found."""
        for _ in range(self.max_iters):
            index = int(np.random.randint(len(dataset)))
            objects = dataset.get_data_info(index).get("objects")
            if objects is None or len(objects.boxes):
                break
        return index

    def transform(self, results: Results) -> Results:
        other = dict(_others(self, results, 1)[0])
        if results.get("seg_fields"):
            raise ConfigError(f"MixUp: {where(results)} has a label map, which cannot be mixed")
        if not len(other["gt_bboxes"]):
            return results
        factor = np.random.uniform(*self.ratio_range)
        scale = tuple(max(int(side * factor), 1) for side in self.img_scale)
        _fit(other, (scale[0], scale[1]))
        Pad(size=scale, pad_val=self.pad_val).transform(other)
        if np.random.random_sample() < self.flip_ratio:
            flip(other, "horizontal")
        height, width = results["img"].shape[:2]
        Pad(size=(width, height), pad_val=self.pad_val).transform(other)
        top = np.random.randint(other["img"].shape[0] - height + 1)
        left = np.random.randint(other["img"].shape[1] - width + 1)
        crop(other, (slice(top, top + height), slice(left, left + width)))
        results["img"] = cv2.addWeighted(results["img"], 0.5, other["img"], 0.5, 0)
        _join_objects(results, [dict(results), other])
        return results


def _others(owner: BaseTransform, results: Results, number: int) -> list[Results]:
    others = results.get("mix_results")
    if others is None or len(others) != number:
        raise ConfigError(f"{type(owner).__name__} {NO_OTHERS}")
    return others


def _fit(part: Results, scale: tuple[int, int]) -> None:
    """Resize to the largest size within `scale` (w, h), keeping the aspect ratio."""
    height, width = part["img"].shape[:2]
    factor = min(scale[0] / width, scale[1] / height)
    resize(part, (int(width * factor), int(height * factor)), False, None, "bilinear")


def _paste(canvas: np.ndarray, key: str, parts: Sequence[tuple[Results, tuple[int, int]]]) -> np.ndarray:
    for part, (left, top) in parts:
        piece = part[key]
        canvas[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
    return canvas


def _join_objects(results: Results, parts: Sequence[Results]) -> None:
    """The objects of all `parts` in one; their masks lie where `parts` have them."""
    for key in PER_OBJECT:
        if key in results:
            results[key] = np.concatenate([part[key] for part in parts])
