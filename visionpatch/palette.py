"""Colours of classes, and label maps as palette PNGs, the form in which PASCAL VOC keeps its masks."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from visionpatch.errors import DataError

Palette = list[tuple[int, int, int]]


def colour_map(n: int) -> Palette:
    """The PASCAL VOC colours 0..n-1, RGB: the bits of the index dealt to the three channels, highest bit first."""
    colours = []
    for index in range(n):
        channels = [0, 0, 0]
        for place in range(8):
            for channel in range(3):
                channels[channel] |= ((index >> (3 * place + channel)) & 1) << (7 - place)
        colours.append((channels[0], channels[1], channels[2]))
    return colours


def write_palette_png(path: str | Path, labels: np.ndarray, palette: Sequence[Sequence[int]] | None = None) -> None:
    """Write `labels` (H, W), integers 0..255, as a PNG that shows value i in the colour ``palette[i]`` (RGB, 0..255).

    Values without a colour get PASCAL VOC's. Readers that look colours up see a picture; those that do not see the
    labels.

    Raises:
        DataError: `labels` is no such map.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 255:
        raise DataError(f"{path}: a palette PNG holds a map (H, W) of values 0..255, got {labels.dtype} {labels.shape}")
    Path(path).write_bytes(encode_palette_png(labels.astype(np.uint8), palette))


def encode_palette_png(labels: np.ndarray, palette: Sequence[Sequence[int]] | None = None) -> bytes:
    """The bytes of that file for labels (H, W) uint8: OpenCV's grey PNG with its colour type changed."""
    colours = colour_map(256)
    colours[: len(palette or ())] = [(int(r), int(g), int(b)) for r, g, b in palette or ()]
    grey = cv2.imencode(".png", labels)[1].tobytes()
    header = grey[12:25] + b"\x03" + grey[26:29]  # colour type 0 (grey) becomes 3 (palette)
    table = b"PLTE" + bytes(value for colour in colours[:256] for value in colour)
    return grey[:12] + header + _crc(header) + _length(table) + table + _crc(table) + grey[33:]


def _crc(chunk: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(chunk))


def _length(chunk: bytes) -> bytes:
    return struct.pack(">I", len(chunk) - 4)
