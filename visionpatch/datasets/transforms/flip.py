"""Flipping and padding."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import TRANSFORMS

from .base import IGNORED, BaseTransform, Results, pair
from .instances import flip_objects, pad_objects
from .resize import check_divisor

PADDED = {"img": 0, "seg": IGNORED, "masks": 0}  # with what
FLIP_CODES = {"horizontal": 1, "vertical": 0, "diagonal": -1}


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Flip with a given probability.

    Args:
        prob: probability of a flip, shared equally by the directions; or one probability for each direction.
        direction: "horizontal", "vertical", "diagonal" (both), or a list of them, of which at most one is applied.
    """

    def __init__(self, prob: float | Sequence[float] = 0.5, direction: str | Sequence[str] = "horizontal") -> None:
        self.direction = [direction] if isinstance(direction, str) else list(direction)
        for name in self.direction:
            if name not in FLIP_CODES:
                raise ConfigError(f"RandomFlip: unknown direction {name!r}{nearest(str(name), FLIP_CODES)}")
        n = len(self.direction)
        self.prob = [prob / n] * n if isinstance(prob, int | float) else list(prob)
        numbers = len(self.prob) == n and all(isinstance(p, int | float) and p >= 0 for p in self.prob)
        if not numbers or sum(self.prob) > 1 + 1e-9:
            raise ConfigError(f"RandomFlip: prob is in [0, 1], or one for each direction with a sum <= 1, not {prob!r}")
        self._edges = np.cumsum(self.prob)

    def transform(self, results: Results) -> Results:
        chosen = int(self._edges.searchsorted(np.random.random_sample(), side="right"))
        results["flip"] = chosen < len(self.direction)
        results["flip_direction"] = self.direction[chosen] if results["flip"] else None
        if results["flip"]:
            flip(results, results["flip_direction"])
        return results


@TRANSFORMS.register_module()
class Pad(BaseTransform):
    """Pad at the right and the bottom: the image and masks with 0, label maps with 255.

    ``img_shape`` stays the shape before padding, ``pad_shape`` is the one after it.

    Args:
        size: (width, height) to reach; a longer side stays.
        size_divisor: instead of `size`, the next multiple of this.
        pad_to_square: instead of `size`, the longer side; with `size_divisor` its next multiple.
        pad_val: value for the image, or dict(img=..., seg=..., masks=0); for the image one value or three, BGR.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        size_divisor: int | None = None,
        pad_val: float | Sequence[float] | Mapping[str, Any] = 0,
        pad_to_square: bool = False,
    ) -> None:
        if (size is None) == (size_divisor is None and not pad_to_square):
            raise ConfigError(
                f"Pad takes size or size_divisor, one of them, or pad_to_square; got {size!r}, {size_divisor!r} and "
                f"{pad_to_square!r}"
            )
        self.pad_to_square = pad_to_square
        self.size = None if size is None else pair("Pad: size", size)
        self.size_divisor = check_divisor("Pad", size_divisor)
        values = dict(pad_val) if isinstance(pad_val, Mapping) else dict(img=pad_val)
        for name in values:
            if name not in PADDED:
                raise ConfigError(f"Pad: pad_val has no key {name!r}{nearest(str(name), PADDED)}")
        self.pad_val = {**PADDED, **values}
        colour = self.pad_val["img"]
        self._colour = (colour,) * 3 if isinstance(colour, int | float) else tuple(colour)
        if len(self._colour) != 3 or not all(isinstance(value, int | float) for value in self._colour):
            raise ConfigError(f"Pad: pad_val of the image is one number or three, not {colour!r}")

    def transform(self, results: Results) -> Results:
        h, w = results["img"].shape[:2]
        width, height = (max(h, w),) * 2 if self.pad_to_square else self.size or (w, h)
        right, bottom = max(width - w, 0), max(height - h, 0)
        if self.size_divisor is not None:
            right, bottom = right + -(w + right) % self.size_divisor, bottom + -(h + bottom) % self.size_divisor
        if right or bottom:
            results["img"] = _pad(results["img"], bottom, right, self._colour)
            for key in results.get("seg_fields", ()):
                results[key] = _pad(results[key], bottom, right, (self.pad_val["seg"],))
            pad_objects(results, 0, 0, right, bottom, self.pad_val["masks"])
        results["pad_shape"] = (h + bottom, w + right)
        return results


def flip(results: Results, direction: str) -> None:
    """Mirror everything in `results`."""
    for key in ("img", *results.get("seg_fields", ())):
        results[key] = cv2.flip(results[key], FLIP_CODES[direction])
    height, width = results["img"].shape[:2]
    flip_objects(results, direction != "vertical", direction != "horizontal", (width, height))


def _pad(array: np.ndarray, bottom: int, right: int, value: Sequence[float]) -> np.ndarray:
    return cv2.copyMakeBorder(array, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=value)
