"""Palette PNG files: read back by other readers."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from visionpatch.datasets.transforms.decode import decode_labels
from visionpatch.errors import DataError
from visionpatch.palette import colour_map, encode_palette_png, write_palette_png

PALETTE = [(0, 0, 0), (128, 0, 0), (0, 128, 64)]


def test_colours_and_values(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (13, 37))
    labels[0, 0] = 255
    path = tmp_path / "map.png"
    write_palette_png(path, labels, PALETTE)
    colours = np.array([*PALETTE, *colour_map(256)[3:]])
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], colours[labels])
    image = pytest.importorskip("PIL.Image").open(path)
    assert image.mode == "P"
    assert np.array_equal(np.array(image), labels)


@pytest.mark.parametrize("labels", [np.full((2, 2), 256), np.full((2, 2), -1), np.zeros((2, 2, 3)), np.zeros((0, 2))])
def test_other_maps_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="map.png"):
        write_palette_png(tmp_path / "map.png", labels, PALETTE)
    assert not (tmp_path / "map.png").exists()


def test_our_reader_sees_the_values() -> None:
    labels = np.array([[0, 1, 2], [20, 254, 255]], np.uint8)
    assert np.array_equal(decode_labels(encode_palette_png(labels), "m.png"), labels)
