"""Bytes to arrays: image and label files read by OpenCV, with every fault named."""

import struct
import zlib
from os import PathLike
from pathlib import Path

import cv2
import numpy as np

from visionpatch.errors import BadSampleError

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"


def read_bytes(path: str | PathLike) -> bytes:
    """The content of a file; BadSampleError when it is missing, unreadable or empty."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise BadSampleError(f"{path}: file does not exist{_stem_hint(Path(path))}") from None
    except OSError as error:
        raise BadSampleError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not data:
        raise BadSampleError(f"{path}: file is empty (0 bytes)")
    return data


def decode_image(
    data: bytes, path: str | PathLike, alpha: str = "error", ignore_orientation: bool = False
) -> np.ndarray:
    """An image file as (H, W, 3) BGR, uint8 or, where the file holds 16 bits a channel, uint16.

    Grey is replicated, palettes are looked up, CMYK is converted, EXIF rotation is applied unless told otherwise.
    """
    orientation = cv2.IMREAD_IGNORE_ORIENTATION if ignore_orientation else 0
    if data.startswith(JPEG):
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # no end marker after the last start of scan
            raise BadSampleError(f"{path}: truncated JPEG (no end marker in its {len(data)} bytes)")
        return _decode(data, cv2.IMREAD_COLOR | orientation, path)
    image = to_bgr(_decode(data, cv2.IMREAD_UNCHANGED, path), path, alpha)
    rotated = b"eXIf" in data[:100_000] if data.startswith(PNG) else data.startswith(b"RIFF") and b"EXIF" in data
    if rotated and not ignore_orientation:  # the mode that reports alpha and depth does not rotate
        return _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, path)
    return image


def to_bgr(image: np.ndarray, path: str | PathLike, alpha: str = "error") -> np.ndarray:
    """A decoded array as (H, W, 3); refuses other depths than 8 and 16 bits, and alpha unless it is to be dropped."""
    if image.dtype not in (np.uint8, np.uint16):
        raise BadSampleError(
            f"{path}: holds {image.dtype} values; 8-bit and 16-bit images are accepted (save it as a 16-bit PNG)"
        )
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if channels == 4:
        if alpha != "drop":
            raise BadSampleError(
                f"{path}: has an alpha channel (4 channels, 3 expected); "
                'dict(type="LoadImage", alpha="drop") ignores it'
            )
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    if channels != 3 or not image.size:
        raise BadSampleError(f"{path}: has the shape {image.shape}; (H, W), (H, W, 3) or (H, W, 4) is accepted")
    return image


def decode_labels(data: bytes, path: str | PathLike) -> np.ndarray:
    """A label file as (H, W) uint8: the numbers stored in it, palette indices included, whatever its bit depth."""
    depth = 8
    if data.startswith(PNG) and len(data) > 33:
        depth, kind = data[24], data[25]
        if kind in (0, 3):
            data = _plain_grey(data, path)
    labels = _decode(data, cv2.IMREAD_UNCHANGED, path)
    if labels.ndim == 3:
        raise BadSampleError(
            f"{path}: is a colour picture with {labels.shape[2]} channels; a mask holds one class index a pixel "
            "(a grey or palette PNG): convert its colours to indices first"
        )
    if labels.dtype != np.uint8:
        top = labels.max(initial=0)
        if labels.dtype != np.uint16 or top > 255:
            raise BadSampleError(f"{path}: holds {labels.dtype} labels up to {top}; masks hold class indices 0..255")
        labels = labels.astype(np.uint8)
    if depth < 8:  # OpenCV stretches 1, 2 and 4 bits to 0..255
        labels //= 255 // (2**depth - 1)
    return labels


def _decode(data: bytes, flags: int, path: str | PathLike) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise BadSampleError(f"{path}: cannot be decoded: {str(error).strip()}") from None
    if image is None:
        raise BadSampleError(
            f"{path}: not an image, truncated or damaged ({len(data)} bytes, beginning with {data[:12]!r})"
        )
    return image


def _plain_grey(data: bytes, path: str | PathLike) -> bytes:
    """The same palette or grey PNG declared as grey, so that a decoder returns the numbers in it instead of colours.

    Only the colour type in the header changes and the tables of colours and transparency go; the pixel stream is the
    same in both types (PNG specification, sections 11.2.1 and 11.2.2).
    """
    header = data[12:25] + b"\0" + data[26:29]
    parts = [PNG, data[8:12], header, struct.pack(">I", zlib.crc32(header))]
    at = 33
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if kind == b"IDAT":
            return b"".join([*parts, data[at:]])
        at += 12 + length
    raise BadSampleError(f"{path}: truncated PNG (no pixel data in its {len(data)} bytes)")


def _stem_hint(path: Path) -> str:
    """What else the folder holds under the same stem."""
    if not path.parent.is_dir():
        return f" (nor does the folder {path.parent})"
    others = sorted(p.name for p in path.parent.glob(f"{path.stem}.*"))[:3] if "[" not in path.stem else []
    return f"; there is {', '.join(others)}" if others else ""
