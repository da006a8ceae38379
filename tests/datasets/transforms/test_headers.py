"""Sizes read from headers against the decoded pictures, and the ends of JPEG files."""

import io

import cv2
import numpy as np
import pytest

from visionpatch.datasets.transforms.decode import decode_image
from visionpatch.datasets.transforms.headers import image_size, is_whole_png, jpeg_end, tiff_tags, upright

IMAGE = np.random.default_rng(0).integers(0, 255, (37, 53, 3), dtype=np.uint8)


def encode(suffix, *parameters, image=IMAGE):
    return cv2.imencode(suffix, image, list(parameters))[1].tobytes()


def pillow(kind, mode="RGB", **kwargs):
    file = io.BytesIO()
    pytest.importorskip("PIL.Image").fromarray(IMAGE).convert(mode).save(file, kind, **kwargs)
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (53, 37)])
def test_size_of_every_format(suffix, size):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    assert image_size(encode(suffix, image=image)) == size


@pytest.mark.parametrize(
    "arguments",
    [
        ("GIF",),
        ("BMP", "L"),
        ("TIFF", "L"),
        ("PPM", "1"),
        ("PPM", "L"),
        ("WEBP", "RGBA"),
        ("JPEG2000",),
        ("JPEG", "CMYK"),
    ],
)
def test_size_of_pillows_files(arguments):
    assert image_size(pillow(*arguments)) == (53, 37)


def test_variants():
    assert image_size(pillow("JPEG", progressive=True)) == (53, 37)
    assert image_size(pillow("WEBP", lossless=True)) == (53, 37)
    assert image_size(pillow("TIFF", big_tiff=True)) == (53, 37)
    assert image_size(b"P5 # comment 9 9\n# another\n 53\n37 255\n") == (53, 37)
    top_down = bytearray(encode(".bmp"))
    top_down[22:26] = (-37).to_bytes(4, "little", signed=True)
    assert image_size(bytes(top_down)) == (53, 37)
    assert image_size(b"no picture") is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm", ".jp2"])
def test_a_header_cut_off(suffix):
    data = encode(suffix)
    start = {".jpg": 3, ".png": 8, ".tif": 4, ".jp2": 12}.get(suffix, 2 if suffix != ".webp" else 4)
    with pytest.raises(ValueError, match="damaged header"):
        image_size(data[:start])


def test_the_end_of_a_jpeg():
    plain = encode(".jpg")
    assert jpeg_end(plain) == len(plain) - 2
    assert jpeg_end(plain + b"trailer \xff\xda \xff\xd9") == len(plain) - 2
    assert jpeg_end(plain[:-1]) == jpeg_end(plain[:-2]) == jpeg_end(plain[:3]) == -1
    assert jpeg_end(plain[:-40] + plain) == -1
    for parameters in ((cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)):
        data = encode(".jpg", *parameters)
        assert jpeg_end(data) == len(data) - 2
        assert jpeg_end(data[:-30]) == -1


def test_the_end_of_a_png():
    plain = encode(".png")
    assert is_whole_png(plain)
    assert is_whole_png(plain + b"trailer")
    assert not is_whole_png(plain[:-1])
    at = plain.find(b"IDAT") - 4
    assert not is_whole_png(plain[:at] + b"\xff\xff\xff\0" + plain[at + 4 :])  # OpenCV would take 4 GB for it


def test_a_thumbnail_is_not_the_end():
    thumbnail = encode(".jpg", image=IMAGE[:8, :8])
    plain = encode(".jpg")
    data = plain[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + plain[2:]
    assert jpeg_end(data) == len(data) - 2
    assert image_size(data) == (53, 37)
    assert jpeg_end(data[: len(thumbnail) + 6]) == jpeg_end(data[:-10]) == -1


def test_the_orientation_of_a_tiff():
    pil = pytest.importorskip("PIL.Image")
    exif = pil.Exif()
    exif[274] = 6
    data = pillow("TIFF", exif=exif)
    assert tiff_tags(data)[274][0] == 6
    assert tiff_tags(upright(data))[274][0] == 1
    assert upright(upright(data)) == upright(data)
    assert decode_image(data, "a.tif").shape == (53, 37, 3)
    assert np.array_equal(decode_image(data, "a.tif", ignore_orientation=True), IMAGE[..., ::-1])
