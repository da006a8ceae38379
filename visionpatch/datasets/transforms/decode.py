"""Bytes to arrays: image and label files read by OpenCV, with every fault named."""

import struct
import zlib
from os import PathLike
from pathlib import Path

import cv2
import numpy as np

from visionpatch.errors import BadSampleError

from .headers import (
    JPEG,
    PHOTOMETRIC,
    PNG,
    SAMPLES,
    SEPARATED,
    TIFF,
    image_size,
    is_whole_png,
    jpeg_end,
    tiff_tags,
    upright,
)

MAX_PIXELS = 2**28  # a picture of more is refused before it is decoded: 16384 x 16384, 768 MiB in memory
ALPHA = 'has an alpha channel ({} channels, {} expected); dict(type="LoadImage", alpha="drop") ignores it'
CORNERS = [(rows, columns) for rows in (slice(4), slice(-4, None)) for columns in (slice(4), slice(-4, None))]


def read_bytes(path: str | PathLike) -> bytes:
    """The content of a file; BadSampleError when it is missing, unreadable or empty."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise BadSampleError(f"{path}: file does not exist{_stem_hint(Path(path))}") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise BadSampleError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not data:
        raise BadSampleError(f"{path}: file is empty (0 bytes)")
    return data


def decode_image(
    data: bytes,
    path: str | PathLike,
    alpha: str = "error",
    ignore_orientation: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """An image file as (H, W, 3) BGR, uint8 or, where the file holds 16 bits a channel, uint16.

    Grey is replicated, palettes are looked up, CMYK JPEGs are converted, EXIF rotation is applied unless told
    otherwise. Of several pictures in one file the first is taken.
    """
    _check_header(data, path, max_pixels)
    if data.startswith(JPEG):
        return _decode_jpeg(data, path, cv2.IMREAD_IGNORE_ORIENTATION if ignore_orientation else 0)
    if data.startswith(TIFF):
        _check_tiff(data, path, alpha)
        data = upright(data) if ignore_orientation else data
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
            raise BadSampleError(f"{path}: {ALPHA.format(4, 3)}")
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    if channels != 3 or not image.size:
        raise BadSampleError(f"{path}: has the shape {image.shape}; (H, W), (H, W, 3) or (H, W, 4) is accepted")
    return image


def decode_labels(data: bytes, path: str | PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A label file as (H, W) uint8: the numbers stored in it, palette indices included, whatever its bit depth."""
    _check_header(data, path, max_pixels)
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


def _check_header(data: bytes, path: str | PathLike, max_pixels: int) -> None:
    """Refuse a picture by what it says of itself, before memory for it is taken."""
    try:
        size = image_size(data)
    except ValueError:
        raise BadSampleError(
            f"{path}: not an image, truncated or damaged (no size in its header; {len(data)} bytes, "
            f"beginning with {data[:12]!r})"
        ) from None
    if size is not None and size[0] * size[1] > max_pixels:
        raise BadSampleError(
            f"{path}: {size[0]}x{size[1]} pixels by its header ({len(data)} bytes), more than the {max_pixels} "
            "allowed; cut it into tiles, or raise max_pixels of the loading transform if the file can be trusted"
        )
    if data.startswith(PNG) and not is_whole_png(data):
        raise BadSampleError(f"{path}: truncated or damaged PNG (no end chunk in its {len(data)} bytes)")


def _decode_jpeg(data: bytes, path: str | PathLike, orientation: int) -> np.ndarray:
    """A JPEG that is whole. OpenCV fills what is missing in a cut one with the grey 128 and says nothing."""
    end = jpeg_end(data)
    if end < 0:
        raise BadSampleError(f"{path}: truncated JPEG (no end marker in its {len(data)} bytes)")
    image = _decode(data, cv2.IMREAD_COLOR | orientation, path)
    if any(image[corner][0, 0, 0] == 128 and (image[corner] == 128).all() for corner in CORNERS):
        # A whole picture does not need more data before its end marker, and looks the same with it.
        longer = data[:end] + bytes(range(1, 200)) + data[end:]
        if not np.array_equal(image, _decode(longer, cv2.IMREAD_COLOR | orientation, path)):
            raise BadSampleError(
                f"{path}: truncated or damaged JPEG (its {len(data)} bytes end before the picture does)"
            )
    return image


def _check_tiff(data: bytes, path: str | PathLike, alpha: str) -> None:
    """Refuse what OpenCV would return as something else without a word: inks as colours, grey without its alpha."""
    tags = tiff_tags(data)
    if tags.get(PHOTOMETRIC, (0,))[0] == SEPARATED:
        raise BadSampleError(f"{path}: holds inks (a CMYK TIFF); save it as RGB")
    if tags.get(SAMPLES, (1,))[0] == 2 and alpha != "drop":
        raise BadSampleError(f"{path}: {ALPHA.format(2, 1)}")


def _decode(data: bytes, flags: int, path: str | PathLike) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        reason = " ".join(str(getattr(error, "err", "") or error).split())
        raise BadSampleError(
            f"{path}: not an image, truncated or damaged ({len(data)} bytes; OpenCV: {reason})"
        ) from None
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
    """What else the folder holds under the same stem, or where a link leads."""
    if path.is_symlink():
        return f" (the link leads to {path.readlink()})"
    if not path.parent.is_dir():
        return f" (nor does the folder {path.parent})"
    others = sorted(p.name for p in path.parent.glob(f"{path.stem}.*"))[:3] if "[" not in path.stem else []
    return f"; there is {', '.join(others)}" if others else ""
