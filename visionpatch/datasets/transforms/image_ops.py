"""The operations of RandAugment and ColorJitter, as functions of one picture: (H, W, 3) uint8 BGR in, a new one out.

They are defined as Pillow's ImageEnhance, ImageOps and Image.transform are, and equal those to a level or two: where
Pillow and OpenCV round differently.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

LEVELS = np.arange(256, dtype=np.float32)
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # Pillow's ImageFilter.SMOOTH


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """0 gives black, 1 the picture itself; so it goes on above 1."""
    return _look_up(image, LEVELS * np.float32(factor))


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """0 gives the mean grey of the picture, 1 the picture itself."""
    grey = np.float32(int(cv2.mean(_grey(image))[0] + 0.5))
    return _look_up(image, grey + np.float32(factor) * (LEVELS - grey))


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """0 gives the grey picture, 1 the picture itself."""
    return _blend(cv2.cvtColor(_grey(image), cv2.COLOR_GRAY2BGR), image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """0 gives the smoothed picture, 1 the picture itself; the outermost pixels stay as they are."""
    smooth = image.copy()
    smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, SMOOTH)[1:-1, 1:-1]
    return _blend(smooth, image, factor)


def hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turn the hue by a share of the full circle, -0.5 to 0.5."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL)  # hue 0..255
    hsv[..., 0] += np.uint8(round(turn * 256) % 256)  # uint8 goes round
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL)


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Stretch each channel so that its darkest level becomes 0 and its brightest 255."""
    return _each_channel(image, _stretching_table)


def equalize(image: np.ndarray) -> np.ndarray:
    """Make the levels of each channel about equally frequent."""
    return _each_channel(image, _equalizing_table)


def invert(image: np.ndarray) -> np.ndarray:
    """The negative."""
    return cv2.bitwise_not(image)


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keep the highest `bits` bits of each level, 0 to 8."""
    return _look_up(image, np.arange(256) & ~(2 ** (8 - bits) - 1))


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Invert the levels from `threshold` on."""
    levels = np.arange(256)
    return _look_up(image, np.where(levels < threshold, levels, 255 - levels))


def solarize_add(image: np.ndarray, amount: int) -> np.ndarray:
    """Add `amount` to the levels below 128."""
    return _look_up(image, np.where(LEVELS < 128, LEVELS + amount, LEVELS))


def shear_x(image: np.ndarray, factor: float, fill: Sequence[float], interpolation: int) -> np.ndarray:
    """Row y moves left by factor * y pixels, counted from the upper edge."""
    return _warp(image, [[1, factor, factor / 2], [0, 1, 0]], fill, interpolation)


def shear_y(image: np.ndarray, factor: float, fill: Sequence[float], interpolation: int) -> np.ndarray:
    """Column x moves up by factor * x pixels, counted from the left edge."""
    return _warp(image, [[1, 0, 0], [factor, 1, factor / 2]], fill, interpolation)


def translate_x(image: np.ndarray, share: float, fill: Sequence[float], interpolation: int) -> np.ndarray:
    """Move left by a share of the width."""
    return _warp(image, [[1, 0, share * image.shape[1]], [0, 1, 0]], fill, interpolation)


def translate_y(image: np.ndarray, share: float, fill: Sequence[float], interpolation: int) -> np.ndarray:
    """Move up by a share of the height."""
    return _warp(image, [[1, 0, 0], [0, 1, share * image.shape[0]]], fill, interpolation)


def rotate(image: np.ndarray, degrees: float, fill: Sequence[float], interpolation: int) -> np.ndarray:
    """Turn around the centre, counter-clockwise."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    return _warp(image, matrix, fill, interpolation)


def _warp(image: np.ndarray, matrix: Sequence | np.ndarray, fill: Sequence[float], interpolation: int) -> np.ndarray:
    """`matrix` (2, 3) leads from a pixel (x, y) of the result to its place in the picture; `fill` (BGR) lies around."""
    size = (image.shape[1], image.shape[0])
    flags = interpolation | cv2.WARP_INVERSE_MAP
    matrix = np.asarray(matrix, np.float64)
    return cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)


def _look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8))


def _blend(degenerate: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    """`degenerate` for 0, `image` for 1, and so on beyond, clipped."""
    return cv2.addWeighted(image, factor, degenerate, 1 - factor, 0)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def _each_channel(image: np.ndarray, table_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    counts = [cv2.calcHist([image], [c], None, [256], [0, 256]).ravel().astype(np.int64) for c in range(3)]
    tables = np.stack([table_of(count) for count in counts], axis=1)  # (256, 3)
    return cv2.LUT(image, np.clip(tables, 0, 255).astype(np.uint8)[None])


def _stretching_table(counts: np.ndarray) -> np.ndarray:
    """(256,) new levels for the `counts` of the old ones."""
    (present,) = counts.nonzero()
    low, high = int(present[0]), int(present[-1])
    if high == low:
        return LEVELS
    scale = 255.0 / (high - low)
    return (np.arange(256) * scale - low * scale).astype(np.int64)


def _equalizing_table(counts: np.ndarray) -> np.ndarray:
    """(256,) new levels: the share of the pixels below the old one, half a step more. One or two levels may stay."""
    (present,) = counts.nonzero()
    step = (counts.sum() - counts[present[-1]]) // 255
    if len(present) <= 1 or step == 0:
        return LEVELS
    below = np.cumsum(counts) - counts
    return (step // 2 + below) // step
