"""Erasing a rectangle."""

from collections.abc import Sequence

import numpy as np

from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import TRANSFORMS

from .base import BaseTransform, Results, colour, need_8_bits, probability, span

MODES = ("const", "rand")
TRIES = 10  # of a rectangle that fits


@TRANSFORMS.register_module()
class RandomErasing(BaseTransform):
    """Replace a random rectangle (arXiv 1708.04896); timm's rules. Label maps and boxes stay as they are.

    Of ten rectangles of random area and aspect the first that is smaller than the picture on both sides is taken.

    Args:
        erase_prob: probability of erasing.
        min_area_ratio, max_area_ratio: share of the picture's area, between which it is drawn.
        aspect_range: (low, high) of height / width, drawn log-uniformly; one number stands for (1 / number, number).
        mode: "const" fills with `fill_color`, "rand" with a normal random number for each value.
        fill_color, fill_std: BGR, on the scale 0..255. timm erases normalised pictures, with zeros or standard normal
            numbers: those are ImageNet's mean and standard deviation here, clipped to 0..255.

    Raises:
        ConfigError: an argument out of range; a picture of other than 8 bits.
    """

    def __init__(
        self,
        erase_prob: float = 0.25,
        min_area_ratio: float = 0.02,
        max_area_ratio: float = 1 / 3,
        aspect_range: float | Sequence[float] = (0.3, 1 / 0.3),
        mode: str = "rand",
        fill_color: Sequence[float] = (103.53, 116.28, 123.675),
        fill_std: Sequence[float] = (57.375, 57.12, 58.395),
    ) -> None:
        self.erase_prob = probability("RandomErasing: erase_prob", erase_prob)
        self.area_range = span("RandomErasing: (min_area_ratio, max_area_ratio)", (min_area_ratio, max_area_ratio))
        aspects = sorted((1 / aspect_range, aspect_range)) if isinstance(aspect_range, int | float) else aspect_range
        self.aspect_range = span("RandomErasing: aspect_range", aspects)
        if mode not in MODES:
            raise ConfigError(f"RandomErasing: unknown mode {mode!r}{nearest(str(mode), MODES)}")
        self.mode = mode
        self.fill_color = colour("RandomErasing: fill_color", fill_color)
        self.fill_std = colour("RandomErasing: fill_std", fill_std)

    def transform(self, results: Results) -> Results:
        need_8_bits("RandomErasing", results)
        if np.random.random_sample() >= self.erase_prob:
            return results
        height, width = results["img"].shape[:2]
        low, high = np.log(self.aspect_range)
        for _ in range(TRIES):
            area = np.random.uniform(*self.area_range) * height * width
            aspect = np.exp(np.random.uniform(low, high))
            h, w = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
            if 0 < h < height and 0 < w < width:
                top, left = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
                results["img"] = results["img"].copy()
                results["img"][top : top + h, left : left + w] = self._filling(h, w)
                break
        return results

    def _filling(self, height: int, width: int) -> np.ndarray:
        """(h, w, 3) uint8."""
        shape = (height, width, 3)
        values = np.broadcast_to(np.array(self.fill_color), shape)
        if self.mode == "rand":
            values = values + np.array(self.fill_std) * np.random.standard_normal(shape)
        return np.clip(values + 0.5, 0, 255).astype(np.uint8)
