"""What an image file says of itself, read before anything is decoded: its size, and whether it is whole."""

import re
import struct
from collections.abc import Callable

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # a marker that is neither stuffing, restart nor fill
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # ITU T.81, table B.1
TIFF_TYPES = {3: "H", 4: "I", 16: "Q"}
ORIENTATION, SAMPLES, PHOTOMETRIC = 274, 277, 262  # TIFF tags
SEPARATED = 5  # photometric: inks, that is CMYK


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in the header of a PNG, JPEG, TIFF, BMP, WebP, GIF, PNM or JPEG 2000 file; None for others.

    Raises:
        ValueError: the header of one of these is damaged.
    """
    reader = next((read for magics, read in READERS if data.startswith(magics)), None)
    if reader is None:
        return None
    try:
        width, height = reader(data)
    except (struct.error, IndexError, KeyError, OverflowError):
        raise ValueError("damaged header") from None
    return width, height


def jpeg_end(data: bytes) -> int:
    """Where the end marker of the (first) picture in a JPEG file begins; -1 if the file is cut before it."""
    at = 2
    try:
        while data[at] == 0xFF:
            marker = data[at + 1]
            if marker == 0xFF:  # fill
                at += 1
                continue
            if marker == 0xD9:
                return at
            if marker == 0xD8 or at + 4 > len(data):  # another picture begins inside this one
                return -1
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == 0xDA:
                found = END_OF_SCAN.search(data, at)
                at = found.start() if found else len(data)
    except IndexError:
        pass
    return -1


def is_whole_png(data: bytes) -> bool:
    """Whether every chunk up to the last, IEND, lies in the file: decoders take memory for a chunk by its length."""
    at, kind = len(PNG), b""
    while kind != b"IEND" and at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return kind == b"IEND" and at <= len(data)


def tiff_tags(data: bytes) -> dict[int, tuple[int, int]]:
    """{tag: (first value, where it stands)} of the integer tags of the first picture in a TIFF file."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, count, entry, value_at = ("Q", "Q", 20, 12) if big else ("I", "H", 12, 8)
    (start,) = struct.unpack_from(order + offset, data, 8 if big else 4)
    (number,) = struct.unpack_from(order + count, data, start)
    start += struct.calcsize(count)
    tags = {}
    for at in range(start, start + entry * min(number, 4096), entry):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if kind in TIFF_TYPES:
            (value,) = struct.unpack_from(order + TIFF_TYPES[kind], data, at + value_at)
            tags[tag] = (value, at + value_at)
    return tags


def upright(data: bytes) -> bytes:
    """A TIFF file with its orientation tag, if it has one, set to "as stored"."""
    value, at = tiff_tags(data).get(ORIENTATION, (1, 0))
    if value == 1:
        return data
    one = b"\1\0" if data.startswith(b"II") else b"\0\1"
    return data[:at] + one + data[at + 2 :]


def _png(data: bytes) -> tuple[int, ...]:
    return struct.unpack_from(">II", data, 16)


def _jpeg(data: bytes) -> tuple[int, ...]:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in FRAMES:
            return struct.unpack_from(">HH", data, at + 5)[::-1]
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise IndexError


def _tiff(data: bytes) -> tuple[int, ...]:
    tags = tiff_tags(data)
    return tags[256][0], tags[257][0]


def _bmp(data: bytes) -> tuple[int, ...]:
    if data[14] == 12:  # OS/2
        return struct.unpack_from("<HH", data, 18)
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)  # negative: lines from the top


def _webp(data: bytes) -> tuple[int, ...]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind != b"VP8 ":
        raise IndexError
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _gif(data: bytes) -> tuple[int, ...]:
    return struct.unpack_from("<HH", data, 6)


def _pnm(data: bytes) -> tuple[int, ...]:
    words = re.sub(rb"#[^\n]*", b" ", data[2:4096]).split(None, 2)
    if not (words[0].isdigit() and words[1].isdigit() and max(map(len, words[:2])) <= 10):
        raise IndexError
    return int(words[0]), int(words[1])


def _jp2(data: bytes) -> tuple[int, ...]:
    at = data.find(b"\xff\x4f\xff\x51", 0, 1 << 20)  # start of codestream, then the size segment
    if at < 0:
        raise IndexError
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    return max(right - left, 0), max(bottom - top, 0)


READERS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], tuple[int, ...]]], ...] = (
    (JPEG, _jpeg),
    (PNG, _png),
    (TIFF, _tiff),
    (b"BM", _bmp),
    (b"RIFF", _webp),
    ((b"GIF87a", b"GIF89a"), _gif),
    (tuple(b"P%d" % n for n in range(1, 7)), _pnm),
    ((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), _jp2),
)
