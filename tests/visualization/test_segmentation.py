"""Overlays: which pixels change, and what the legend says."""

import numpy as np
import pytest

from visionpatch.errors import ConfigError
from visionpatch.visualization import draw_pair, draw_segmentation

CLASSES, PALETTE = ("background", "cat", "dog"), [(0, 0, 0), (200, 100, 0), (0, 0, 250)]


def test_colours_and_what_stays() -> None:
    """Inside a region: the mean of picture and colour (BGR); background, ignored, unknown labels stay as they are."""
    image = np.full((60, 90, 3), 100, dtype=np.uint8)
    labels = np.zeros((60, 90), dtype=np.uint8)
    labels[:, 30:60], labels[:30, 60:], labels[30:, 60:] = 1, 255, 7
    out = draw_segmentation(image, labels, CLASSES, PALETTE, opacity=0.5, legend=False)
    assert out.shape == image.shape and out.dtype == np.uint8
    assert out[30, 45].tolist() == [50, 100, 150]
    assert (out[:, :29] == 100).all() and (out[:, 61:] == 100).all()
    assert image.min() == image.max() == 100  # the given picture is not drawn on


def test_outline_is_opaque() -> None:
    labels = np.zeros((60, 90), dtype=np.uint8)
    labels[20:40, 20:40] = 1
    image = np.zeros((60, 90, 3), dtype=np.uint8)
    faint = draw_segmentation(image, labels, CLASSES, PALETTE, opacity=0.1, legend=False)
    assert faint[20, 30].max() >= 120 and faint[30, 30].max() == 20


def test_opacity_limits() -> None:
    labels = np.ones((20, 20), dtype=np.uint8)
    image = np.full((20, 20, 3), 60, dtype=np.uint8)
    assert draw_segmentation(image, labels, CLASSES, PALETTE, 0.0, legend=False)[10, 10].tolist() == [60, 60, 60]
    assert draw_segmentation(image, labels, CLASSES, PALETTE, 1.0, legend=False)[10, 10].tolist() == [0, 100, 200]
    with pytest.raises(ConfigError, match="opacity = 1.5 must be in 0..1"):
        draw_segmentation(image, labels, CLASSES, PALETTE, 1.5)
    with pytest.raises(ConfigError, match="2 colours must be at least the 3 classes"):
        draw_segmentation(image, labels, CLASSES, PALETTE[:2])


@pytest.mark.parametrize(("size", "factor"), [((40, 96), 4), ((300, 500), 1), ((900, 1600), 1), ((30, 7), 46)])
def test_legend_is_readable_at_any_size(size: tuple[int, int], factor: int) -> None:
    """A white panel below; narrow pictures grow by a whole factor; each class present has its swatch."""
    labels = np.zeros(size, dtype=np.uint8)
    labels[: size[0] // 2] = 2
    out = draw_segmentation(np.zeros((*size, 3), dtype=np.uint8), labels, CLASSES, PALETTE)
    height, width = factor * size[0], factor * size[1]
    assert out.shape[1] == width >= 320 and out.shape[0] > height + 15
    panel = out[height:].reshape(-1, 3)
    assert (panel == 255).all(1).mean() > 0.4
    swatch = (panel == (250, 0, 0)).all(1).sum()
    assert swatch >= 200 and (panel == (0, 100, 200)).all(1).sum() == 0


def test_other_inputs() -> None:
    grey = np.full((400, 400), 90, dtype=np.uint8)
    out = draw_segmentation(grey, np.ones((200, 200), dtype=np.int64), CLASSES, PALETTE, legend=False)
    assert out.shape == (400, 400, 3) and out[200, 200].tolist() == [45, 95, 145]
    empty = draw_segmentation(grey, np.full((400, 400), 255), CLASSES, PALETTE)
    assert empty.shape[1] == 400 and (empty[:400] == 90).all()
    pair = draw_pair(grey, np.ones((400, 400)), np.ones((400, 400)), CLASSES, PALETTE)
    assert pair.shape[1] == 808
    assert draw_pair(grey, None, np.ones((400, 400)), CLASSES, PALETTE).shape[1] == 400
