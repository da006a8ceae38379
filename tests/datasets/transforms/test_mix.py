"""Mosaic and MixUp: where pictures and objects end up, and that both belong together."""

import numpy as np
import pytest

from visionpatch.datasets.transforms import MixUp, Mosaic
from visionpatch.datasets.transforms.instances import boxes_of
from visionpatch.errors import ConfigError


def sample(value, height=8, width=8, box=(2, 1, 6, 5)):
    """A picture of one grey level with an object that is 100 brighter."""
    x1, y1, x2, y2 = box
    made = dict(
        img=np.full((height, width, 3), value, np.uint8),
        img_shape=(height, width),
        scale_factor=(1.0, 1.0),
        gt_bboxes=np.array([box], np.float32),
        gt_bboxes_labels=np.array([value]),
        gt_ignore_flags=np.array([value == 3]),
        gt_masks=np.zeros((1, height, width), np.uint8),
    )
    made["img"][y1:y2, x1:x2] += 100
    made["gt_masks"][0, y1:y2, x1:x2] = 1
    return made


def consistent(results, slack=0.0):
    assert results["gt_masks"].shape[1:] == results["img"].shape[:2] == results["img_shape"]
    assert np.abs(boxes_of(results["gt_masks"]) - results["gt_bboxes"]).max(initial=0) <= slack
    return True


class TestMosaic:
    def mixed(self, ratio, sizes=((8, 8),) * 4, **kwargs):
        parts = [sample(i, *size) for i, size in enumerate(sizes)]
        step = Mosaic(img_scale=(8, 8), center_ratio_range=(ratio, ratio), **kwargs)
        return step({**parts[0], "mix_results": parts[1:]})

    def test_four_whole_pictures(self):
        results = self.mixed(1.0)
        assert results["img"].shape == (16, 16, 3)
        assert results["gt_bboxes"].tolist() == [[2, 1, 6, 5], [10, 1, 14, 5], [2, 9, 6, 13], [10, 9, 14, 13]]
        assert results["gt_bboxes_labels"].tolist() == [0, 1, 2, 3]
        assert results["gt_ignore_flags"].tolist() == [False, False, False, True]
        assert [results["img"][y, x, 0] for y, x in ((0, 0), (0, 8), (8, 0), (8, 8))] == [0, 1, 2, 3]
        assert "scale_factor" not in results
        assert consistent(results)

    def test_cut_off_at_the_edges(self):
        results = self.mixed(0.5)  # the point is (4, 4): of the first only its lower right quarter is seen
        assert results["gt_bboxes"].tolist() == [[0, 0, 2, 1], [6, 0, 10, 1], [0, 5, 2, 9], [6, 5, 10, 9]]
        assert (results["img"][12:] == 114).all()
        assert results["img"][3, 3, 0] == 0
        assert consistent(results)

    def test_nothing_is_left_of_one(self):
        results = self.mixed(2.0)  # the point is the lower right corner
        assert results["gt_bboxes_labels"].tolist() == [0]
        assert results["gt_bboxes"].tolist() == [[10, 9, 14, 13]]
        assert consistent(results)
        assert self.mixed(0.0)["gt_bboxes_labels"].tolist() == [3]

    def test_parts_are_fitted(self):
        results = self.mixed(1.0, sizes=((16, 32), (8, 8), (4, 8), (8, 16)))
        assert results["img"][7, 7, 0] == 0  # 8x4 at the lower right of its quarter
        assert (results["img"][:4, :8] == 114).all()
        assert results["gt_bboxes"][0].tolist() == [0.5, 4.25, 1.5, 5.25]
        assert results["gt_masks"].shape == (4, 16, 16)

    def test_objects_stay_on_their_pixels(self):
        for seed in range(20):
            np.random.seed(seed)
            parts = [sample(i, 40 + i, 60 - i, (10, 5, 50, 30)) for i in range(4)]
            results = Mosaic(img_scale=(64, 48))({**parts[0], "mix_results": parts[1:]})
            assert consistent(results, slack=1.5)
            for mask, label in zip(results["gt_masks"], results["gt_bboxes_labels"]):
                assert np.median(results["img"][mask > 0]) == 100 + label

    def test_label_maps(self):
        parts = [
            {**sample(i), "gt_seg_map": np.full((8, 8), i, np.uint8), "seg_fields": ["gt_seg_map"]} for i in range(4)
        ]
        results = Mosaic(img_scale=(8, 8), center_ratio_range=(0.5, 0.5))({**parts[0], "mix_results": parts[1:]})
        assert np.bincount(results["gt_seg_map"].ravel())[[0, 1, 2, 3, 255]].tolist() == [16, 32, 32, 64, 112]

    def test_sometimes(self):
        applied = [self.mixed(1.0, prob=0.3)["img"].shape[0] == 16 for _ in range(200)]
        assert 30 < sum(applied) < 95

    def test_draws_three_others(self):
        drawn = np.array([Mosaic().get_indexes(range(5)) for _ in range(100)])
        assert drawn.shape == (100, 3)
        assert set(drawn.ravel().tolist()) == {0, 1, 2, 3, 4}

    def test_faults(self):
        with pytest.raises(ConfigError, match="Mosaic needs other samples: .* MultiImageMixDataset"):
            Mosaic()(sample(0))
        with pytest.raises(ConfigError, match="ends at 2"):
            Mosaic(center_ratio_range=(0.5, 2.5))


class TestMixUp:
    def mixed(self, first, other, **kwargs):
        args = dict(img_scale=(8, 8), ratio_range=(1.0, 1.0), flip_ratio=0.0)
        return MixUp(**{**args, **kwargs})({**first, "mix_results": [other]})

    def test_the_mean_and_both_objects(self):
        results = self.mixed(sample(0), sample(50, box=(0, 0, 3, 3)))
        assert results["gt_bboxes"].tolist() == [[2, 1, 6, 5], [0, 0, 3, 3]]
        assert results["gt_bboxes_labels"].tolist() == [0, 50]
        assert results["img"][7, 7, 0] == 25
        assert results["img"][0, 0, 0] == 75
        assert results["img"][2, 2, 0] == 125
        assert consistent(results)

    def test_mirrored(self):
        results = self.mixed(sample(0), sample(50, box=(0, 0, 3, 3)), flip_ratio=1.0)
        assert results["gt_bboxes"].tolist() == [[2, 1, 6, 5], [5, 0, 8, 3]]
        assert consistent(results)

    def test_smaller_is_padded(self):
        results = self.mixed(sample(0), sample(50), ratio_range=(0.5, 0.5))
        assert results["gt_bboxes"][1].tolist() == [1, 0.5, 3, 2.5]
        assert results["img"][7, 7, 0] == 57
        assert results["img"].shape == (8, 8, 3)

    def test_larger_is_cut(self):
        for seed in range(20):
            np.random.seed(seed)
            results = self.mixed(sample(0), sample(50, box=(0, 0, 8, 8)), ratio_range=(2.0, 2.0))
            assert results["gt_bboxes"].tolist() == [[2, 1, 6, 5], [0, 0, 8, 8]]
            assert consistent(results)

    def test_stays_away_without_objects(self):
        empty = {**sample(50), "gt_bboxes": np.zeros((0, 4), np.float32)}
        assert np.array_equal(self.mixed(sample(0), empty)["img"], sample(0)["img"])

    def test_no_label_maps(self):
        with pytest.raises(ConfigError, match="has a label map, which cannot be mixed"):
            self.mixed({**sample(0), "seg_fields": ["gt_seg_map"]}, sample(1))
