"""Places of a picture pair worth a patch: corners of either spectrum, spread out, with texture in both."""

import cv2
import numpy as np

SIZE = 64  # of a patch, in pixels
FAST_THRESHOLD = 12
SPACING = 16  # between two centres
MIN_SPREAD = 8.0  # standard deviation of a patch, in grey levels of 256
LIMIT = 48  # centres of one pair


def find_centres(visible: np.ndarray, thermal: np.ndarray, limit: int = LIMIT) -> np.ndarray:
    """Centres (n, 2) int64 x, y, the strongest corner first, of pictures (H, W) of any depth.

    FAST corners of both smoothed pictures together by falling response (of equal ones the upper, then the left one
    first); each is taken that lies at least 16 pixels from those before and 32 from the border, and whose two patches
    have a standard deviation of at least 8 levels; `limit` at most. 16-bit pictures are stretched to 8 bits for this.
    """
    visible, thermal = eight_bits(visible), eight_bits(thermal)
    candidates = _corners(visible)
    for place, response in _corners(thermal).items():
        candidates[place] = max(response, candidates.get(place, response))
    order = sorted(candidates, key=lambda place: (-candidates[place], place[1], place[0]))
    chosen = np.zeros((0, 2), np.int64)
    for x, y in order:
        if len(chosen) == limit:
            break
        near = ((chosen - (x, y)) ** 2).sum(1) < SPACING**2
        if (
            not near.any()
            and inside(visible.shape, x, y)
            and min(spread(visible, x, y), spread(thermal, x, y)) >= MIN_SPREAD
        ):
            chosen = np.append(chosen, [(x, y)], axis=0)
    return chosen


def inside(shape: tuple[int, ...], x: int, y: int, size: int = SIZE) -> bool:
    """Whether the patch around (x, y) lies in a picture of `shape` (H, W)."""
    half = size // 2
    return half <= x <= shape[1] - half and half <= y <= shape[0] - half


def cut_patch(image: np.ndarray, x: int, y: int, size: int = SIZE) -> np.ndarray:
    """Rows y - size/2 ... y + size/2 - 1 and the same columns of (H, W): a view (size, size)."""
    half = size // 2
    return image[y - half : y + half, x - half : x + half]


def spread(image: np.ndarray, x: int, y: int) -> float:
    """The standard deviation of a patch."""
    return float(cut_patch(image, x, y).std(dtype=np.float64))


def eight_bits(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the picture itself, or a 16-bit one stretched from its least to its greatest value."""
    if image.dtype == np.uint8:
        return image
    low, high = int(image.min()), int(image.max())
    return np.round((image.astype(np.float64) - low) * (255.0 / max(high - low, 1))).astype(np.uint8)


def _corners(image: np.ndarray) -> dict[tuple[int, int], float]:
    """{(x, y): response} of the FAST corners of a smoothed picture."""
    detector = cv2.FastFeatureDetector.create(threshold=FAST_THRESHOLD, nonmaxSuppression=True)
    points = detector.detect(cv2.GaussianBlur(image, (3, 3), 0))
    return {(int(round(p.pt[0])), int(round(p.pt[1]))): float(p.response) for p in points}
