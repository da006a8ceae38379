"""The pass over a dataset before training, and the command around it."""

import importlib
import json

import cv2
import numpy as np
import pytest

from visionpatch.datasets import CocoDataset, ImageFolderDataset, PascalVOCDataset
from visionpatch.datasets.checking import check_dataset, find_overlap, loading_steps
from visionpatch.datasets.sample_set import CLASSES, make_sample_dataset
from visionpatch.datasets.transforms import LoadAnnotations, LoadImage


@pytest.fixture
def fresh(tmp_path):
    return make_sample_dataset(tmp_path, train=5, val=2, size=32)


def voc(root, split, **kwargs):
    metainfo = dict(classes=CLASSES)
    return PascalVOCDataset(
        data_root=str(root), ann_file=f"ImageSets/Segmentation/{split}.txt", metainfo=metainfo, **kwargs
    )


def test_counts(fresh):
    report = check_dataset(voc(fresh, "train"))
    assert report.ok
    assert report.samples == 5
    assert report.pixels.sum() + report.ignored_pixels == 5 * 32 * 32
    assert report.images[0] == 5
    assert (report.images[1:6] >= 1).all()


def test_every_fault_is_found(fresh):
    names = [f"sample_{i:06d}" for i in range(5)]
    images, masks = fresh / "JPEGImages", fresh / "SegmentationClass"
    (images / f"{names[0]}.jpg").write_bytes(b"")
    whole = (images / f"{names[1]}.jpg").read_bytes()
    (images / f"{names[1]}.jpg").write_bytes(whole[: len(whole) // 2])
    cv2.imwrite(str(masks / f"{names[2]}.png"), np.full((32, 32), 99, np.uint8))
    cv2.imwrite(str(masks / f"{names[3]}.png"), np.zeros((32, 31), np.uint8))
    cv2.imwrite(str(masks / f"{names[4]}.png"), np.full((32, 32), 255, np.uint8))
    (images / "copy.jpg").write_bytes((images / f"{names[4]}.jpg").read_bytes())
    (masks / "copy.png").write_bytes((masks / f"{names[4]}.png").read_bytes())
    listed = [*names, names[4], "copy"]
    (fresh / "ImageSets/Segmentation/train.txt").write_text("\n".join(listed))
    problems = check_dataset(voc(fresh, "train")).problems
    assert [len(problems[k]) for k in ("unusable image", "unusable mask", "listed twice", "same content")] == [
        2,
        2,
        1,
        1,
    ]
    assert len(problems["mask without any class"]) == 3
    text = "\n".join(problems["unusable image"] + problems["unusable mask"])
    for part in ("empty", "truncated", "99 (1024 px)", "31x32"):
        assert part in text


def test_overlap(fresh):
    train, val = (check_dataset(voc(fresh, split)) for split in ("train", "val"))
    assert find_overlap(val, train) == []
    whole = check_dataset(voc(fresh, "trainval"))
    assert len(find_overlap(val, whole)) == 2


def test_classification(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "0.png"), np.full((4, 4, 3), ord(name), np.uint8))
    report = check_dataset(ImageFolderDataset(data_root=str(tmp_path)))
    assert report.ok
    assert report.images.tolist() == [1, 1]


def test_loading_steps_are_the_pipelines_own():
    steps = loading_steps([dict(type="LoadImage", alpha="drop"), dict(type="Resize", scale=(8, 8))])
    assert [type(s) for s in steps] == [LoadImage]
    assert steps[0].alpha == "drop"
    assert [type(s) for s in loading_steps([])] == [LoadImage, LoadAnnotations]


CONFIG = """
data = dict(type="PascalVOCDataset", data_root={root!r}, metainfo=dict(classes={classes!r}), pipeline=[])
train_dataloader = dict(dataset=dict(**data, ann_file="ImageSets/Segmentation/train.txt"))
val_dataloader = dict(dataset=dict(**data, ann_file="ImageSets/Segmentation/{val}.txt"))
model = dict(
    type="Segmentor",
    data_preprocessor=dict(type="DataPreprocessor", mean=[127, 127, 127], std=[128, 128, 128]),
    backbone=dict(type="EfficientNetLite", arch="lite0"),
    decode_head=dict(type="FPNHead", in_channels=(24, 40, 112, 320), channels=64, num_classes={number}),
)
"""


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(), "nothing wrong"),
        (dict(val="trainval"), "also in train: 5"),
        (dict(number=20), "model.decode_head.num_classes = 20, but the train dataset has 21 classes"),
        (dict(val="vall"), 'did you mean "val.txt"'),
    ],
)
def test_command(fresh, tmp_path, capsys, change, message):
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(**{**dict(root=str(fresh), classes=CLASSES, val="val", number=21), **change}))
    status = importlib.import_module("check_dataset").main([str(config)])
    assert message in " ".join(capsys.readouterr().out.split())
    assert status == (1 if change else 0)


def test_objects_are_counted(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 50, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.ones((40, 51, 3), np.uint8))
    entry = dict(image_id=1, category_id=1, bbox=[1, 1, 9, 9])
    document = dict(
        images=[dict(id=i, file_name=f"{name}.png", height=40, width=50) for i, name in enumerate("ab", 1)],
        categories=[dict(id=1, name="cat"), dict(id=2, name="dog")],
        annotations=[dict(entry, id=1), dict(entry, id=2), dict(entry, id=3, iscrowd=1), dict(entry, id=4, image_id=2)],
    )
    (tmp_path / "all.json").write_text(json.dumps(document))
    data = CocoDataset(data_root=str(tmp_path), ann_file="all.json")
    report = check_dataset(data, loading_steps([dict(type="LoadImage"), dict(type="LoadAnnotations", with_bbox=True)]))
    assert report.objects.tolist() == [2, 0]
    assert report.images.tolist() == [1, 0]
    assert not report.ok
    assert report.problems["unusable annotation"] == [
        f"{tmp_path}/b.png: the objects are of a picture of 50x40 but its image is 51x40 (width x height)"
    ]
