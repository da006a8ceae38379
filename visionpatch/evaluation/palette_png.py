"""Writing label maps as 8-bit palette PNG files, the form segmentation benchmarks take and give.

OpenCV writes no palettes. The format is that of the PNG specification (ISO/IEC 15948), sections 5 and 11.2.
"""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visionpatch.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PALETTE_COLOUR = 3  # colour type of the header


def write_palette_png(path: str | Path, label_map: np.ndarray, palette: Sequence[Sequence[int]]) -> None:
    """Write `label_map` (H, W), values 0..255, with the colour ``palette[i]`` (r, g, b; 0..255) for value i.

    Values beyond the palette stay readable as numbers and show black. Raises DataError for a map of another form.
    """
    labels = np.asarray(label_map)
    if labels.ndim != 2 or labels.size == 0 or labels.min() < 0 or labels.max() > 255:
        raise DataError(f"{path}: a palette PNG holds a map (H, W) of values 0..255, got shape {labels.shape}")
    colours = np.zeros((256, 3), np.uint8)
    colours[: min(len(palette), 256)] = np.asarray(palette, np.uint8).reshape(-1, 3)[:256]
    height, width = labels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # the first byte of a row is its filter: 0, none
    rows[:, 1:] = labels
    header = struct.pack(">IIBBBBB", width, height, 8, PALETTE_COLOUR, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", colours.tobytes()), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    Path(path).write_bytes(SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks))


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
