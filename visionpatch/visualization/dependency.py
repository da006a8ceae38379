"""Pictures of dependencies between tokens: the tree, parts cut from it, and what stands out.

h x w tokens of `stride` pixels cover the picture, the last row and column perhaps more than it; N = h w.
"""

import cv2
import numpy as np
from numpy import ndarray

from visionpatch.errors import ConfigError
from visionpatch.palette import colour_map
from visionpatch.visualization.segmentation import INK, PAPER, draw_segmentation, side_by_side

MIN_SIDE = 480  # pixels of the shorter side, to which small pictures are enlarged by a whole factor


def draw_tree(
    image: ndarray, parent: ndarray, depth: ndarray, grid: tuple[int, int], stride: int, opacity: float = 0.5
) -> ndarray:
    """Lines from every token to its parent over a paled picture, thick and yellow near the root, thin and blue far from
    it; the root is a ring.

    Args:
        image: (H, W, 3) uint8, BGR.
        parent: (N,), the root's is itself. depth: (N,) edges to the root.
        opacity: how much of the picture is paled, 0 to 1.

    Returns:
        (H', W', 3) uint8, BGR, enlarged by a whole factor where the picture is small.

    Raises:
        ConfigError: an `opacity` outside 0..1, or a grid that does not fit.
    """
    _check(image, len(parent), grid, stride, opacity)
    picture, factor = enlarged(image)
    picture = cv2.addWeighted(picture, 1 - opacity, np.full_like(picture, 255), opacity, 0)
    rows, columns = np.divmod(np.arange(len(parent)), grid[1])
    centres = (np.stack([columns, rows], 1) + 0.5) * stride * factor  # (N, 2) x y
    points = np.rint(centres).clip(0, np.array(picture.shape[1::-1]) - 1).astype(int)
    near = 1 - depth / max(int(depth.max()), 4)  # (N,), 1 at the root
    colours = cv2.applyColorMap((255 * near).astype(np.uint8)[:, None], cv2.COLORMAP_PLASMA)[:, 0].tolist()
    thick = max(1, stride * factor // 16)
    for token in np.argsort(-depth, kind="stable"):  # near the root on top
        start, end = tuple(map(int, points[token])), tuple(map(int, points[parent[token]]))
        width = max(1, round(thick * near[token] ** 2))
        cv2.line(picture, start, end, colours[token], width, cv2.LINE_AA)
        cv2.circle(picture, start, max(2, width + 1), colours[token], cv2.FILLED, cv2.LINE_AA)
    root = tuple(map(int, points[int(np.flatnonzero(depth == 0)[0])]))
    for radius, colour in ((thick + 6, INK), (thick + 4, PAPER)):
        cv2.circle(picture, root, radius, colour, 2, cv2.LINE_AA)
    return picture


def draw_parts(image: ndarray, parts: ndarray, grid: tuple[int, int], stride: int, opacity: float = 0.5) -> ndarray:
    """A colour for each part (N,) over the picture; arguments otherwise as `draw_tree`."""
    _check(image, len(parts), grid, stride, opacity)
    picture, factor = enlarged(image)
    labels = parts.reshape(grid).repeat(stride * factor, 0).repeat(stride * factor, 1)
    labels = labels[: picture.shape[0], : picture.shape[1]]
    count = int(parts.max()) + 1
    palette = colour_map(count + 1)[1:]
    names = [f"part {i}" for i in range(count)]
    return draw_segmentation(picture, labels, names, palette, opacity, legend=False, background=None)


def draw_saliency(image: ndarray, saliency: ndarray, opacity: float = 0.5) -> ndarray:
    """Values (H, W) in 0..1 over the picture: dark violet is 0, yellow 1; arguments otherwise as `draw_tree`."""
    if saliency.shape != image.shape[:2] or not 0 <= opacity <= 1:
        raise ConfigError(
            f"draw_saliency: a map of {saliency.shape} for a picture of {image.shape[:2]}, opacity = {opacity}; "
            "expected the picture's size, and an opacity in 0..1"
        )
    picture, factor = enlarged(image)
    shades = np.rint(255 * saliency.clip(0, 1)).astype(np.uint8)
    shades = cv2.resize(shades, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    heat = cv2.applyColorMap(shades, cv2.COLORMAP_PLASMA)
    return cv2.addWeighted(picture, 1 - opacity, heat, opacity, 0)


def draw_dependency(
    image: ndarray,
    parent: ndarray,
    depth: ndarray,
    parts: ndarray,
    saliency: ndarray,
    grid: tuple[int, int],
    stride: int,
    opacity: float = 0.5,
) -> ndarray:
    """The picture, its saliency, its parts and its tree side by side, each with a title."""
    return side_by_side(
        [
            ("picture", enlarged(image)[0]),
            ("saliency", draw_saliency(image, saliency, opacity)),
            ("parts", draw_parts(image, parts, grid, stride, opacity)),
            ("tree", draw_tree(image, parent, depth, grid, stride, opacity)),
        ]
    )


def enlarged(image: ndarray, side: int = MIN_SIDE) -> tuple[ndarray, int]:
    """The picture, at least `side` pixels high and wide, and the whole factor it was enlarged by."""
    factor = max(1, -(-side // min(image.shape[:2])))
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST), factor


def _check(image: ndarray, tokens: int, grid: tuple[int, int], stride: int, opacity: float) -> None:
    fits = all(0 <= n * stride - side < stride for n, side in zip(grid, image.shape[:2]))
    if not fits or tokens != grid[0] * grid[1] or not 0 <= opacity <= 1:
        raise ConfigError(
            f"a picture of {image.shape[:2]} with {tokens} tokens of {stride} pixels on a grid {tuple(grid)}, opacity "
            f"= {opacity}; expected a grid that just covers the picture, a token for each place, an opacity in 0..1"
        )
