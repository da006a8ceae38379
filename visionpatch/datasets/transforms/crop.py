"""Cropping. Crop sizes are (height, width)."""

import math
from collections.abc import Sequence

import numpy as np

from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import TRANSFORMS

from .base import IGNORED, BaseTransform, Results, pair, span
from .instances import crop_objects, scale_objects
from .loading import value_counts
from .resize import INTERPOLATIONS, check_interpolation, resize_array

Window = tuple[slice, slice]  # rows, columns
Size = tuple[int, int]  # height, width
CROP_TYPES = ("absolute", "absolute_range", "relative", "relative_range")
TRIES = 10  # of a crop that is not dominated by one class, shows an object, or has the wanted area


@TRANSFORMS.register_module()
class RandomCrop(BaseTransform):
    """Cut a random window; sides shorter than the window stay as they are (Pad fills them).

    Args:
        crop_size: as `crop_type` says; one number stands for both.
        crop_type: "absolute": (height, width) in pixels. "absolute_range": (low, high) in pixels, between which height
            and width are drawn, neither longer than the picture. "relative": (height, width) as shares of the picture,
            up to 1. "relative_range": the smallest shares of (height, width); they are drawn from there to 1.
        cat_max_ratio: a window whose most frequent class covers this share or more of its labelled pixels, or that
            holds a single class, is drawn again, ten times at most. 1 takes the first window.
        ignore_index: label of pixels that do not count.
        allow_negative_crop: where boxes are loaded, take windows without any object; otherwise the window is drawn
            again, and the eleventh lies over an object drawn at random. Boxes are clipped to the window.
        recompute_bbox: put the boxes around what is left of the masks.
    """

    def __init__(
        self,
        crop_size: float | Sequence[float],
        cat_max_ratio: float = 1.0,
        ignore_index: int = IGNORED,
        allow_negative_crop: bool = False,
        recompute_bbox: bool = False,
        crop_type: str = "absolute",
    ) -> None:
        if crop_type not in CROP_TYPES:
            raise ConfigError(f"RandomCrop: unknown crop_type {crop_type!r}{nearest(str(crop_type), CROP_TYPES)}")
        self.crop_size = _crop_size(crop_type, crop_size)
        self.crop_type = crop_type
        if not 0 < cat_max_ratio <= 1:
            raise ConfigError(f"RandomCrop: cat_max_ratio is in (0, 1], not {cat_max_ratio}")
        self.cat_max_ratio = cat_max_ratio
        self.ignore_index = ignore_index
        self.allow_negative_crop = allow_negative_crop
        self.recompute_bbox = recompute_bbox

    def transform(self, results: Results) -> Results:
        height, width = results["img"].shape[:2]
        size = self._size(height, width)
        window = _draw(size, height, width)
        labels = results.get("gt_seg_map")
        if self.cat_max_ratio < 1 and labels is not None:
            for _ in range(TRIES):
                if self._is_mixed(labels[window]):
                    break
                window = _draw(size, height, width)
        if "gt_bboxes" in results and not self.allow_negative_crop:
            window = _over_object(results["gt_bboxes"][~results["gt_ignore_flags"]], window, size, height, width)
        return crop(results, window, self.recompute_bbox)

    def _size(self, height: int, width: int) -> Size:
        """(height, width) of the window in a picture."""
        if self.crop_type == "absolute":
            return int(self.crop_size[0]), int(self.crop_size[1])
        if self.crop_type == "absolute_range":
            low, high = (int(side) for side in self.crop_size)
            drawn = [np.random.randint(min(low, side), min(high, side) + 1) for side in (height, width)]
            return int(drawn[0]), int(drawn[1])
        shares = np.array(self.crop_size)
        if self.crop_type == "relative_range":
            shares = shares + np.random.random_sample(2) * (1 - shares)
        return max(int(height * shares[0] + 0.5), 1), max(int(width * shares[1] + 0.5), 1)

    def _is_mixed(self, labels: np.ndarray) -> bool:
        counts = value_counts(labels)
        counts[self.ignore_index] = 0
        top = counts.max()
        return bool(0 < top < self.cat_max_ratio * counts.sum(dtype=np.float64) and np.count_nonzero(counts) > 1)


@TRANSFORMS.register_module()
class CenterCrop(BaseTransform):
    """Cut the window in the middle; sides shorter than the window stay as they are.

    Args:
        crop_size: (height, width), or one number for both.
    """

    def __init__(self, crop_size: int | Sequence[int]) -> None:
        self.crop_size = pair("CenterCrop: crop_size", crop_size)

    def transform(self, results: Results) -> Results:
        window = []
        for length, wanted in zip(results["img"].shape[:2], self.crop_size, strict=True):
            start = max(0, round((length - wanted) / 2))
            window.append(slice(start, min(start + wanted, length)))
        return crop(results, (window[0], window[1]))


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Cut a window of random area and aspect ratio and resize it; the training crop of Inception (arXiv 1409.4842).

    After ten draws that do not fit the image, the largest central window within the aspect range is taken.

    Args:
        scale: (height, width) of the result, or one number for both.
        crop_ratio_range: share of the image area.
        aspect_ratio_range: width / height, drawn log-uniformly.
        interpolation: as Resize.
    """

    def __init__(
        self,
        scale: int | Sequence[int],
        crop_ratio_range: tuple[float, float] = (0.08, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
    ) -> None:
        self.scale = pair("RandomResizedCrop: scale", scale)
        self.crop_ratio_range = span("RandomResizedCrop: crop_ratio_range", crop_ratio_range)
        self.aspect_ratio_range = span("RandomResizedCrop: aspect_ratio_range", aspect_ratio_range)
        self.interpolation = check_interpolation("RandomResizedCrop", interpolation)

    def transform(self, results: Results) -> Results:
        results = crop(results, self._draw(*results["img"].shape[:2]))
        size = (self.scale[1], self.scale[0])
        height, width = results["img_shape"]
        results["img"] = resize_array(results["img"], size, INTERPOLATIONS[self.interpolation])
        for key in results.get("seg_fields", ()):
            results[key] = resize_array(results[key], size, INTERPOLATIONS["nearest"])
        scale_objects(results, (width, height), size)
        results["img_shape"] = self.scale
        return results

    def _draw(self, height: int, width: int) -> Window:
        low, high = self.aspect_ratio_range
        for _ in range(TRIES):
            area = height * width * np.random.uniform(*self.crop_ratio_range)
            aspect = math.exp(np.random.uniform(math.log(low), math.log(high)))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top, left = np.random.randint(0, height - h + 1), np.random.randint(0, width - w + 1)
                return slice(top, top + h), slice(left, left + w)
        w = max(min(width, round(height * high)), 1)
        h = max(min(height, round(width / low)), 1)
        top, left = (height - h) // 2, (width - w) // 2
        return slice(top, top + h), slice(left, left + w)


def _crop_size(crop_type: str, given: float | Sequence[float]) -> tuple[float, float]:
    """`given` as two numbers that fit the crop type."""
    if crop_type == "absolute":
        return pair("RandomCrop: crop_size", given)  # type: ignore[arg-type]
    both = (given, given) if isinstance(given, int | float) else tuple(given)
    if crop_type == "absolute_range":
        low, high = pair("RandomCrop: crop_size", both)  # type: ignore[arg-type]
        return span("RandomCrop: crop_size", (low, high))
    for share in both:
        span("RandomCrop: crop_size, as shares", (share, 1.0))
    if len(both) != 2:
        raise ConfigError(f"RandomCrop: crop_size is two shares of (height, width), not {given!r}")
    return both[0], both[1]


def _draw(size: Size, height: int, width: int) -> Window:
    top = np.random.randint(0, max(height - size[0], 0) + 1)
    left = np.random.randint(0, max(width - size[1], 0) + 1)
    return slice(top, min(top + size[0], height)), slice(left, min(left + size[1], width))


def _over_object(boxes: np.ndarray, window: Window, size: Size, height: int, width: int) -> Window:
    """`window` if one of the boxes reaches into it, or another one that shows an object; any if there is none."""
    if not len(boxes):
        return window
    for _ in range(TRIES):
        (top, bottom), (left, right) = ((side.start, side.stop) for side in window)
        x1, y1, x2, y2 = boxes.T
        if ((x1 < right) & (x2 > left) & (y1 < bottom) & (y2 > top)).any():
            return window
        window = _draw(size, height, width)
    x1, y1, x2, y2 = boxes[np.random.randint(len(boxes))]
    sides = []
    for middle, long, length in zip(((y1 + y2) / 2, (x1 + x2) / 2), size, (height, width)):
        pixel = min(int(middle), length - 1)
        start = np.random.randint(max(pixel - long + 1, 0), min(pixel, max(length - long, 0)) + 1)
        sides.append(slice(start, min(start + long, length)))
    return sides[0], sides[1]


def crop(results: Results, window: Window, recompute_bbox: bool = False) -> Results:
    """Cut `window` (rows, columns) out of the image, its label maps and masks, as views; boxes are clipped to it."""
    results["img"] = results["img"][window]
    for key in results.get("seg_fields", ()):
        results[key] = results[key][window]
    crop_objects(results, window, recompute_bbox)
    results["img_shape"] = results["img"].shape[:2]
    results.pop("pad_shape", None)
    return results
