"""Resize, crop, flip, pad: hand-computed cases, mmcv's numbers, and the smallest images."""

import cv2
import numpy as np
import pytest

from visionpatch.datasets.transforms import (
    CenterCrop,
    Pad,
    RandomCrop,
    RandomFlip,
    RandomResize,
    RandomResizedCrop,
    Resize,
    ResizeEdge,
)
from visionpatch.datasets.transforms.resize import fit_size
from visionpatch.errors import ConfigError


def sample(height, width, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype=dtype)
    labels = rng.integers(0, 4, (height, width), dtype=np.uint8)
    shape = (height, width)
    return dict(img=image, gt_seg_map=labels, seg_fields=["gt_seg_map"], img_shape=shape, ori_shape=shape)


class TestResize:
    def test_keeps_the_ratio(self):
        results = Resize(scale=(2048, 512), keep_ratio=True)(sample(375, 500))
        assert results["img"].shape == (512, 683, 3)  # 500 * 512 / 375 = 682.67
        assert results["gt_seg_map"].shape == (512, 683)
        assert results["scale_factor"] == (683 / 500, 512 / 375)
        assert results["img_shape"] == (512, 683)
        assert results["ori_shape"] == (375, 500)

    def test_the_scale_may_be_given_either_way_round(self):
        assert fit_size((500, 375), (512, 2048)) == fit_size((500, 375), (2048, 512)) == (683, 512)
        assert fit_size((375, 500), (2048, 512)) == (512, 683)
        assert fit_size((4000, 100), (2048, 512)) == (2048, 51)

    def test_a_divisor_rounds_up(self):
        results = Resize(scale=(2048, 512), keep_ratio=True, size_divisor=32)(sample(375, 500))
        assert results["img"].shape == (512, 704, 3)
        first = Resize(scale=(2048, 512), keep_ratio=True)(sample(375, 500))["img"]
        assert np.array_equal(results["img"], cv2.resize(first, (704, 512)))

    def test_same_size_is_left_alone(self):
        given = sample(8, 9)
        image = given["img"]
        assert Resize(scale=(9, 8))(given)["img"] is image

    def test_labels_are_never_mixed(self):
        given = sample(20, 20)
        given["gt_seg_map"][:] = 255
        given["gt_seg_map"][:10] = 3
        labels = Resize(scale=(77, 131))(given)["gt_seg_map"]
        assert set(np.unique(labels)) == {3, 255}

    def test_edge(self):
        assert ResizeEdge(scale=256)(sample(375, 500))["img"].shape == (256, 341, 3)  # 341.33, rounded down
        assert ResizeEdge(scale=256)(sample(500, 375))["img"].shape == (341, 256, 3)
        assert ResizeEdge(scale=100, edge="long")(sample(50, 200))["img"].shape == (25, 100, 3)

    def test_scale_factor(self):
        assert Resize(scale_factor=0.5)(sample(9, 20))["img"].shape == (5, 10, 3)

    def test_16_bits_stay(self):
        assert Resize(scale=(9, 8))(sample(20, 20, np.uint16))["img"].dtype == np.uint16

    @pytest.mark.parametrize("size", [(375, 500), (500, 375), (333, 500), (97, 31), (1, 7)])
    @pytest.mark.parametrize("keep_ratio", [True, False])
    def test_equals_mmcv(self, size, keep_ratio):
        other = pytest.importorskip("mmcv.transforms").Resize(scale=(300, 200), keep_ratio=keep_ratio)(sample(*size))
        ours = Resize(scale=(300, 200), keep_ratio=keep_ratio)(sample(*size))
        for key in ("img", "gt_seg_map"):
            assert np.array_equal(ours[key], other[key])
        assert ours["scale_factor"] == pytest.approx(other["scale_factor"], rel=1e-6)
        assert ours["img_shape"] == other["img_shape"]

    @pytest.mark.parametrize(
        "args", [dict(scale=(2048, 512), ratio_range=(0.5, 2.0)), dict(scale=[(64, 32), (128, 90)])]
    )
    def test_random_resize_draws_as_mmcv(self, args):
        mmcv = pytest.importorskip("mmcv.transforms")
        theirs = mmcv.RandomResize(keep_ratio=True, resize_type=mmcv.Resize, **args)
        for seed in range(10):
            np.random.seed(seed)
            other = theirs(sample(60, 80))
            np.random.seed(seed)
            assert np.array_equal(RandomResize(keep_ratio=True, **args)(sample(60, 80))["img"], other["img"])

    def test_works_inside_mmcvs_random_choice(self):
        mmcv = pytest.importorskip("mmcv.transforms")
        step = mmcv.RandomChoiceResize(scales=[(32, 24)], resize_type=Resize, keep_ratio=True)
        assert step(sample(60, 80))["img"].shape == (24, 32, 3)

    def test_faults(self):
        with pytest.raises(ConfigError, match='unknown interpolation "bilinar"; did you mean "bilinear"'):
            Resize(scale=(8, 8), interpolation="bilinar")
        with pytest.raises(ConfigError, match="scale or scale_factor"):
            Resize()
        with pytest.raises(ConfigError, match="positive integer"):
            Resize(scale=(-1, 8))
        with pytest.raises(ConfigError, match="ratio_range"):
            RandomResize(scale=(8, 8), ratio_range=(2.0, 0.5))
        with pytest.raises(ConfigError, match="two scales"):
            RandomResize(scale=(8, 8))


class TestCrop:
    def test_image_and_labels_stay_together(self):
        given = sample(40, 50)
        given["img"][..., 0] = given["gt_seg_map"]
        results = RandomCrop(crop_size=(16, 24))(given)
        assert results["img"].shape == (16, 24, 3)
        assert results["img_shape"] == (16, 24)
        assert np.array_equal(results["img"][..., 0], results["gt_seg_map"])
        assert np.shares_memory(results["img"], given["img"])

    def test_covers_every_offset(self):
        given = sample(4, 5)
        given["img"][..., 0] = np.arange(20).reshape(4, 5)
        corners = {int(RandomCrop(crop_size=(3, 3))(dict(given))["img"][0, 0, 0]) for _ in range(300)}
        assert corners == {0, 1, 2, 5, 6, 7}

    def test_avoids_windows_of_one_class(self):
        labels = np.zeros((100, 100), np.uint8)
        labels[:, 90:] = 1
        share = []
        for seed in range(50):
            np.random.seed(seed)
            crop = RandomCrop(crop_size=(20, 20), cat_max_ratio=0.75)
            out = crop(dict(img=np.zeros((100, 100, 3), np.uint8), gt_seg_map=labels, seg_fields=["gt_seg_map"]))
            share.append(out["gt_seg_map"].mean() > 0.25)
        assert np.mean(share) > 0.4  # a window at random does so with probability 5/81

    def test_same_window_as_the_definition(self):
        def by_definition(labels, size, ratio):
            def draw():
                top = np.random.randint(0, labels.shape[0] - size + 1)
                left = np.random.randint(0, labels.shape[1] - size + 1)
                return labels[top : top + size, left : left + size]

            window = draw()
            for _ in range(10):
                values, counts = np.unique(window, return_counts=True)
                counts = counts[values != 255]
                if len(counts) > 1 and counts.max() / counts.sum() < ratio:
                    break
                window = draw()
            return window

        labels = cv2.resize(np.random.default_rng(0).integers(0, 3, (6, 6), dtype=np.uint8), (60, 60), interpolation=0)
        labels[20:30] = 255
        for seed in range(40):
            np.random.seed(seed)
            expected = by_definition(labels, 12, 0.6)
            np.random.seed(seed)
            given = dict(img=np.zeros((60, 60, 3), np.uint8), gt_seg_map=labels, seg_fields=["gt_seg_map"])
            assert np.array_equal(RandomCrop(crop_size=12, cat_max_ratio=0.6)(given)["gt_seg_map"], expected)

    def test_image_smaller_than_the_window_is_filled_by_pad(self):
        results = Pad(size=(24, 16))(RandomCrop(crop_size=(16, 24), cat_max_ratio=0.75)(sample(10, 40)))
        assert results["img"].shape == (16, 24, 3)
        assert (results["img"][10:] == 0).all()
        assert (results["gt_seg_map"][10:] == 255).all()
        assert (results["gt_seg_map"][:10] < 4).all()
        assert (results["img_shape"], results["pad_shape"]) == ((10, 24), (16, 24))

    def test_center(self):
        given = sample(10, 21)
        assert np.array_equal(CenterCrop((4, 7))(dict(given))["img"], given["img"][3:7, 7:14])
        assert CenterCrop(32)(dict(given))["img"].shape == (10, 21, 3)

    def test_random_resized(self):
        crop = RandomResizedCrop(scale=(16, 24), crop_ratio_range=(0.2, 0.5))
        for seed in range(20):
            np.random.seed(seed)
            rows, columns = crop._draw(60, 80)
            area = (rows.stop - rows.start) * (columns.stop - columns.start)
            assert 0.18 < area / 4800 < 0.52
            assert 0.7 < (columns.stop - columns.start) / (rows.stop - rows.start) < 1.4
            assert crop(sample(60, 80))["img"].shape == (16, 24, 3)
        window = RandomResizedCrop(scale=8, crop_ratio_range=(1.0, 1.0))._draw(10, 100)
        assert (window[0], window[1]) == (slice(0, 10), slice(43, 56))  # nothing fits: 4:3 in the middle


FLIPPED = dict(horizontal=np.fliplr, vertical=np.flipud, diagonal=lambda array: array[::-1, ::-1])
FLIPS = [
    (0.5, "horizontal"),
    (0.6, ["horizontal", "vertical"]),
    ([0.2, 0.3, 0.1], ["horizontal", "vertical", "diagonal"]),
]


class TestFlipAndPad:
    @pytest.mark.parametrize("direction, expected", FLIPPED.items())
    def test_directions(self, direction, expected):
        given = sample(5, 7)
        results = RandomFlip(prob=1.0, direction=direction)(dict(given))
        assert np.array_equal(results["img"], expected(given["img"]))
        assert np.array_equal(results["gt_seg_map"], expected(given["gt_seg_map"]))
        assert (results["flip"], results["flip_direction"]) == (True, direction)

    @pytest.mark.parametrize("prob, direction", FLIPS)
    def test_draws_as_mmcv(self, prob, direction):
        theirs = pytest.importorskip("mmcv.transforms").RandomFlip(prob=prob, direction=direction)
        for seed in range(60):
            np.random.seed(seed)
            other = theirs(sample(4, 6))
            np.random.seed(seed)
            ours = RandomFlip(prob=prob, direction=direction)(sample(4, 6))
            assert (ours["flip"], ours["flip_direction"]) == (other["flip"], other["flip_direction"])
            assert np.array_equal(ours["img"], other["img"])

    def test_pad_to_a_multiple(self):
        results = Pad(size_divisor=32, pad_val=dict(img=9))(sample(33, 64))
        assert results["img"].shape == (64, 64, 3)
        assert (results["img"][33:] == 9).all()
        assert (results["gt_seg_map"][33:] == 255).all()
        assert results["pad_shape"] == (64, 64)

    def test_nothing_to_pad(self):
        given = sample(32, 64)
        assert Pad(size_divisor=32)(dict(given))["img"] is given["img"]

    def test_faults(self):
        with pytest.raises(ConfigError, match='did you mean "horizontal"'):
            RandomFlip(direction="horizontl")
        with pytest.raises(ConfigError, match="prob"):
            RandomFlip(prob=1.5)
        with pytest.raises(ConfigError, match="size or size_divisor"):
            Pad()
        with pytest.raises(ConfigError, match="pad_val"):
            Pad(size=8, pad_val=dict(mask=0))


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_smallest_images_survive(size, dtype):
    steps = [
        RandomResize(scale=(256, 64), ratio_range=(0.5, 2.0), keep_ratio=True, size_divisor=8),
        Resize(scale=(100, 30), keep_ratio=True),
        RandomCrop(crop_size=(32, 48), cat_max_ratio=0.75),
        RandomFlip(prob=1.0, direction="diagonal"),
        Pad(size=(48, 32)),
    ]
    results = sample(*size, dtype=dtype)
    for step in steps:
        results = step(results)
    assert results["img"].shape == (32, 48, 3)
    assert results["img"].dtype == dtype
    assert results["gt_seg_map"].shape == (32, 48)
