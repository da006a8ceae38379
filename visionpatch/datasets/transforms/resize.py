"""Resizing. Sizes in arguments are (width, height) as in mmcv; shapes in results are (H, W)."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from visionpatch.errors import BadSampleError, ConfigError, nearest
from visionpatch.registry import TRANSFORMS

from .base import BaseTransform, Results, pair, span, where
from .decode import MAX_PIXELS
from .instances import scale_objects

INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


@TRANSFORMS.register_module()
class Resize(BaseTransform):
    """Resize the image, its boxes, and its label map and masks with nearest neighbour.

    Args:
        scale: (width, height); with `keep_ratio` the largest size that fits, whichever side is longer. 0 leaves it to
            whoever sets the attribute before each use, as mmcv's RandomChoiceResize does.
        scale_factor: a factor, or (w, h) factors, instead of `scale`.
        keep_ratio: keep the aspect ratio.
        size_divisor: afterwards resize again so that both sides are the next multiple of this.
        interpolation: of the image: nearest, bilinear, bicubic, area or lanczos.
    """

    def __init__(
        self,
        scale: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        keep_ratio: bool = False,
        size_divisor: int | None = None,
        interpolation: str = "bilinear",
    ) -> None:
        if (scale is None) == (scale_factor is None):
            raise ConfigError(f"Resize takes scale or scale_factor, one of them; got {scale!r} and {scale_factor!r}")
        self.scale = (0, 0) if scale == 0 else None if scale is None else pair("Resize: scale", scale)
        factors = (scale_factor, scale_factor) if isinstance(scale_factor, int | float) else scale_factor
        for factor in factors or ():
            span("Resize: scale_factor", (factor, factor))
        self.scale_factor = factors
        self.keep_ratio = keep_ratio
        self.size_divisor = check_divisor("Resize", size_divisor)
        self.interpolation = check_interpolation("Resize", interpolation)

    def transform(self, results: Results) -> Results:
        if self.scale is not None:
            scale = self.scale
        else:
            assert self.scale_factor is not None
            h, w = results["img"].shape[:2]
            scale = (int(w * self.scale_factor[0] + 0.5), int(h * self.scale_factor[1] + 0.5))
        return resize(results, scale, self.keep_ratio, self.size_divisor, self.interpolation)


@TRANSFORMS.register_module()
class RandomResize(BaseTransform):
    """Resize to a random scale.

    Args:
        scale: (width, height), multiplied by a random ratio; or two such pairs, between which each side is drawn.
        ratio_range: (low, high) of the ratio, with one pair.
        keep_ratio, size_divisor, interpolation: as Resize.
        resize_type: "Resize", which published configs name; there is no other.
    """

    def __init__(
        self,
        scale: int | Sequence[int] | Sequence[Sequence[int]],
        ratio_range: tuple[float, float] | None = None,
        keep_ratio: bool = False,
        size_divisor: int | None = None,
        interpolation: str = "bilinear",
        resize_type: str = "Resize",
    ) -> None:
        _check_resize_type("RandomResize", resize_type)
        two = not isinstance(scale, int) and len(scale) == 2 and not isinstance(scale[0], int)
        if two == (ratio_range is not None):
            raise ConfigError("RandomResize takes one scale (w, h) with a ratio_range, or two scales without one")
        scales: Sequence[Any] = scale if two else [scale]  # type: ignore[assignment]
        self.scale = [pair("RandomResize: scale", s) for s in scales]
        self.ratio_range = None if ratio_range is None else span("RandomResize: ratio_range", ratio_range)
        self.keep_ratio = keep_ratio
        self.size_divisor = check_divisor("RandomResize", size_divisor)
        self.interpolation = check_interpolation("RandomResize", interpolation)

    def transform(self, results: Results) -> Results:
        return resize(results, self._draw(), self.keep_ratio, self.size_divisor, self.interpolation)

    def _draw(self) -> tuple[int, int]:
        if self.ratio_range is not None:
            low, high = self.ratio_range
            ratio = np.random.random_sample() * (high - low) + low
            return max(int(self.scale[0][0] * ratio), 1), max(int(self.scale[0][1] * ratio), 1)
        longs, shorts = zip(*((max(s), min(s)) for s in self.scale), strict=True)
        long_edge = np.random.randint(min(longs), max(longs) + 1)
        short_edge = np.random.randint(min(shorts), max(shorts) + 1)
        return long_edge, short_edge


@TRANSFORMS.register_module()
class RandomChoiceResize(BaseTransform):
    """Resize to one of several scales, each as likely as the others: multi-scale training.

    Args:
        scales: (width, height) pairs.
        keep_ratio, size_divisor, interpolation: as Resize.
        resize_type: as RandomResize.
    """

    def __init__(
        self,
        scales: Sequence[Sequence[int]],
        keep_ratio: bool = False,
        size_divisor: int | None = None,
        interpolation: str = "bilinear",
        resize_type: str = "Resize",
    ) -> None:
        _check_resize_type("RandomChoiceResize", resize_type)
        if isinstance(scales, int) or not len(scales):
            raise ConfigError(f"RandomChoiceResize: scales is a list of (width, height), not {scales!r}")
        self.scales = [pair("RandomChoiceResize: scales", scale) for scale in scales]
        self.keep_ratio = keep_ratio
        self.size_divisor = check_divisor("RandomChoiceResize", size_divisor)
        self.interpolation = check_interpolation("RandomChoiceResize", interpolation)

    def transform(self, results: Results) -> Results:
        chosen = self.scales[np.random.randint(len(self.scales))]
        return resize(results, chosen, self.keep_ratio, self.size_divisor, self.interpolation)


@TRANSFORMS.register_module()
class ResizeEdge(BaseTransform):
    """Resize so that one edge has the length `scale`, keeping the aspect ratio; the other edge is rounded down.

    Args:
        scale: length in pixels.
        edge: "short", "long", "width" or "height".
        interpolation: as Resize.
    """

    def __init__(self, scale: int, edge: str = "short", interpolation: str = "bilinear") -> None:
        self.scale = pair("ResizeEdge: scale", scale)[0]
        edges = ("short", "long", "width", "height")
        if edge not in edges:
            raise ConfigError(f"ResizeEdge: unknown edge {edge!r}{nearest(str(edge), edges)}")
        self.edge = edge
        self.interpolation = check_interpolation("ResizeEdge", interpolation)

    def transform(self, results: Results) -> Results:
        h, w = results["img"].shape[:2]
        by_width = {"short": w < h, "long": w > h, "width": True, "height": False}[self.edge]
        size = (self.scale, int(self.scale * h / w)) if by_width else (int(self.scale * w / h), self.scale)
        return resize(results, size, False, None, self.interpolation)


def resize(
    results: Results, scale: tuple[int, int], keep_ratio: bool, size_divisor: int | None, interpolation: str
) -> Results:
    """Resize everything in `results` to fit `scale` (w, h); a side never gets shorter than one pixel."""
    h, w = results["img"].shape[:2]
    size = fit_size((w, h), scale) if keep_ratio else (max(scale[0], 1), max(scale[1], 1))
    steps = [size]
    if size_divisor is not None:
        steps.append((size[0] + -size[0] % size_divisor, size[1] + -size[1] % size_divisor))
    for step in steps:
        if step[0] * step[1] > MAX_PIXELS:  # a narrow picture whose short edge is set
            raise BadSampleError(
                f"{where(results)}: {w}x{h} pixels would become {step[0]}x{step[1]}, more than {MAX_PIXELS}; leave the "
                "picture out, or resize by its long edge"
            )
        results["img"] = resize_array(results["img"], step, INTERPOLATIONS[interpolation])
        for key in results.get("seg_fields", ()):
            results[key] = resize_array(results[key], step, cv2.INTER_NEAREST)
    scale_objects(results, (w, h), steps[-1])
    factor = results.get("scale_factor", (1.0, 1.0))
    results["scale_factor"] = (factor[0] * steps[-1][0] / w, factor[1] * steps[-1][1] / h)
    results["scale"] = scale
    results["img_shape"] = results["img"].shape[:2]
    results["keep_ratio"] = keep_ratio
    return results


def fit_size(size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """The largest (w, h) with the aspect ratio of `size` that fits `scale` turned either way, rounded half up.

    >>> fit_size((500, 375), (2048, 512))
    (683, 512)
    """
    w, h = size
    factor = min(max(scale) / max(h, w), min(scale) / min(h, w))
    return max(int(w * factor + 0.5), 1), max(int(h * factor + 0.5), 1)


def resize_array(array: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """`array` (H, W) or (H, W, 3) at `size` (w, h); the array itself when it has that size."""
    return array if (array.shape[1], array.shape[0]) == size else cv2.resize(array, size, interpolation=interpolation)


def check_interpolation(owner: str, name: str) -> str:
    if name not in INTERPOLATIONS:
        raise ConfigError(f'{owner}: unknown interpolation "{name}"{nearest(str(name), INTERPOLATIONS)}')
    return name


def _check_resize_type(owner: str, name: str) -> None:
    if name != "Resize":
        raise ConfigError(f'{owner}: resize_type = {name!r}; this one resizes as "Resize" does, with its arguments')


def check_divisor(owner: str, value: int | None) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise ConfigError(f"{owner}: size_divisor is a positive integer or None, not {value!r}")
    return value
