"""RandAugment, ColorJitter and RandomErasing: operations by hand and against Pillow, and what is drawn how often."""

import cv2
import numpy as np
import pytest

from visionpatch.datasets.transforms import ColorJitter, Compose, RandAugment, RandomErasing
from visionpatch.datasets.transforms import image_ops as ops
from visionpatch.datasets.transforms.rand_augment import OPERATIONS
from visionpatch.errors import ConfigError
from visionpatch.random_state import seeded

FILL = (104, 116, 124)
NOISE = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
SMOOTH = cv2.GaussianBlur(cv2.resize(NOISE, (60, 44), interpolation=cv2.INTER_CUBIC), (0, 0), 3)


def grey(*rows: list[int]) -> np.ndarray:
    return np.repeat(np.array(rows, np.uint8)[..., None], 3, axis=2)


ROW = grey([10, 60, 127, 128, 200, 250])


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (ops.brightness(ROW, 1.5), [15, 90, 190, 192, 255, 255]),
        (ops.brightness(ROW, 0.19), [1, 11, 24, 24, 38, 47]),
        (ops.contrast(ROW, 0.5), [69, 94, 128, 128, 164, 189]),  # around 129, their mean
        (ops.contrast(ROW, 2.0), [0, 0, 125, 127, 255, 255]),
        (ops.saturation(ROW, 1.9), [10, 60, 127, 128, 200, 250]),
        (ops.invert(ROW), [245, 195, 128, 127, 55, 5]),
        (ops.posterize(ROW, 1), [0, 0, 0, 128, 128, 128]),
        (ops.posterize(ROW, 4), [0, 48, 112, 128, 192, 240]),
        (ops.posterize(ROW, 0), [0] * 6),
        (ops.solarize(ROW, 128), [10, 60, 127, 127, 55, 5]),
        (ops.solarize(ROW, 256), [10, 60, 127, 128, 200, 250]),
        (ops.solarize_add(ROW, 99), [109, 159, 226, 128, 200, 250]),
        (ops.auto_contrast(ROW), [0, 53, 124, 125, 201, 255]),
        (ops.auto_contrast(ROW[:, :1]), [10]),
        (ops.translate_x(ROW, 1 / 3, FILL, cv2.INTER_NEAREST)[..., :1], [127, 128, 200, 250, 104, 104]),
        (ops.translate_x(ROW, -1 / 6, FILL, cv2.INTER_NEAREST)[..., 2:], [124, 10, 60, 127, 128, 200]),
        (ops.equalize(ROW), [10, 60, 127, 128, 200, 250]),  # too few pixels
    ],
)
def test_by_hand(result, expected):
    assert result[0, :, 0].tolist() == expected


def test_equalize_by_hand():
    """765 pixels below the brightest level make steps of 3: (1 + 0) / 3, (1 + 255) / 3 and (1 + 765) / 3."""
    image = grey([100] * 255 + [110] * 510 + [120] * 255)
    assert sorted(set(ops.equalize(image)[0, :, 0].tolist())) == [0, 85, 255]


def test_saturation_and_hue_by_hand():
    orange = np.array([[[0, 100, 200]]], np.uint8)  # BGR; grey 0.299 x 200 + 0.587 x 100 = 118.5
    assert ops.saturation(orange, 0.0)[0, 0].tolist() == [119, 119, 119]
    assert np.abs(ops.saturation(orange, 0.5)[0, 0].astype(int) - [59.5, 109.5, 159.5]).max() <= 0.5
    red = np.array([[[0, 0, 255]]], np.uint8)
    assert np.abs(ops.hue(red, 1 / 3)[0, 0].astype(int) - [0, 255, 0]).max() <= 6  # green, a turn of 85 / 256
    assert np.abs(ops.hue(red, -1 / 3)[0, 0].astype(int) - [255, 0, 0]).max() <= 6  # blue
    assert np.abs(ops.hue(orange, 0.0).astype(int) - orange).max() <= 3


def test_sharpness_keeps_the_rim_and_smooths_the_inside():
    image = np.zeros((3, 3, 3), np.uint8)
    image[1, 1] = 130
    assert ops.sharpness(image, 0.0)[1, 1].tolist() == [50, 50, 50]  # 5 / 13 of it
    assert ops.sharpness(image, 1.9)[1, 1].tolist() == [202, 202, 202]  # 130 + 0.9 x 80
    image[0] = 39
    assert (ops.sharpness(image, 0.0)[0] == 39).all()


def test_rotation_by_a_quarter_turns_counter_clockwise():
    square = SMOOTH[:40, :40]
    turned = ops.rotate(square, 90, FILL, cv2.INTER_CUBIC)
    assert np.abs(turned.astype(int) - np.rot90(square)).max() <= 1


def test_operations_equal_pillows():
    image_module, enhance, chops = (pytest.importorskip(f"PIL.{n}") for n in ("Image", "ImageEnhance", "ImageOps"))
    affine, bicubic = image_module.Transform.AFFINE, image_module.Resampling.BICUBIC

    def warp(image, *matrix):
        return image.transform(image.size, affine, matrix, bicubic, fillcolor=FILL[::-1])

    pairs = {
        "brightness": (lambda i: ops.brightness(i, 1.7), lambda p: enhance.Brightness(p).enhance(1.7), 0),
        "contrast": (lambda i: ops.contrast(i, 0.3), lambda p: enhance.Contrast(p).enhance(0.3), 1),
        "saturation": (lambda i: ops.saturation(i, 1.9), lambda p: enhance.Color(p).enhance(1.9), 2),
        "less": (lambda i: ops.saturation(i, 0.19), lambda p: enhance.Color(p).enhance(0.19), 1),
        "sharpness": (lambda i: ops.sharpness(i, 1.9), lambda p: enhance.Sharpness(p).enhance(1.9), 2),
        "auto": (ops.auto_contrast, chops.autocontrast, 0),
        "equalize": (ops.equalize, chops.equalize, 0),
        "invert": (ops.invert, chops.invert, 0),
        "posterize": (lambda i: ops.posterize(i, 3), lambda p: chops.posterize(p, 3), 0),
        "solarize": (lambda i: ops.solarize(i, 90), lambda p: chops.solarize(p, 90), 0),
        "rotate": (
            lambda i: ops.rotate(i, 17, FILL, cv2.INTER_CUBIC),
            lambda p: p.rotate(17, bicubic, fillcolor=FILL[::-1]), 3,
        ),
        "shear x": (lambda i: ops.shear_x(i, 0.27, FILL, cv2.INTER_CUBIC), lambda p: warp(p, 1, 0.27, 0, 0, 1, 0), 3),
        "shear y": (lambda i: ops.shear_y(i, -0.2, FILL, cv2.INTER_CUBIC), lambda p: warp(p, 1, 0, 0, -0.2, 1, 0), 3),
        "translate y": (
            lambda i: ops.translate_y(i, 0.25, FILL, cv2.INTER_CUBIC),
            lambda p: warp(p, 1, 0, 0, 0, 1, 11), 0,
        ),
    }  # fmt: skip
    for name, (ours, pillows, bound) in pairs.items():
        before = SMOOTH.copy()
        result = ours(SMOOTH)
        expected = np.array(pillows(image_module.fromarray(SMOOTH[..., ::-1])))[..., ::-1]
        difference = np.abs(result.astype(int) - expected)
        assert np.array_equal(SMOOTH, before), f"{name} writes to its input"
        if name in ("rotate", "shear x", "shear y"):  # the two fade differently into what lies around
            assert (difference.max(2) <= bound).mean() > 0.9, name
            inside = cv2.erode((expected != FILL).any(2).astype(np.uint8), np.ones((7, 7)), borderValue=0) > 0
            assert inside.mean() > 0.3 and difference[inside].max() <= bound, name
        else:
            assert difference.max() <= bound, (name, difference.max())


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_at_every_strength(name):
    for level in (0, 5, 10):
        for seed in range(4):
            np.random.seed(seed)
            image = RandAugment(level, 1.0, 1, prob=1, policies=[name])(dict(img=SMOOTH))["img"]
            assert image.shape == SMOOTH.shape and image.dtype == np.uint8


def test_strengths_of_the_recipe(monkeypatch):
    """Magnitude 9 of 10: what timm's increasing operations are given."""
    given = {}
    monkeypatch.setattr(np.random, "randint", lambda *a, size=None: np.zeros(size, int) if size else 1)  # minus
    monkeypatch.setattr(np.random, "random_sample", lambda: 0.0)
    for name, (_, amount, signed) in OPERATIONS.items():
        monkeypatch.setitem(OPERATIONS, name, (lambda i, *a, name=name: given.update({name: a}) or i, amount, signed))
        RandAugment(9, 0, 1, policies=[name])(dict(img=SMOOTH))
    first = {name: round(arguments[0], 6) for name, arguments in given.items() if arguments}
    assert first == dict(
        Rotate=-27, Posterize=1, Solarize=26, SolarizeAdd=99, Color=0.19, Contrast=0.19, Brightness=0.19,
        Sharpness=0.19, ShearX=-0.27, ShearY=-0.27, TranslateX=-0.405, TranslateY=-0.405,
    )  # fmt: skip
    assert given["Invert"] == () and given["ShearX"][1:] == (FILL, cv2.INTER_CUBIC)


def test_how_often_and_how_strong():
    """Invert alone, twice at probability one half: 1/4 + 1/4 leave the picture as it is."""
    np.random.seed(0)
    step = RandAugment(policies=["Invert"])
    same = sum(np.array_equal(step(dict(img=SMOOTH))["img"], SMOOTH) for _ in range(1000))
    assert same == pytest.approx(500, abs=60)
    np.random.seed(0)
    kept = [
        step(dict(img=grey([255])))["img"][0, 0, 0]
        for step in [RandAugment(5, 2.0, 1, prob=1, policies=["Posterize"])] * 500
    ]
    bits = np.array([bin(value).count("1") for value in kept])  # 4 - int(4 s), s ~ N(0.5, 0.2)
    # 3: 0.25 <= s < 0.5, 0.394; 2: 0.394; 1: 0.1; 4: 0.106; 0: s >= 1, 0.006
    shares = np.bincount(bits, minlength=5) / 500
    assert shares.tolist() == pytest.approx([0.006, 0.1, 0.394, 0.394, 0.106], abs=0.07)


def test_drawn_from_the_sample_alone():
    step = Compose(
        [dict(type="RandAugment"), dict(type="ColorJitter", brightness=0.4, hue=0.1), dict(type="RandomErasing")]
    )

    def run(index):
        with seeded(7, 0, index):
            return step(dict(img=SMOOTH.copy()))["img"]

    assert all(np.array_equal(run(i), run(i)) for i in range(5))
    assert len({run(i).tobytes() for i in range(5)}) == 5


class TestColorJitter:
    def test_factors_lie_in_the_range_and_neutral_steps_are_left_out(self):
        np.random.seed(0)
        step = ColorJitter(brightness=0.4)
        values = [int(step(dict(img=grey([100])))["img"][0, 0, 0]) for _ in range(300)]
        assert min(values) == pytest.approx(60, abs=1) and max(values) == pytest.approx(139, abs=1)
        assert ColorJitter()(dict(img=SMOOTH))["img"] is SMOOTH
        assert ColorJitter(brightness=(0.5, 0.5))(dict(img=ROW))["img"][0, :, 0].tolist() == [5, 30, 63, 64, 100, 125]

    def test_order_is_random(self):
        """Brightness 2 and contrast 0 of a dark and a bright pixel: twice their mean, or that of the clipped ones."""
        np.random.seed(0)
        step = ColorJitter(brightness=(2, 2), contrast=(0, 0))
        values = [int(step(dict(img=grey([20, 220])))["img"][0, 0, 0]) for _ in range(100)]
        assert set(values) == {240, 148}
        assert 30 < values.count(240) < 70

    @pytest.mark.parametrize(
        "arguments", [dict(brightness=-0.1), dict(hue=0.6), dict(contrast=(1.2, 0.8)), dict(hue=-0.1)]
    )
    def test_wrong_ranges(self, arguments):
        with pytest.raises(ConfigError, match=f"ColorJitter: {next(iter(arguments))}"):
            ColorJitter(**arguments)


class TestRandomErasing:
    def test_area_aspect_and_probability(self):
        np.random.seed(0)
        step, areas, aspects = RandomErasing(mode="const", fill_color=(255, 0, 0)), [], []
        for _ in range(2000):
            given = np.zeros((60, 80, 3), np.uint8)
            mask = step(dict(img=given))["img"][..., 0] == 255
            assert not given.any()
            if mask.any():
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                h, w = np.ptp(rows) + 1, np.ptp(columns) + 1
                assert mask.sum() == h * w  # one rectangle
                areas.append(mask.mean())
                aspects.append(h / w)
        assert len(areas) == pytest.approx(500, abs=60)
        assert 0.018 < min(areas) < 0.04 and 0.28 < max(areas) < 0.35
        assert min(aspects) < 0.4 and 2.5 < max(aspects) < 3.6
        assert np.median(aspects) == pytest.approx(1, abs=0.15)

    def test_noise_has_the_mean_and_spread_given(self):
        np.random.seed(0)
        step = RandomErasing(1.0, 0.3, 1 / 3, aspect_range=1.5, fill_std=(20, 20, 20))
        image = step(dict(img=np.zeros((90, 90, 3), np.uint8)))["img"]
        erased = image[(image > 0).any(2)].astype(float)
        assert len(erased) > 0.29 * 8100
        assert erased.mean(0) == pytest.approx([103.53, 116.28, 123.675], abs=1.5)
        assert erased.std(0) == pytest.approx([20, 20, 20], abs=1)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (dict(erase_prob=1.5), r"erase_prob is in \[0, 1\], not 1.5"),
            (dict(min_area_ratio=0.5), "min_area_ratio"),
            (dict(mode="pixel"), "unknown mode 'pixel'; valid: const, rand"),
            (dict(fill_color=(1, 2)), "fill_color is three numbers"),
        ],
    )
    def test_faults(self, arguments, message):
        with pytest.raises(ConfigError, match=message):
            RandomErasing(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(magnitude_level=11), "magnitude_level=11 is in"),
        (dict(num_policies=0), "num_policies is a positive integer, not 0"),
        (dict(policies=["Solarise"]), "unknown policy 'Solarise'; did you mean \"Solarize\""),
        (dict(policies=[]), "names at least one"),
        (dict(interpolation="cubic"), 'unknown interpolation "cubic"; did you mean "bicubic"'),
        (dict(prob=2), r"prob is in \[0, 1\]"),
    ],
)
def test_faults_of_rand_augment(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RandAugment(**arguments)


def test_pictures_with_label_maps_or_of_16_bits_are_refused():
    with pytest.raises(ConfigError, match=r"moves the pixels of a\.png, and its label map or boxes would stay"):
        RandAugment()(dict(img=SMOOTH, img_path="a.png", seg_fields=["gt_seg_map"]))
    for step in (RandAugment(), ColorJitter(0.4), RandomErasing()):
        with pytest.raises(ConfigError, match=rf"{type(step).__name__} takes 8-bit images, but a\.png holds uint16"):
            step(dict(img=SMOOTH.astype(np.uint16), img_path="a.png"))
