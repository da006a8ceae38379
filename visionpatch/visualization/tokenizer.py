"""Pictures of what a tokenizer and a generator of codes make: reconstructions, maps of codes, redrawn parts, grids.

H, W sides of a picture; h, w, c sides of a map of codes and codes at a point.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy import ndarray
from torch import Tensor

from visionpatch.errors import ConfigError
from visionpatch.structures import DataSample
from visionpatch.visualization.dependency import enlarged
from visionpatch.visualization.segmentation import PAPER, side_by_side

MIN_SIDE = 192  # pixels, to which small pictures are enlarged by a whole factor
GAP = 8  # pixels between two panels
EDGE = (40, 60, 240)  # BGR, around what was drawn anew
# of the colours of code k: fractional parts of k times these, which spread evenly (powers of 1 / 1.2207, the root of
# x^4 = x + 1), become hue, saturation and brightness
SPREAD = (0.8191725134, 0.6710436067, 0.5497004779)


def draw_reconstruction(sample: DataSample, titles: Sequence[str] = ("picture", "reconstruction")) -> ndarray:
    """`gt_image` and `pred_image` of a sample side by side, with its `pred_codes`, where it has them: a single map
    beside them, several below, one a channel.

    Returns:
        (H', W', 3) uint8, BGR, enlarged by a whole factor where the picture is small.
    """
    images = [enlarged(as_bgr(image), MIN_SIDE)[0] for image in (sample.gt_image, sample.pred_image)]
    panels = list(zip(titles, images))
    if "pred_codes" not in sample:
        return side_by_side(panels)
    codes = sample.pred_codes.cpu().numpy()
    maps = [draw_codes(codes[..., channel]) for channel in range(codes.shape[2])]
    size = images[1].shape[1], images[1].shape[0]
    if len(maps) == 1:
        return side_by_side([*panels, ("codes", _resized(maps[0], size))])
    top = side_by_side(panels)
    share = (top.shape[1] - (len(maps) - 1) * GAP) / len(maps) / size[0]
    small = tuple(max(1, round(side * share)) for side in size)
    below = side_by_side([(f"codes {i + 1}", _resized(one, small)) for i, one in enumerate(maps)])
    width = max(top.shape[1], below.shape[1])
    return np.vstack([_widened(row, width) for row in (top, below)])


def draw_codes(codes: ndarray) -> ndarray:
    """A map (h, w) of integers, from 0 on, to (h, w, 3) uint8, BGR: a colour for each code, the same in every picture.

    Like colours mean nothing, and of thousands of codes some share theirs.
    """
    parts = codes[..., None].astype(np.float64) * np.array(SPREAD) % 1  # (h, w, 3)
    hsv = parts * np.array([180, 150, 155]) + np.array([0, 100, 100])
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)


def draw_inpainting(sample: DataSample) -> ndarray:
    """`gt_image` with a line around what `mask` (H, W), bool, says was drawn anew, and `pred_image`; side by side,
    (H', W', 3) uint8, BGR, enlarged by a whole factor where the picture is small."""
    given, factor = enlarged(as_bgr(sample.gt_image), MIN_SIDE)
    drawn = enlarged(as_bgr(sample.pred_image), MIN_SIDE)[0]
    mask = sample.mask.cpu().numpy().astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(given, contours, -1, EDGE, 2)
    return side_by_side([("picture", given), ("drawn anew inside", drawn)])


def draw_grid(pictures: Sequence[Tensor], columns: int | None = None) -> ndarray:
    """Pictures (3, H, W) of one size, RGB of 0..255, row by row, (H', W', 3) uint8, BGR.

    Args:
        columns: pictures in a row; None: about as many as rows.

    Raises:
        ConfigError: no picture, or pictures of different sizes.
    """
    sizes = {tuple(picture.shape) for picture in pictures}
    if len(sizes) != 1 or (columns is not None and columns < 1):
        raise ConfigError(f"draw_grid: pictures of {len(sizes)} sizes in {columns} columns; expected pictures of one")
    columns = columns or int(np.ceil(len(pictures) ** 0.5))
    height, width = pictures[0].shape[1:]
    rows = -(-len(pictures) // columns)
    gap = GAP // 4
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), PAPER, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = as_bgr(picture)
    return sheet


def as_bgr(picture: Tensor) -> ndarray:
    """RGB (3, H, W) of 0..255 -> (H, W, 3) uint8, BGR."""
    rounded = picture.float().round().clamp(0, 255).flip(0).permute(1, 2, 0)
    return np.ascontiguousarray(rounded.cpu().numpy().astype(np.uint8))


def _resized(image: ndarray, size: tuple[int, ...]) -> ndarray:
    return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)


def _widened(image: ndarray, width: int) -> ndarray:
    return cv2.copyMakeBorder(image, 0, 0, 0, width - image.shape[1], cv2.BORDER_CONSTANT, value=PAPER)
