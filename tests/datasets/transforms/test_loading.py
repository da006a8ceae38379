"""Reading images and masks: every kind that is accepted, with its numbers, and every fault, with its message."""

import io
import sys

import cv2
import numpy as np
import pytest

from visionpatch.datasets.transforms import LoadAnnotations, LoadImage
from visionpatch.datasets.transforms.loading import label_table
from visionpatch.errors import BadSampleError, ConfigError, DataError

IMAGE = np.random.default_rng(1).integers(0, 255, (12, 17, 3), dtype=np.uint8)


def load(path, **kwargs):
    return LoadImage(**kwargs)(dict(img_path=str(path)))["img"]


def save(path, array):
    assert cv2.imwrite(str(path), array)
    return path


def load_mask(path, shape=(2, 8), classes=("a", "b", "c", "d"), **info):
    info = dict(img_path="x.jpg", seg_path=str(path), ori_shape=shape, classes=classes, seg_fields=[], **info)
    return LoadAnnotations()(info)["gt_seg_map"]


def mask_file(path, values):
    return save(path, np.array(values, np.uint8))


class TestImages:
    def test_colour_is_bgr_and_shapes_are_set(self, tmp_path):
        results = LoadImage()(dict(img_path=str(save(tmp_path / "a.png", IMAGE))))
        assert np.array_equal(results["img"], IMAGE)
        assert results["ori_shape"] == results["img_shape"] == (12, 17)

    def test_grey_is_replicated(self, tmp_path):
        grey = IMAGE[..., 0]
        assert np.array_equal(load(save(tmp_path / "a.png", grey)), np.stack([grey] * 3, -1))

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_16_bits_are_kept(self, tmp_path, channels, suffix):
        deep = np.random.default_rng(0).integers(0, 65535, (5, 7, channels), dtype=np.uint16)
        image = load(save(tmp_path / f"a{suffix}", deep))
        assert image.dtype == np.uint16
        assert np.array_equal(image, np.broadcast_to(deep, (5, 7, 3)))

    def test_palette_gives_its_colours(self, tmp_path, png):
        (tmp_path / "a.png").write_bytes(png(4, 1, 8, 3, [[0, 1, 1, 0]], palette=[10, 20, 30, 40, 50, 60]))
        assert load(tmp_path / "a.png").tolist() == [[[30, 20, 10], [60, 50, 40], [60, 50, 40], [30, 20, 10]]]

    def test_alpha_is_refused_with_the_remedy_or_dropped(self, tmp_path):
        path = save(tmp_path / "a.png", np.dstack([IMAGE, np.full((12, 17), 99, np.uint8)]))
        with pytest.raises(BadSampleError, match=r'a\.png.*alpha channel.*alpha="drop"'):
            load(path)
        assert np.array_equal(load(path, alpha="drop"), IMAGE)

    def test_palette_with_transparency_counts_as_alpha(self, tmp_path, png):
        (tmp_path / "a.png").write_bytes(png(2, 1, 8, 3, [[0, 1]], palette=[1, 2, 3, 4, 5, 6], transparency=[0, 255]))
        with pytest.raises(BadSampleError, match="alpha"):
            load(tmp_path / "a.png")

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_exif_rotation(self, tmp_path, kind):
        pil = pytest.importorskip("PIL.Image")
        picture = pil.new("RGB", (20, 10))
        picture.paste((255, 255, 255), (0, 0, 10, 10))  # left half white
        exif = picture.getexif()
        exif[0x112] = 6  # to be turned clockwise: the left side comes to the top
        picture.save(tmp_path / "a", kind, exif=exif, quality=95)
        turned = load(tmp_path / "a")
        assert turned.shape == (20, 10, 3)
        assert turned[:8].min() > 240
        assert turned[12:].max() < 15
        assert load(tmp_path / "a", ignore_orientation=True).shape == (10, 20, 3)

    def test_cmyk_jpeg_is_converted(self, tmp_path):
        pil = pytest.importorskip("PIL.Image")
        pil.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
        assert np.abs(load(tmp_path / "a.jpg").astype(int) - [60, 30, 200]).max() < 12

    def test_an_array_is_taken_as_it_is(self):
        assert LoadImage()(dict(img=IMAGE))["img"] is IMAGE
        with pytest.raises(BadSampleError, match="float32"):
            LoadImage()(dict(img=IMAGE.astype(np.float32)))


class TestImageFaults:
    def test_missing_names_what_is_there(self, tmp_path):
        save(tmp_path / "a.png", IMAGE)
        with pytest.raises(BadSampleError, match=r"^.*a\.jpg: file does not exist; there is a\.png"):
            load(tmp_path / "a.jpg")

    def test_folder_given_as_file(self, tmp_path):
        with pytest.raises(BadSampleError, match="cannot be read"):
            load(tmp_path)

    def test_zero_bytes(self, tmp_path):
        (tmp_path / "a.jpg").touch()
        with pytest.raises(BadSampleError, match=r"a\.jpg: file is empty"):
            load(tmp_path / "a.jpg")

    def test_text(self, tmp_path):
        (tmp_path / "a.jpg").write_text("no picture at all")
        with pytest.raises(BadSampleError, match=r"a\.jpg: not an image.*17 bytes.*no picture"):
            load(tmp_path / "a.jpg")

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
    @pytest.mark.parametrize("part", [0.5, 0.95])
    def test_truncated(self, tmp_path, suffix, part):
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        data = cv2.imencode(suffix, noise)[1].tobytes()
        path = tmp_path / f"a{suffix}"
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(BadSampleError, match="truncated"):
            load(path)

    def test_bytes_after_the_end_of_a_jpeg_are_fine(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(cv2.imencode(".jpg", IMAGE)[1].tobytes() + b"\0" * 40)
        assert load(tmp_path / "a.jpg").shape == IMAGE.shape

    def test_float_tiff(self, tmp_path):
        path = save(tmp_path / "a.tif", IMAGE.astype(np.float32))
        with pytest.raises(BadSampleError, match=r"a\.tif: holds float32 values"):
            load(path)

    def test_a_picture_of_too_many_pixels(self, tmp_path, png):
        (tmp_path / "bomb.png").write_bytes(png(60000, 60000, 8, 0, [[0]]))
        with pytest.raises(BadSampleError, match=r"bomb\.png"):
            load(tmp_path / "bomb.png")

    def test_wrong_argument(self):
        with pytest.raises(ConfigError, match="alpha"):
            LoadImage(alpha="keep")


PACKED = {  # bits a pixel: two lines of eight pixels as they are in a file
    1: [[0b01101001], [0b11110000]],
    2: [[0b00011011] * 2] * 2,
    4: [[0x01, 0x23, 0x30, 0x12]] * 2,
    8: [[0, 1, 2, 3, 3, 2, 1, 0]] * 2,
}


class TestMasks:
    @pytest.mark.parametrize("colour", [0, 3])
    @pytest.mark.parametrize("depth, rows", PACKED.items())
    def test_indices_of_every_depth(self, tmp_path, colour, depth, rows, png):
        palette = [7] * (3 * 2**depth) if colour == 3 else None  # one colour: only the indices tell classes apart
        (tmp_path / "m.png").write_bytes(png(8, 2, depth, colour, rows, palette))
        bits = np.unpackbits(np.array(rows, np.uint8), axis=1).reshape(2, 8, depth)
        expected = (bits * (1 << np.arange(depth)[::-1])).sum(-1)
        assert np.array_equal(load_mask(tmp_path / "m.png"), expected)

    def test_palette_with_transparency(self, tmp_path, png):
        (tmp_path / "m.png").write_bytes(png(2, 1, 8, 3, [[1, 2]], palette=[0] * 9, transparency=[0, 9]))
        assert load_mask(tmp_path / "m.png", (1, 2)).tolist() == [[1, 2]]

    def test_255_stays_and_reduce_zero_label_moves_the_rest(self, tmp_path):
        path = mask_file(tmp_path / "m.png", [[0, 1, 2, 255]])
        assert load_mask(path, (1, 4)).tolist() == [[0, 1, 2, 255]]
        assert load_mask(path, (1, 4), reduce_zero_label=True).tolist() == [[255, 0, 1, 255]]

    def test_grey_with_transparency(self, tmp_path, png):
        (tmp_path / "m.png").write_bytes(png(2, 1, 8, 0, [[1, 2]], transparency=[0, 1]))
        assert load_mask(tmp_path / "m.png", (1, 2)).tolist() == [[1, 2]]

    def test_label_map(self, tmp_path):
        path = mask_file(tmp_path / "m.png", [[0, 255, 7]])
        assert load_mask(path, (1, 3), classes=("a", "b"), label_map={255: 1, 7: 255}).tolist() == [[0, 1, 255]]

    def test_another_ignored_value_arrives_as_255(self, tmp_path):
        path = mask_file(tmp_path / "m.png", [[0, 1, 99]])
        assert load_mask(path, (1, 3), ignore_index=99).tolist() == [[0, 1, 255]]

    def test_16_bit_file_with_small_values(self, tmp_path):
        path = save(tmp_path / "m.png", np.array([[0, 3]], np.uint16))
        assert load_mask(path, (1, 2)).tolist() == [[0, 3]]
        path = save(tmp_path / "n.png", np.array([[0, 300]], np.uint16))
        with pytest.raises(BadSampleError, match="up to 300"):
            load_mask(path, (1, 2))

    def test_table_by_hand(self):
        table, allowed, identity = label_table(2, True, 255)
        assert (table[:4].tolist(), table[255], identity) == ([255, 0, 1, 2], 255, False)
        assert np.flatnonzero(allowed).tolist() == [0, 1, 2, 255]
        assert label_table(256 - 1, False, 255)[2]

    def test_equals_pillow_on_real_masks(self, real_data):
        pil = pytest.importorskip("PIL.Image")
        files = sorted((real_data / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))[:40]
        for path in files:
            expected = np.array(pil.open(path))
            assert np.array_equal(load_mask(path, expected.shape, classes=None), expected), path


class TestMaskFaults:
    def test_value_outside_the_classes(self, tmp_path):
        path = mask_file(tmp_path / "m.png", [[0, 99, 99, 42]])
        with pytest.raises(BadSampleError, match=r"m\.png.*42 \(1 px\), 99 \(2 px\).*4 classes.*0\.\.3.*255"):
            load_mask(path, (1, 4))

    def test_hint_at_reduce_zero_label(self, tmp_path):
        with pytest.raises(BadSampleError, match="reduce_zero_label=True"):
            load_mask(mask_file(tmp_path / "m.png", [[0, 1, 4]]), (1, 3))

    def test_hint_at_jpeg(self, tmp_path):
        path = save(tmp_path / "m.jpg", np.random.default_rng(0).integers(0, 4, (16, 16), dtype=np.uint8) * 30)
        with pytest.raises(BadSampleError, match="JPEG does not keep values"):
            load_mask(path, (16, 16))

    def test_range_under_reduce_zero_label(self, tmp_path):
        path = mask_file(tmp_path / "m.png", [[0, 4, 5]])
        with pytest.raises(BadSampleError, match=r"5 \(1 px\).*1\.\.4"):
            load_mask(path, (1, 3), reduce_zero_label=True)

    def test_other_size_than_the_image(self, tmp_path):
        with pytest.raises(BadSampleError, match=r"m\.png: the mask is 3x1 but its image x\.jpg is 4x1"):
            load_mask(mask_file(tmp_path / "m.png", [[0, 1, 1]]), (1, 4))

    def test_colour_picture(self, tmp_path):
        with pytest.raises(BadSampleError, match=r"m\.png: is a colour picture with 3 channels"):
            load_mask(save(tmp_path / "m.png", IMAGE), (12, 17))

    def test_missing_empty_and_truncated(self, tmp_path, png):
        with pytest.raises(BadSampleError, match="does not exist"):
            load_mask(tmp_path / "m.png")
        (tmp_path / "m.png").touch()
        with pytest.raises(BadSampleError, match="empty"):
            load_mask(tmp_path / "m.png")
        (tmp_path / "m.png").write_bytes(png(2, 1, 8, 3, [[1, 2]], palette=[0] * 9)[:40])
        with pytest.raises(BadSampleError, match="truncated"):
            load_mask(tmp_path / "m.png")

    def test_dataset_without_masks(self):
        with pytest.raises(DataError, match="seg_map_path"):
            LoadAnnotations()(dict(img_path="a.jpg", seg_path=None))


def test_nothing_is_read_by_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setattr(io, "BytesIO", None)
    assert load(save(tmp_path / "a.jpg", IMAGE)).shape == IMAGE.shape
    assert load_mask(mask_file(tmp_path / "m.png", [[1, 2]]), (1, 2)).tolist() == [[1, 2]]
