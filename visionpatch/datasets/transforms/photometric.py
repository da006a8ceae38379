"""Colour changes."""

from collections.abc import Sequence

import cv2
import numpy as np

from visionpatch.errors import ConfigError
from visionpatch.registry import TRANSFORMS

from . import image_ops as ops
from .base import BaseTransform, Results, need_8_bits, span

LEVELS = np.arange(256, dtype=np.float32)
IDENTITY = np.arange(256, dtype=np.uint8)


@TRANSFORMS.register_module()
class PhotoMetricDistortion(BaseTransform):
    """Random brightness, contrast, saturation and hue, each applied with probability one half (SSD, arXiv 1512.02325).

    Contrast comes before or after saturation and hue, at random. The image must be uint8: every step is a table of 256
    values, so that a step in BGR or HSV costs one look-up.

    Args:
        brightness_delta: brightness is moved by up to this many levels.
        contrast_range: (low, high) factor.
        saturation_range: (low, high) factor.
        hue_delta: hue is turned by up to this many steps of two degrees.
    """

    def __init__(
        self,
        brightness_delta: int = 32,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: int = 18,
    ) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = span("PhotoMetricDistortion: contrast_range", contrast_range, positive=False)
        self.saturation_range = span("PhotoMetricDistortion: saturation_range", saturation_range, positive=False)
        self.hue_delta = hue_delta

    def transform(self, results: Results) -> Results:
        image = need_8_bits("PhotoMetricDistortion", results)
        before = after = IDENTITY
        if np.random.randint(2):
            before = _linear(before, 1.0, np.random.uniform(-self.brightness_delta, self.brightness_delta))
        contrast_first = np.random.randint(2)
        if contrast_first and np.random.randint(2):
            before = _linear(before, np.random.uniform(*self.contrast_range), 0.0)
        saturation = np.random.uniform(*self.saturation_range) if np.random.randint(2) else None
        turn = np.random.randint(-self.hue_delta, self.hue_delta) if np.random.randint(2) and self.hue_delta else None
        if not contrast_first and np.random.randint(2):
            after = _linear(after, np.random.uniform(*self.contrast_range), 0.0)
        results["img"] = _apply(image, before, saturation, turn, after)
        return results


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """Random brightness, contrast, saturation and hue, all four in random order.

    Args:
        brightness, contrast, saturation: the factor is drawn from [max(0, 1 - value), 1 + value], or from the range
            (low, high) given.
        hue: the hue is turned by a share of the full circle drawn from [-hue, hue], 0 to 0.5, or from (low, high).

    Raises:
        ConfigError: an argument out of range; a picture of other than 8 bits.
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0.0,
        contrast: float | Sequence[float] = 0.0,
        saturation: float | Sequence[float] = 0.0,
        hue: float | Sequence[float] = 0.0,
    ) -> None:
        self.brightness = _factors("brightness", brightness)
        self.contrast = _factors("contrast", contrast)
        self.saturation = _factors("saturation", saturation)
        low, high = (-hue, hue) if isinstance(hue, int | float) else (hue[0], hue[-1])
        if not -0.5 <= low <= high <= 0.5:
            raise ConfigError(f"ColorJitter: hue is in [0, 0.5], or (low, high) in [-0.5, 0.5], not {hue!r}")
        self.hue = low, high

    def transform(self, results: Results) -> Results:
        need_8_bits("ColorJitter", results)
        steps = (
            (ops.brightness, self.brightness, 1.0),
            (ops.contrast, self.contrast, 1.0),
            (ops.saturation, self.saturation, 1.0),
            (ops.hue, self.hue, 0.0),
        )
        for number in np.random.permutation(len(steps)):
            operation, (low, high), neutral = steps[number]
            if low < high or low != neutral:
                results["img"] = operation(results["img"], np.random.uniform(low, high))
        return results


def _linear(table: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """`table` followed by factor * level + offset, clipped to 0..255 and cut to an integer."""
    return np.clip(LEVELS[table] * np.float32(factor) + np.float32(offset), 0, 255).astype(np.uint8)


def _apply(
    image: np.ndarray, before: np.ndarray, saturation: float | None, turn: int | None, after: np.ndarray
) -> np.ndarray:
    if saturation is None and turn is None:
        table = after[before]
        return image if (table == IDENTITY).all() else cv2.LUT(image, table)
    if before is not IDENTITY:
        image = cv2.LUT(image, before)
    hsv = np.stack([IDENTITY] * 3, axis=1)  # (256, 3) tables of hue 0..179, saturation, value
    if turn is not None:
        hsv[:, 0] = (np.arange(256) + turn) % 180
    if saturation is not None:
        hsv[:, 1] = _linear(IDENTITY, saturation, 0.0)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    image = cv2.cvtColor(cv2.LUT(image, hsv[None]), cv2.COLOR_HSV2BGR)
    return image if after is IDENTITY else cv2.LUT(image, after)


def _factors(name: str, value: float | Sequence[float]) -> tuple[float, float]:
    if isinstance(value, int | float):
        value = (max(0.0, 1 - value), 1 + value) if value >= 0 else (value, value)
    return span(f"ColorJitter: {name}, a number >= 0 or a range,", value, positive=False)
