"""The few-shot transforms, against small pictures worked out by hand and their published parameters."""

import inspect
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from visionpatch.datasets.transforms import (
    ForegroundCrop,
    LoadImage,
    PackInputs,
    RandomGaussianBlur,
    RandomRotate,
    RandomScale,
    ResizeToCanvas,
    SelectClass,
)
from visionpatch.datasets.transforms.few_shot import MEAN_COLOUR
from visionpatch.errors import BadSampleError, ConfigError


def sample(height: int, width: int, labels: np.ndarray | None = None, value: int = 200) -> dict[str, Any]:
    labels = np.zeros((height, width), np.uint8) if labels is None else labels
    image = np.full((height, width, 3), value, np.uint8)
    return dict(img=image, gt_seg_map=labels, seg_fields=["gt_seg_map"], img_path="a.png", img_shape=(height, width))


def test_select_class() -> None:
    labels = np.array([[0, 3, 255], [2, 3, 3]], np.uint8)
    made = SelectClass()(sample(2, 3, labels) | dict(class_id=3, ann_type="mask"))
    assert made["gt_seg_map"].tolist() == [[0, 1, 255], [0, 1, 1]] and made["gt_seg_map"].dtype == np.uint8
    assert labels[1, 0] == 2  # the array given is not changed
    with pytest.raises(BadSampleError, match=r"^a\.png: no pixel of the mask has the class 1"):
        SelectClass()(sample(2, 3, labels) | dict(class_id=1))
    with pytest.raises(ConfigError, match="EpisodeDataset"):
        SelectClass()(sample(2, 3, labels))


def test_boxes_around_each_part_are_one_pixel_larger() -> None:
    labels = np.zeros((8, 10), np.uint8)
    labels[1, 1] = labels[2, 2] = 5  # neighbours at a corner: one part
    labels[6, 7:9] = labels[5, 9] = 5  # another one, at the right edge
    labels[3, 3] = 255  # stays unknown, in the box of the first part
    made = SelectClass()(sample(8, 10, labels) | dict(class_id=5, ann_type="bbox"))["gt_seg_map"]
    expected = np.zeros((8, 10), int)
    expected[1:4, 1:4] = 1
    expected[5:8, 7:10] = 1
    expected[3, 3] = 255
    assert (made == expected).all()


def test_random_scale_keeps_the_ratio() -> None:
    sizes = []
    for seed in range(30):
        np.random.seed(seed)
        made = RandomScale((0.5, 1.5))(sample(100, 200))
        height, width = made["img_shape"]
        assert abs(width - 2 * height) <= 1 and made["gt_seg_map"].shape == (height, width)
        sizes.append(height)
    assert min(sizes) >= 50 and max(sizes) <= 150 and max(sizes) - min(sizes) > 60
    assert RandomScale((1.2, 1.2))(sample(10, 15))["img_shape"] == (12, 18)
    with pytest.raises(ConfigError, match="scale_range"):
        RandomScale((0, 1))


def test_random_rotate_turns_image_and_labels_together() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 30:60] = 1
    given = sample(60, 80, labels)
    given["img"][labels == 1] = 0
    np.random.seed(0)
    made = RandomRotate(degree=10, prob=1)(given)
    assert made["img"].shape == (60, 80, 3) and not np.array_equal(made["gt_seg_map"], labels)
    inside = made["gt_seg_map"] == 1
    assert 0.95 < inside.sum() / 600 < 1.05
    assert ((made["img"][..., 0] < 100) == inside)[made["gt_seg_map"] != 255].mean() > 0.99
    corner = made["gt_seg_map"] == 255
    assert corner[0, 0] or corner[0, -1]
    where = (0, 0) if corner[0, 0] else (0, 79)
    assert made["img"][where].tolist() == list(MEAN_COLOUR)
    still = sample(60, 80, labels)
    assert np.array_equal(RandomRotate(prob=0)(dict(still))["img"], still["img"])
    with pytest.raises(ConfigError, match="does not move boxes"):
        RandomRotate()(sample(9, 9) | dict(gt_bboxes=np.zeros((0, 4))))
    with pytest.raises(ConfigError, match="prob is in"):
        RandomRotate(prob=2)


def test_random_gaussian_blur_is_that_of_opencv() -> None:
    given = sample(20, 20)
    given["img"][10, 10] = 0
    expected = cv2.GaussianBlur(given["img"], (5, 5), 0)
    assert np.array_equal(RandomGaussianBlur(prob=1)(dict(given))["img"], expected)
    assert np.array_equal(RandomGaussianBlur(prob=0)(dict(given))["img"], given["img"])
    with pytest.raises(ConfigError, match="odd"):
        RandomGaussianBlur(4)


def test_foreground_crop_keeps_85_percent_where_it_can() -> None:
    labels = np.zeros((100, 120), np.uint8)
    labels[40:60, 40:60] = 1
    for seed in range(20):
        np.random.seed(seed)
        made = ForegroundCrop(50)(sample(100, 120, labels))
        assert made["img"].shape == (50, 50, 3)
        assert (made["gt_seg_map"] == 1).sum() >= 340
    for tries, expected in ((31, 32), (0, 1)):  # further windows while none is good enough; the last one is taken
        crop, windows = ForegroundCrop(10, tries=tries), []
        draw = crop._draw
        crop._draw = lambda size, draw=draw, kept=windows: kept.append(draw(size)) or kept[-1]  # type: ignore
        made = crop(sample(100, 120, labels))
        assert len(windows) == expected
        assert np.array_equal(made["gt_seg_map"], labels[windows[-1]])


def test_foreground_crop_pads_around_a_smaller_picture() -> None:
    labels = np.ones((4, 12), np.uint8)
    made = ForegroundCrop((9, 10))(sample(4, 12, labels))
    assert made["img"].shape == (9, 10, 3) and made["img_shape"] == (9, 10)
    assert (made["gt_seg_map"][2:6] == 1).all()  # 5 rows are added: 2 above, 3 below
    assert (made["gt_seg_map"][:2] == 255).all() and (made["gt_seg_map"][6:] == 255).all()
    assert made["img"][0, 0].tolist() == [104, 116, 124] and made["img"][3, 3].tolist() == [200] * 3


@pytest.mark.parametrize(
    "size, arguments, shape",
    [
        ((375, 500), dict(size=473), (352, 472)),  # 500 -> 473 -> 472; 375 * 0.946 = 354.75 -> 354 -> 352
        ((500, 375), dict(size=473), (472, 352)),
        ((473, 473), dict(size=473), (472, 472)),
        ((100, 50), dict(size=473), (472, 232)),  # enlarged
        ((100, 50), dict(size=473, shrink_only=True), (100, 50)),
        ((500, 250), dict(size=473, shrink_only=True), (472, 232)),
        ((100, 50), dict(size=80, size_divisor=1), (80, 40)),
        ((1000, 10), dict(size=80), (80, 1)),  # shorter than the divisor
    ],
)
def test_resize_to_canvas(size: tuple, arguments: dict, shape: tuple) -> None:
    made = ResizeToCanvas(**arguments)(sample(*size))
    side = arguments["size"]
    assert made["img"].shape == (side, side, 3) and made["img_shape"] == shape and made["pad_shape"] == (side, side)
    height, width = shape
    assert (made["img"][:height, :width] == 200).all() and (made["gt_seg_map"][:height, :width] == 0).all()
    assert made["img"][height:].sum() == made["img"][:, width:].sum() == 0
    assert (made["gt_seg_map"][height:] == 255).all() and (made["gt_seg_map"][:, width:] == 255).all()
    with pytest.raises(ConfigError, match="size"):
        ResizeToCanvas(4)


def test_float_images_are_resized_without_rounding() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    packed = {}
    for exact in (False, True):
        results = LoadImage(to_float32=exact)(dict(img=image, img_path="a.png"))
        packed[exact] = PackInputs()(ResizeToCanvas(64)(results))["inputs"]
    assert packed[True].dtype == torch.float32 and packed[False].dtype == torch.uint8
    expected = cv2.resize(image.astype(np.float32), (64, 48), interpolation=cv2.INTER_LINEAR)
    assert (packed[True][:, :48].permute(1, 2, 0).numpy() == expected).all()
    difference = (packed[True] - packed[False].float()).abs().max()
    assert 0.3 < difference < 1.01


def test_the_defaults_are_the_published_ones() -> None:
    def defaults(kind: type) -> dict[str, Any]:
        return {name: p.default for name, p in inspect.signature(kind).parameters.items()}

    assert defaults(RandomScale)["scale_range"] == (0.9, 1.1)
    assert (defaults(RandomRotate)["degree"], defaults(RandomRotate)["prob"]) == (10, 0.5)
    assert (defaults(RandomGaussianBlur)["kernel_size"], defaults(RandomGaussianBlur)["prob"]) == (5, 0.5)
    crop = defaults(ForegroundCrop)
    assert (crop["crop_size"], crop["min_share"], crop["tries"]) == (473, 0.85, 31)
    canvas = defaults(ResizeToCanvas)
    assert (canvas["size"], canvas["size_divisor"], canvas["pad_val"], canvas["seg_pad_val"]) == (473, 8, 0, 255)
