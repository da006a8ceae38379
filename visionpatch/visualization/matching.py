"""Pictures of matches between two spectra: one point with its score map, or many points with lines."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy import ndarray

from visionpatch.errors import ConfigError
from visionpatch.visualization.segmentation import PAPER, side_by_side

POINT, PEAK, KEPT, LOST = (60, 220, 255), (80, 60, 240), (110, 200, 60), (90, 90, 230)  # BGR
MAP_SIDE = 320  # pixels of the longer side of a drawn score map
PATCH_SIDE = 320  # pixels of the side of a patch drawn by itself
GAP = 8  # pixels between two pictures
TITLES = ("searched from", "searched in")


def draw_point_match(
    picture: ndarray,
    other: ndarray,
    point: Sequence[int],
    place: Sequence[int],
    scores: ndarray,
    corner: Sequence[int],
    step: int,
    size: int = 64,
    titles: Sequence[str] = TITLES,
) -> ndarray:
    """A point and its patch, the place found in the search window of the other picture, and the score map.

    Args:
        picture, other: (H, W) or (H, W, 3) uint8, BGR.
        point, place: (x, y) in `picture` and in `other`.
        scores: (rows, columns), higher is better, nan where nothing was scored (drawn white).
        corner: (x, y) in `other` of the map's first value. step: pixels between its values.
        size: side of a patch. titles: of the two pictures.

    Returns:
        (H', W', 3) uint8, BGR.

    Raises:
        ConfigError: no score that is a number.
    """
    if not np.isfinite(scores).any():
        raise ConfigError("draw_point_match: the map has no score")
    left, right = _colour(picture), _colour(other)
    _patch(left, point, size, POINT)
    end = [at + step * (n - 1) for at, n in zip(corner, scores.shape[::-1])]
    cv2.rectangle(right, tuple(map(int, corner)), tuple(map(int, end)), POINT, 1, cv2.LINE_AA)
    _patch(right, place, size, PEAK)
    return side_by_side([(titles[0], left), (titles[1], right), ("scores", draw_scores(scores))])


def draw_patches(visible: ndarray, thermal: ndarray, label: int) -> ndarray:
    """The patches (h, w) uint8 of a pair side by side, enlarged; the titles say whether they match (`label` 1)."""
    size = (PATCH_SIDE, PATCH_SIDE)
    panels = [_colour(cv2.resize(patch, size, interpolation=cv2.INTER_NEAREST)) for patch in (visible, thermal)]
    return side_by_side([("visible", panels[0]), ("thermal: " + ("same" if label else "different"), panels[1])])


def draw_scores(scores: ndarray) -> ndarray:
    """A score map (rows, columns), dark violet at its least and yellow at its greatest value, with a ring there."""
    low, high = np.nanmin(scores), np.nanmax(scores)
    shades = np.nan_to_num((scores - low) / max(high - low, 1e-12) * 255)
    heat = cv2.applyColorMap(np.rint(shades).astype(np.uint8), cv2.COLORMAP_PLASMA)
    heat[np.isnan(scores)] = PAPER
    factor = max(1, MAP_SIDE // max(scores.shape))
    heat = cv2.resize(heat, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    row, column = np.unravel_index(int(np.nanargmax(scores)), scores.shape)
    centre = tuple(int(factor * (at + 0.5)) for at in (column, row))
    for radius, colour in ((factor + 5, (0, 0, 0)), (factor + 3, PAPER)):
        cv2.circle(heat, centre, radius, colour, 2, cv2.LINE_AA)
    return heat


def draw_matches(
    picture: ndarray,
    other: ndarray,
    points: ndarray,
    places: ndarray,
    kept: ndarray,
    titles: Sequence[str] = TITLES,
) -> ndarray:
    """Both pictures side by side with a line from each point to its place: green where `kept`, otherwise thin and red.

    Args:
        picture, other: as `draw_point_match`. points, places: (n, 2) x, y in each. kept: (n,) bool.

    Returns:
        (H', W', 3) uint8, BGR.
    """
    drawn = side_by_side(list(zip(titles, (_colour(picture), _colour(other)))))
    top = drawn.shape[0] - max(picture.shape[0], other.shape[0])  # the titles
    right = picture.shape[1] + GAP
    for index in np.argsort(kept, kind="stable"):  # what is kept on top
        start = int(points[index][0]), int(points[index][1]) + top
        end = int(places[index][0]) + right, int(places[index][1]) + top
        colour = KEPT if kept[index] else LOST
        cv2.line(drawn, start, end, colour, 1, cv2.LINE_AA)
        for spot in (start, end):
            cv2.circle(drawn, spot, 3 if kept[index] else 2, colour, cv2.FILLED, cv2.LINE_AA)
    return drawn


def _colour(image: ndarray) -> ndarray:
    """A copy (H, W, 3)."""
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image[..., :3].copy()


def _patch(image: ndarray, centre: Sequence[int], size: int, colour: tuple[int, int, int]) -> None:
    """Draw a cross at (x, y) and the frame of the patch around it."""
    x, y = map(int, centre)
    half = size // 2
    cv2.rectangle(image, (x - half, y - half), (x + half - 1, y + half - 1), colour, 1, cv2.LINE_AA)
    cv2.drawMarker(image, (x, y), colour, cv2.MARKER_CROSS, 12, 2, cv2.LINE_AA)
