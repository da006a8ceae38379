import struct
import zlib

import cv2
import numpy as np
import pytest

from visionpatch.datasets.sample_set import make_sample_dataset


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory):
    """A drawn set of 8 training and 4 validation pictures of 64 x 64 in VOC layout."""
    return make_sample_dataset(tmp_path_factory.mktemp("sample"), train=8, val=4, size=64, seed=3)


@pytest.fixture
def pair_folder(tmp_path):
    """Three images (a, b, c; 20 wide, 10 high) with masks of the values 0, 1 and 255."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for stem in "abc":
        cv2.imwrite(str(tmp_path / f"images/{stem}.jpg"), rng.integers(0, 255, (10, 20, 3), dtype=np.uint8))
        mask = rng.integers(0, 2, (10, 20), dtype=np.uint8)
        mask[0, 0] = 255
        cv2.imwrite(str(tmp_path / f"masks/{stem}.png"), mask)
    return tmp_path


@pytest.fixture(scope="session")
def png():
    """A function that makes the bytes of a PNG file; see `_png`."""
    return _png


def _png(width, height, depth, colour, rows, palette=None, transparency=None):
    """A PNG file by hand: `rows` are the packed bytes of each line."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    if palette is not None:
        out += chunk(b"PLTE", bytes(palette))
    if transparency is not None:
        out += chunk(b"tRNS", bytes(transparency))
    return out + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))) + chunk(b"IEND", b"")
