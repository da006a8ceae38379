"""Boxes and masks under every transform: worked out by hand, there and back again, and masks against their boxes."""

import numpy as np
import pytest
import torch

from visionpatch.datasets.objects import ImageObjects, ObjectRecord
from visionpatch.datasets.transforms import (
    CenterCrop,
    FilterAnnotations,
    LargeScaleJitter,
    LoadAnnotations,
    PackInputs,
    Pad,
    RandomChoiceResize,
    RandomCrop,
    RandomFlip,
    RandomResize,
    RandomResizedCrop,
    Resize,
    ResizeEdge,
)
from visionpatch.datasets.transforms.instances import boxes_of
from visionpatch.errors import BadSampleError, ConfigError, DataError

BOXES = [[2, 1, 8, 5], [10, 6, 19, 12], [0, 0, 20, 12]]


def sample(boxes=BOXES, height=12, width=20, masks=True):
    """A picture with objects that fill their boxes; the last one is a crowd."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    made = dict(
        img=np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8),
        img_shape=(height, width),
        ori_shape=(height, width),
        gt_bboxes=boxes,
        gt_bboxes_labels=np.arange(len(boxes)),
        gt_ignore_flags=np.arange(len(boxes)) == 2,
    )
    if masks:
        made["gt_masks"] = np.zeros((len(boxes), height, width), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(made["gt_masks"], boxes.astype(int)):
            mask[y1:y2, x1:x2] = 1
    return made


def boxes(results):
    assert results["gt_bboxes"].dtype == np.float32
    return results["gt_bboxes"].tolist()


def consistent(results, slack=0.0):
    """Masks, boxes and picture have one size, and each mask fills its box."""
    masks, (height, width) = results["gt_masks"], results["img"].shape[:2]
    assert masks.dtype == np.uint8
    assert masks.shape == (len(results["gt_bboxes"]), height, width)
    assert len(results["gt_bboxes_labels"]) == len(results["gt_ignore_flags"]) == len(masks)
    assert np.abs(boxes_of(masks) - results["gt_bboxes"]).max(initial=0) <= slack
    return True


class TestResize:
    def test_by_hand(self):
        results = Resize(scale=(40, 36))(sample())  # twice as wide, three times as high
        assert boxes(results) == [[4, 3, 16, 15], [20, 18, 38, 36], [0, 0, 40, 36]]
        assert consistent(results)

    def test_with_a_divisor(self):
        results = Resize(scale=(40, 24), keep_ratio=True, size_divisor=16)(sample())
        assert results["img"].shape == (32, 48, 3)
        assert np.allclose(results["gt_bboxes"], np.float32(BOXES) * [2.4, 32 / 12, 2.4, 32 / 12])
        assert consistent(results, slack=1)

    def test_there_and_back(self):
        results = Resize(scale=(20, 12))(Resize(scale=(60, 36))(sample()))
        assert np.allclose(results["gt_bboxes"], BOXES, atol=1e-5)
        assert np.array_equal(results["gt_masks"], sample()["gt_masks"])

    def test_areas_follow_the_scale(self):
        results = Resize(scale=(731, 457))(sample())
        expected = np.prod(np.diff(np.float32(BOXES).reshape(-1, 2, 2), axis=1)[:, 0], axis=1) * 731 * 457 / 240
        assert results["gt_masks"].sum((1, 2)) == pytest.approx(expected, rel=0.01)

    @pytest.mark.parametrize("step", [
        RandomResize(scale=(40, 24), ratio_range=(0.5, 2.0), keep_ratio=True), ResizeEdge(scale=30),
        RandomChoiceResize(scales=[(30, 20), (60, 40)], keep_ratio=True),
    ])  # fmt: skip
    def test_other_resizes(self, step):
        results = step(sample())
        height, width = results["img"].shape[:2]
        factors = [width / 20, height / 12] * 2
        assert np.allclose(results["gt_bboxes"], np.float32(BOXES) * np.float32(factors), atol=1e-4)
        assert consistent(results, slack=1)

    def test_choice_takes_every_scale(self):
        step = RandomChoiceResize(scales=[(30, 20), (60, 40), (9, 9)])
        np.random.seed(0)
        sizes = [step(sample(masks=False))["img"].shape[:2] for _ in range(200)]
        assert {size: 40 < sizes.count(size) < 95 for size in sizes} == {(20, 30): True, (40, 60): True, (9, 9): True}
        with pytest.raises(ConfigError, match="scales is a list"):
            RandomChoiceResize(scales=[])

    def test_without_objects(self):
        results = Resize(scale=(40, 36))(sample([]))
        assert results["gt_masks"].shape == (0, 36, 40)
        assert boxes(results) == []


class TestFlip:
    @pytest.mark.parametrize("direction, expected", [
        ("horizontal", [12, 1, 18, 5]), ("vertical", [2, 7, 8, 11]), ("diagonal", [12, 7, 18, 11]),
    ])  # fmt: skip
    def test_by_hand(self, direction, expected):
        results = RandomFlip(prob=1.0, direction=direction)(sample())
        assert boxes(results)[0] == expected
        assert boxes(results)[2] == [0, 0, 20, 12]
        assert consistent(results)

    @pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
    def test_twice_is_nothing(self, direction):
        step = RandomFlip(prob=1.0, direction=direction)
        results, given = step(step(sample())), sample()
        for key in ("img", "gt_bboxes", "gt_masks"):
            assert np.array_equal(results[key], given[key])

    def test_the_given_boxes_stay(self):
        given = sample()
        before = given["gt_bboxes"]
        RandomFlip(prob=1.0)(given)
        assert before.tolist() == BOXES


class TestCrop:
    def test_by_hand(self):
        results = CenterCrop(crop_size=(6, 10))(sample())  # x 5..15, y 3..9
        assert boxes(results) == [[0, 0, 3, 2], [5, 3, 10, 6], [0, 0, 10, 6]]
        assert consistent(results)

    def test_leaves_out_what_is_outside(self):
        results = CenterCrop(crop_size=(6, 2))(sample())  # x 9..11
        assert boxes(results) == [[1, 3, 2, 6], [0, 0, 2, 6]]
        assert results["gt_bboxes_labels"].tolist() == [1, 2]
        assert results["gt_ignore_flags"].tolist() == [False, True]
        assert consistent(results)

    def test_a_box_that_only_touches_is_outside(self):
        assert boxes(CenterCrop(crop_size=(12, 4))(sample([[0, 0, 8, 12]], masks=False))) == []  # x 8..12

    def test_shows_an_object(self):
        step = RandomCrop(crop_size=(4, 4))
        for corner in ([0, 0], [99, 99], [50, 50], [99, 0]):
            given = [[*corner, corner[0] + 1, corner[1] + 1]]
            for seed in range(20):
                np.random.seed(seed)
                results = step(sample(given, 100, 100))
                assert results["img"].shape == (4, 4, 3)
                assert results["gt_masks"].sum() == 1
                assert consistent(results)

    def test_negative_windows_if_allowed(self):
        step = RandomCrop(crop_size=(4, 4), allow_negative_crop=True)
        shown = [len(step(sample([[50, 50, 51, 51]], 100, 100))["gt_bboxes"]) for _ in range(50)]
        assert sum(shown) < 5  # 16 of 9409 windows show it

    def test_a_crowd_is_no_object_to_look_for(self):
        given = sample([[0, 0, 1, 1], [0, 0, 1, 1], [90, 90, 100, 100]], 100, 100)
        given["gt_ignore_flags"][:] = True
        assert RandomCrop(crop_size=(4, 4))(given)["img"].shape == (4, 4, 3)
        given = sample([], 100, 100)
        assert RandomCrop(crop_size=(4, 4))(given)["gt_masks"].shape == (0, 4, 4)

    def test_recomputes_boxes_from_masks(self):
        given = sample([[0, 0, 20, 12], [4, 0, 16, 12]])
        given["gt_masks"][:] = 0
        given["gt_masks"][0, 4:7, 6:20] = 1
        given["gt_masks"][1, 0, 0] = 1  # outside the window
        results = RandomCrop(crop_size=(12, 20), recompute_bbox=True)(dict(given))
        assert boxes(results) == [[6, 4, 20, 7], [0, 0, 1, 1]]
        given["gt_masks"][1, 0, 0] = 0
        results = RandomCrop(crop_size=(12, 20), recompute_bbox=True)(given)
        assert boxes(results) == [[6, 4, 20, 7]]

    def test_random_resized_crop(self):
        results = RandomResizedCrop(scale=(24, 40), crop_ratio_range=(1, 1), aspect_ratio_range=(5 / 3, 5 / 3))(
            sample()
        )
        assert boxes(results) == [[4, 2, 16, 10], [20, 12, 38, 24], [0, 0, 40, 24]]
        assert consistent(results)


def test_pad():
    results = Pad(size=(32, 16))(sample())
    assert boxes(results) == BOXES
    assert results["gt_masks"].shape == (3, 16, 32)
    assert results["gt_masks"].sum((1, 2)).tolist() == [24, 54, 240]
    assert consistent(results)


def test_filter():
    given = [[0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 12, 12]]
    assert boxes(FilterAnnotations(min_gt_bbox_wh=(1, 1))(sample(given))) == [given[0], given[2]]
    kept = FilterAnnotations(min_gt_mask_area=5, by_box=False, by_mask=True)(sample(given))
    assert boxes(kept) == [given[2]]
    assert len(kept["gt_masks"]) == len(kept["gt_ignore_flags"]) == 1
    assert boxes(FilterAnnotations(min_gt_bbox_wh=(50, 50))(sample(given))) == []
    with pytest.raises(ConfigError, match="by_box or by_mask"):
        FilterAnnotations(by_box=False)
    with pytest.raises(KeyError, match="gt_bboxes"):
        FilterAnnotations()(dict(img=np.zeros((3, 3, 3), np.uint8)))


class TestJitter:
    def test_one_size_and_whole_objects(self):
        step = LargeScaleJitter(scale=(64, 48), ratio_range=(0.3, 3.0), recompute_bbox=True)
        ratios = set()
        for seed in range(30):
            np.random.seed(seed)
            results = step(sample())
            assert results["img"].shape == (48, 64, 3)
            assert results["pad_shape"] == (48, 64)
            assert consistent(results)
            ratios.add(results["scale_factor"][0] > 3.2)
        assert ratios == {True, False}

    def test_boxes_by_hand(self):
        results = LargeScaleJitter(scale=(40, 40), ratio_range=(1.0, 1.0))(sample())
        assert results["img_shape"] == (24, 40)  # fitted, then padded
        assert boxes(results) == (2 * np.float32(BOXES)).tolist()
        assert not results["img"][24:].any()

    def test_segmentation_too(self):
        given = dict(img=sample()["img"], gt_seg_map=np.ones((12, 20), np.uint8), seg_fields=["gt_seg_map"])
        results = LargeScaleJitter(scale=(40, 40), ratio_range=(1.0, 1.0))(given)
        assert (results["gt_seg_map"] == 1).sum() == 24 * 40
        assert (results["gt_seg_map"][24:] == 255).all()


class TestLoadAndPack:
    objects = ImageObjects.of("a", "a.jpg", 12, 20, [
        ObjectRecord(1, (2, 1, 8, 5), 4, 24, [[2, 1, 8, 1, 8, 5, 2, 5]]),
        ObjectRecord(2, (0, 0, 20, 12), 1, 240, dict(size=[12, 20], counts=[0, 240]), crowd=True),
        ObjectRecord(3, (10, 6, 19, 12), 0, 54, None, difficult=True),
        ObjectRecord(4, (10, 6, 19, 12), 3, 54, None),
    ])  # fmt: skip

    def loaded(self, **kwargs):
        return LoadAnnotations(**kwargs)(dict(img_path="a.jpg", ori_shape=(12, 20), objects=self.objects))

    def test_boxes(self):
        results = self.loaded(with_bbox=True)
        assert "gt_masks" not in results
        assert boxes(results) == self.objects.boxes.tolist()
        assert results["gt_bboxes_labels"].tolist() == [4, 1, 0, 3]
        assert results["gt_ignore_flags"].tolist() == [False, True, True, False]
        results["gt_bboxes"] += 1
        assert self.objects.boxes[0].tolist() == [2, 1, 8, 5]

    def test_masks(self):
        results = self.loaded(with_mask=True)
        assert results["gt_masks"].sum((1, 2)).tolist() == [24, 240, 0, 0]
        assert boxes_of(results["gt_masks"])[0].tolist() == [2, 1, 8, 5]
        assert results["gt_ignore_flags"].tolist() == [False, True, True, True]  # the last has no outline

    def test_another_size(self):
        step = LoadAnnotations(with_bbox=True)
        with pytest.raises(BadSampleError, match="a.jpg: the objects are of a picture of 20x12 but .* is 12x20.*EXIF"):
            step(dict(img_path="a.jpg", ori_shape=(20, 12), objects=self.objects))
        with pytest.raises(BadSampleError, match="of 20x12 but its image is 21x12"):
            step(dict(img_path="a.jpg", ori_shape=(12, 21), objects=self.objects))

    def test_the_wrong_dataset(self):
        with pytest.raises(DataError, match="a.jpg: the dataset gives no objects.*CocoDataset"):
            LoadAnnotations(with_bbox=True)(dict(img_path="a.jpg"))
        with pytest.raises(DataError, match="gives no mask.*set with_bbox=True"):
            LoadAnnotations()(dict(img_path="a.jpg", objects=self.objects))

    @pytest.mark.parametrize("flip", [0.0, 1.0])
    def test_pack(self, flip):
        results = {**sample(), **self.loaded(with_mask=True), "img_id": 7}
        sample_ = PackInputs()(RandomFlip(flip, "diagonal")(results))["data_samples"]
        truth, ignored = sample_.gt_instances, sample_.ignored_instances
        assert (len(truth), len(ignored), sample_.img_id) == (1, 3, 7)
        assert truth.bboxes.dtype == torch.float32
        assert truth.bboxes.tolist() == [[12, 7, 18, 11] if flip else [2, 1, 8, 5]]
        assert truth.labels.dtype == torch.int64
        assert truth.labels.tolist() == [4]
        assert ignored.labels.tolist() == [1, 0, 3]
        assert (truth.masks.dtype, truth.masks.shape) == (torch.uint8, (1, 12, 20))
        assert truth.masks[0].nonzero().min(0).values.tolist() == ([7, 12] if flip else [1, 2])

    def test_pack_without_objects(self):
        sample_ = PackInputs()(sample([]))["data_samples"]
        assert sample_.gt_instances.bboxes.shape == sample_.ignored_instances.bboxes.shape == (0, 4)
        assert sample_.gt_instances.masks.shape == (0, 12, 20)
        assert sample_.gt_instances.labels.dtype == torch.int64
