"""The drawn sample set: its layout, its masks, and that it comes out the same each time."""

import numpy as np
import pytest

from visionpatch.datasets import PascalVOCDataset
from visionpatch.datasets.sample_set import CLASSES, draw_sample, make_sample_dataset

LOAD = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="PackInputs")]


def test_layout_and_labels(sample_root):
    seen = set()
    for split, number in (("train", 8), ("val", 4), ("trainval", 12)):
        data = PascalVOCDataset(
            data_root=str(sample_root),
            ann_file=f"ImageSets/Segmentation/{split}.txt",
            metainfo=dict(classes=CLASSES),
            pipeline=LOAD,
        )
        assert len(data) == number
        for sample in data:
            assert sample["inputs"].shape == (3, 64, 64)
            seen |= set(sample["data_samples"].gt_sem_seg.data.unique().tolist())
    assert seen >= {0, 255, *range(1, 13)}  # picture k shows class 1 + k


def test_same_seed_same_files(sample_root, tmp_path):
    again = make_sample_dataset(tmp_path, train=8, val=4, size=64, seed=3)
    files = sorted(p.relative_to(again) for p in again.rglob("*.*"))
    assert len(files) == 12 + 12 + 3
    assert all((again / p).read_bytes() == (sample_root / p).read_bytes() for p in files)
    assert not np.array_equal(draw_sample(0, 64, seed=3)[0], draw_sample(0, 64, seed=4)[0])


def test_every_class_is_shown_and_shapes_have_their_colour():
    shown = np.zeros(len(CLASSES), int)
    for number in range(40):
        image, labels = draw_sample(number, 64)
        shown += np.bincount(labels.ravel(), minlength=256)[: len(CLASSES)] > 0
        if (labels == 1).sum() > 50:
            blue, green, red = image[labels == 1].mean(0)
            assert red > 1.5 * max(blue, green)
    assert shown[1:].min() >= 2


def test_void_is_one_pixel_wide():
    _, labels = draw_sample(3, 64)
    inside = labels[1:-1, 1:-1]
    around = [labels[1 + y : 63 + y, 1 + x : 63 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    void_everywhere = np.all([a == 255 for a in around], axis=0)
    assert (inside == 255).any()
    assert not void_everywhere.any()


def test_too_small(tmp_path):
    with pytest.raises(ValueError, match="size=8"):
        make_sample_dataset(tmp_path, size=8)
