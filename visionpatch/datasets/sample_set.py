"""A sample set out of nothing: drawn pictures of coloured shapes with exact masks, in the layout of PASCAL VOC.

21 classes: background, and ten colours in two of five shapes each; squares and crosses are striped, triangles
chequered. Backgrounds are grey textures; shapes vary in size, rotation and shade, hide parts of each other, and are
cut off by the border. A line of one pixel around them is void (255).
"""

from collections.abc import Callable
from os import PathLike
from pathlib import Path

import cv2
import numpy as np

from visionpatch.errors import ConfigError
from visionpatch.palette import colour_map, write_palette_png

SHAPES = ("disc", "square", "triangle", "cross", "ring")
PERIODS = dict(disc=0, square=9, triangle=7, cross=18, ring=0)  # of the pattern, in the width of a picture; 0 = plain
COLOURS = {  # RGB
    "red": (215, 40, 40),
    "orange": (240, 135, 30),
    "yellow": (235, 220, 50),
    "green": (40, 160, 60),
    "cyan": (60, 205, 210),
    "blue": (45, 75, 215),
    "purple": (125, 55, 180),
    "pink": (245, 135, 195),
    "brown": (115, 70, 35),
    "black": (25, 25, 25),
}
FIGURES = tuple((colour, SHAPES[(i + step) % 5]) for i, colour in enumerate(COLOURS) for step in (0, 2))
CLASSES = ("background", *(f"{colour} {shape}" for colour, shape in FIGURES))
PALETTE = colour_map(len(CLASSES))
VOID = 255


def make_sample_dataset(
    out: str | PathLike,
    train: int = 1200,
    val: int = 100,
    size: int = 96,
    seed: int = 0,
    progress: Callable[[range], object] | None = None,
) -> Path:
    """Write `train` + `val` pictures of `size` x `size` below ``out/VOCdevkit/VOC2012`` and return that folder.

    The same arguments give the same files. `progress` may wrap the range of picture numbers.

    Raises:
        ConfigError: a number is too small.
    """
    if train < 1 or val < 1 or size < 32:
        raise ConfigError(
            f"at least 1 picture a split and 32 pixels are needed, not train={train} val={val} size={size}"
        )
    root = Path(out) / "VOCdevkit" / "VOC2012"
    images, masks, splits = root / "JPEGImages", root / "SegmentationClass", root / "ImageSets" / "Segmentation"
    for folder in (images, masks, splits):
        folder.mkdir(parents=True, exist_ok=True)
    numbers = range(train + val)
    names = [f"sample_{number:06d}" for number in numbers]
    for number in progress(numbers) if progress else numbers:  # type: ignore[attr-defined]
        image, labels = draw_sample(number, size, seed)
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (images / f"{names[number]}.jpg").write_bytes(jpeg.tobytes())
        write_palette_png(masks / f"{names[number]}.png", labels, PALETTE)
    for split, members in dict(train=names[:train], val=names[train:], trainval=names).items():
        (splits / f"{split}.txt").write_text("\n".join(members) + "\n", encoding="utf-8")
    return root


def draw_sample(number: int, size: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Picture `number` of the set: image (size, size, 3) uint8 BGR, labels (size, size) uint8 with 255 = void."""
    rng = np.random.default_rng([seed, number])
    image = _background(rng, size)
    labels = np.zeros((size, size), np.uint8)
    main = 1 + number % (len(CLASSES) - 1)  # every class in turn, so that none is rare
    others = rng.integers(1, len(CLASSES), size=rng.integers(1, 3))
    for label in [*others, main]:
        colour, kind = FIGURES[label - 1]
        mask = _shape(rng, size, kind)
        alpha = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0)[..., None]
        image = image * (1 - alpha) + _paint(rng, size, COLOURS[colour], kind) * alpha
        labels[mask] = label
    noisy = image + rng.normal(0, 4, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), _with_void(labels)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) float32: a grey texture of several scales with a slight tint."""
    texture = np.zeros((size, size), np.float32)
    for cells in (2, 4, 8, 32):
        coarse = rng.normal(0, 18, (cells, cells)).astype(np.float32)
        texture += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    tint = rng.normal(0, 6, 3)
    return (rng.uniform(80, 170) + texture)[..., None] + tint.astype(np.float32)


def _paint(rng: np.random.Generator, size: int, rgb: tuple[int, int, int], kind: str) -> np.ndarray:
    """(size, size, 3) float32, BGR: a colour in some shade, with the pattern of the shape."""
    y, x = np.mgrid[:size, :size]
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    turn = 2 * np.pi * PERIODS[kind] / size
    wave = np.sin(along * turn + phase) * (np.sin(across * turn) if kind == "triangle" else 1)
    strength = 0.3 if turn else 0.0
    return (np.array(rgb[::-1]) * rng.uniform(0.75, 1.1) * (1 + strength * wave[..., None])).astype(np.float32)


def _shape(rng: np.random.Generator, size: int, kind: str) -> np.ndarray:
    """(size, size) bool: one shape at a random place, rotation and size."""
    radius = rng.uniform(0.20, 0.32) * size
    cx, cy = rng.uniform(0.15 * size, 0.85 * size, 2)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size]
    dx, dy = (x - cx) / radius, (y - cy) / radius
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    if kind == "disc":
        return u**2 + v**2 <= 1
    if kind == "ring":
        return (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.5**2)
    if kind == "square":
        return (abs(u) <= 0.85) & (abs(v) <= 0.85)
    if kind == "cross":
        return (np.minimum(abs(u), abs(v)) <= 0.28) & (np.maximum(abs(u), abs(v)) <= 1)
    return (v >= -0.6) & (v <= 1.2 - 1.8 * abs(u))  # triangle


def _with_void(labels: np.ndarray) -> np.ndarray:
    """`labels` with every pixel that differs from its right or lower neighbour set to void."""
    out = labels.copy()
    out[:, :-1][labels[:, :-1] != labels[:, 1:]] = VOID
    out[:-1][labels[:-1] != labels[1:]] = VOID
    return out
