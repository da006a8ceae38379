"""Picture pairs out of nothing: scenes of textured shapes in a visible and a thermal view, pixel on pixel.

Each shape has a grey level and a texture. Its thermal level is another one; of its texture the thermal view shows, with
probability 1/2, a monotone and not linear function, with either sign, and otherwise nothing. The thermal view is more
blurred and has more noise. So outlines agree, and levels, contrast and texture do not.
"""

from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path

import cv2
import numpy as np

from visionpatch.errors import ConfigError

SHAPES = 45  # of a scene of 320 x 256; as many for the same area
AREA = 320 * 256
STEP = 100  # between the numbers of two scenes, so that each is a time group of its own


def make_synthetic_pairs(
    out: str | PathLike,
    scenes: int = 40,
    size: tuple[int, int] = (320, 256),
    thermal_bits: int = 8,
    seed: int = 0,
    progress: Callable[[range], Iterable[int]] = iter,
) -> Path:
    """Write ``out/synthetic/vis/scene_000000.png`` and so on, ``ir`` likewise, and return ``out``.

    The same arguments give the same pictures.

    Args:
        size: width and height, 128 or more each.
        thermal_bits: 8 or 16, of the thermal pictures.
        progress: wraps the range of scene numbers.

    Raises:
        ConfigError: a number out of range.
    """
    if scenes < 1 or min(size) < 128 or thermal_bits not in (8, 16):
        raise ConfigError(
            f"1 scene or more of 128 x 128 pixels or more and 8 or 16 bits are needed, not scenes={scenes} size={size} "
            f"thermal_bits={thermal_bits}"
        )
    root = Path(out)
    for folder in ("vis", "ir"):
        (root / "synthetic" / folder).mkdir(parents=True, exist_ok=True)
    for number in progress(range(scenes)):
        visible, thermal = draw_scene(number, size, thermal_bits, seed)
        for folder, image in (("vis", visible), ("ir", thermal)):
            data = cv2.imencode(".png", image)[1]
            (root / "synthetic" / folder / f"scene_{number * STEP:06d}.png").write_bytes(data.tobytes())
    return root


def draw_scene(
    number: int, size: tuple[int, int] = (320, 256), thermal_bits: int = 8, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Scene `number`: visible (H, W) uint8 and thermal (H, W) uint8 or uint16. `size` is (width, height)."""
    rng = np.random.default_rng([seed, number])
    width, height = size
    everywhere = np.ones((height, width), bool)
    visible, thermal = np.zeros((2, height, width), np.float32)
    _paint(rng, visible, thermal, everywhere)
    for _ in range(max(1, SHAPES * width * height // AREA)):
        _paint(rng, visible, thermal, _shape(rng, width, height))
    noisy = [
        cv2.GaussianBlur(image, (0, 0), blur) + rng.normal(0, noise, image.shape)
        for image, blur, noise in ((visible, 0.7, 3), (thermal, 1.5, 4))
    ]
    white, kind = (255.0, np.uint8) if thermal_bits == 8 else (65535.0, np.uint16)
    scaled = np.clip(noisy[1], 0, 255) * (white / 255.0)
    return np.clip(noisy[0], 0, 255).astype(np.uint8), scaled.astype(kind)


def _paint(rng: np.random.Generator, visible: np.ndarray, thermal: np.ndarray, mask: np.ndarray) -> None:
    """Give the pixels of `mask` (H, W) bool a level and a texture in both views."""
    texture = _texture(rng, mask.shape)[mask]
    visible[mask] = rng.uniform(40, 215) + rng.uniform(5, 30) * texture
    level, strength, power = rng.uniform(40, 215), rng.uniform(5, 30), rng.choice([0.5, 2.0])
    sign, shown = rng.choice([-1.0, 1.0]), rng.random() < 0.5
    thermal[mask] = level + shown * sign * strength * np.sign(texture) * abs(texture) ** power


def _texture(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) float32 in -1..1: smooth noise of a random grain."""
    grain = rng.uniform(3, 16)
    cells = [max(2, round(side / grain)) for side in shape]
    noise = cv2.resize(rng.normal(0, 0.5, cells).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(noise, -1, 1)


def _shape(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(H, W) bool: a polygon of three to seven corners somewhere in the picture."""
    corners = rng.integers(3, 8)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(8, 50) * rng.uniform(0.5, 1.0, corners)
    points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1) + rng.uniform(0, 1, 2) * (width, height)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask.astype(bool)
