"""Label maps as palette PNGs, the form in which PASCAL VOC keeps its masks."""

import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from .classes import colour_map


def encode_palette_png(labels: np.ndarray, palette: Sequence[Sequence[int]] | None = None) -> bytes:
    """A PNG file (bytes) whose pixels are the values of `labels` (H, W) uint8, shown in the colours `palette` (RGB).

    Values without a colour get PASCAL VOC's.
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(f"labels of shape (H, W) and type uint8 are expected, not {labels.shape} {labels.dtype}")
    colours = colour_map(256)
    colours[: len(palette or ())] = [(int(r), int(g), int(b)) for r, g, b in palette or ()]
    grey = cv2.imencode(".png", labels)[1].tobytes()
    header = grey[12:25] + b"\x03" + grey[26:29]  # colour type 0 (grey) becomes 3 (palette)
    table = b"PLTE" + bytes(value for colour in colours for value in colour)
    return grey[:12] + header + _crc(header) + _length(table) + table + _crc(table) + grey[33:]


def _crc(chunk: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(chunk))


def _length(chunk: bytes) -> bytes:
    return struct.pack(">I", len(chunk) - 4)
