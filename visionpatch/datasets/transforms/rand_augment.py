"""RandAugment: a few random operations of one strength."""

from collections.abc import Callable, Sequence

import numpy as np

from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import TRANSFORMS

from . import image_ops as ops
from .base import BaseTransform, Results, colour, need_8_bits, probability, where
from .resize import INTERPOLATIONS, check_interpolation

MEAN_COLOUR = (104, 116, 124)  # BGR, ImageNet's mean, 255 * (0.485, 0.456, 0.406) rounded

# name -> (operation, its amount for a strength from 0 to 1, whether the amount gets a random sign)
Amount = Callable[[float], float]
OPERATIONS: dict[str, tuple[Callable, Amount | None, bool]] = {
    "AutoContrast": (ops.auto_contrast, None, False),
    "Equalize": (ops.equalize, None, False),
    "Invert": (ops.invert, None, False),
    "Rotate": (ops.rotate, lambda s: 30 * s, True),  # degrees
    "Posterize": (ops.posterize, lambda s: 4 - int(4 * s), False),  # bits that are kept
    "Solarize": (ops.solarize, lambda s: 256 - int(256 * s), False),  # the level from which on
    "SolarizeAdd": (ops.solarize_add, lambda s: int(110 * s), False),  # levels
    "Color": (ops.saturation, lambda s: 0.9 * s, True),  # these four: distance of the factor from 1
    "Contrast": (ops.contrast, lambda s: 0.9 * s, True),
    "Brightness": (ops.brightness, lambda s: 0.9 * s, True),
    "Sharpness": (ops.sharpness, lambda s: 0.9 * s, True),
    "ShearX": (ops.shear_x, lambda s: 0.3 * s, True),  # pixels a row
    "ShearY": (ops.shear_y, lambda s: 0.3 * s, True),  # pixels a column
    "TranslateX": (ops.translate_x, lambda s: 0.45 * s, True),  # share of the side
    "TranslateY": (ops.translate_y, lambda s: 0.45 * s, True),
}
FACTORS = {"Color", "Contrast", "Brightness", "Sharpness"}
WARPS = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}


@TRANSFORMS.register_module()
class RandAugment(BaseTransform):
    """Operations drawn at random, each applied with probability `prob` (arXiv 1909.13719) in the form of timm's
    ``rand-m9-mstd0.5-inc1``: every operation changes more with a larger magnitude.

    For classification: pictures only, 8 bits. Colours and warps are those of Pillow; where timm draws bilinear or
    bicubic for each warp unless told, this takes the one given.

    Args:
        magnitude_level: strength, 0 to `total_level`.
        magnitude_std: standard deviation of the normal distribution each operation's strength is drawn from; the result
            is clipped to 0 to `total_level`.
        num_policies: how many operations are drawn, with replacement.
        total_level: the greatest strength.
        prob: probability that a drawn operation is applied.
        policies: names of the operations to draw from; "timm_increasing": all fifteen.
        pad_val: BGR colour of what a warp leaves empty.
        interpolation: of the warps: nearest, bilinear, bicubic, area or lanczos.

    Raises:
        ConfigError: an argument out of range or an unknown operation; a sample with a label map or boxes, which would
            not follow the picture; a picture of other than 8 bits.
    """

    def __init__(
        self,
        magnitude_level: float = 9,
        magnitude_std: float = 0.5,
        num_policies: int = 2,
        total_level: float = 10,
        prob: float = 0.5,
        policies: str | Sequence[str] = "timm_increasing",
        pad_val: Sequence[float] = MEAN_COLOUR,
        interpolation: str = "bicubic",
    ) -> None:
        if not 0 <= magnitude_level <= total_level or total_level == 0 or magnitude_std < 0:
            raise ConfigError(
                f"RandAugment: magnitude_level={magnitude_level} is in [0, total_level={total_level}], "
                f"magnitude_std={magnitude_std} is not negative"
            )
        if not isinstance(num_policies, int) or num_policies < 1:
            raise ConfigError(f"RandAugment: num_policies is a positive integer, not {num_policies!r}")
        self.magnitude_level, self.magnitude_std, self.total_level = magnitude_level, magnitude_std, total_level
        self.num_policies, self.prob = num_policies, probability("RandAugment: prob", prob)
        self.policies = _policies(policies)
        self.pad_val = colour("RandAugment: pad_val", pad_val)
        self.interpolation = check_interpolation("RandAugment", interpolation)

    def transform(self, results: Results) -> Results:
        need_8_bits("RandAugment", results)
        if results.get("seg_fields") or "gt_bboxes" in results:
            raise ConfigError(
                f"RandAugment moves the pixels of {where(results)}, and its label map or boxes would stay; it is for "
                "classification, take PhotoMetricDistortion, RandomResize and RandomCrop instead"
            )
        for number in np.random.randint(len(self.policies), size=self.num_policies):
            if np.random.random_sample() < self.prob:
                results["img"] = self._apply(self.policies[number], results["img"])
        return results

    def _apply(self, name: str, image: np.ndarray) -> np.ndarray:
        operation, amount_of, signed = OPERATIONS[name]
        level = np.random.normal(self.magnitude_level, self.magnitude_std)
        if amount_of is None:
            return operation(image)
        amount = amount_of(float(np.clip(level / self.total_level, 0, 1)))
        if signed and np.random.randint(2):
            amount = -amount
        if name in FACTORS:
            return operation(image, max(0.1, 1 + amount))
        if name in WARPS:
            return operation(image, amount, self.pad_val, INTERPOLATIONS[self.interpolation])
        return operation(image, amount)


def _policies(given: str | Sequence[str]) -> list[str]:
    names = list(OPERATIONS) if given == "timm_increasing" else [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in OPERATIONS:
            raise ConfigError(f"RandAugment: unknown policy {name!r}{nearest(str(name), OPERATIONS)}")
    if not names:
        raise ConfigError('RandAugment: policies names at least one operation, or is "timm_increasing"')
    return names
