"""LabelMe folders: shapes worked out by hand, groups, splits, and files that are something else."""

import json

import cv2
import numpy as np
import pytest

from visionpatch.datasets import LabelMeDataset, mask_of, read_labelme
from visionpatch.errors import DataError


def shape(label, points, kind="polygon", **more):
    return dict(label=label, points=points, shape_type=kind, group_id=None, flags={}) | more


def document(name, *shapes, **more):
    return dict(version="5.4.1", imagePath=name, imageHeight=40, imageWidth=50, imageData=None, shapes=shapes) | more


TRIANGLE = [[2, 3], [12, 3], [12, 23]]


@pytest.fixture
def folder(tmp_path):
    """a: a polygon, a rectangle, a circle, a line; b: nothing; sub/c: an object of two parts."""
    documents = {
        "a": document(
            "a.png", shape("leaf", TRIANGLE), shape("spot", [[30, 30], [60, 20]], "rectangle"),
            shape("spot", [[20, 20], [20, 25]], "circle"), shape("leaf", [[1, 1], [9, 9]], "line"),
        ),
        "b": document("..\\pictures\\b.png"),
        "sub/c": document(
            "c.png", shape("leaf", TRIANGLE, group_id=1), shape("leaf", [[20, 3], [30, 3], [30, 23]], group_id=1),
            shape("spot", TRIANGLE, group_id=1),
        ),
    }  # fmt: skip
    (tmp_path / "sub").mkdir()
    for stem, content in documents.items():
        cv2.imwrite(str(tmp_path / f"{stem}.png"), np.zeros((40, 50, 3), np.uint8))
        (tmp_path / f"{stem}.json").write_text(json.dumps(content))
    (tmp_path / "train.txt").write_text("a\nsub/c\n")
    return tmp_path


def test_shapes(folder):
    data = read_labelme(str(folder))
    assert data.classes == ("leaf", "spot")
    a, b, c = data.images
    assert a.boxes.tolist() == [[2, 3, 12, 23], [30, 20, 50, 30], [15, 15, 25, 25]]
    assert a.labels.tolist() == [0, 1, 1]
    assert a.areas == pytest.approx([100, 300, np.pi * 25], rel=0.01)
    assert mask_of(a.segmentations[1], 40, 50).sum() == 200
    assert mask_of(a.segmentations[2], 40, 50).sum() == pytest.approx(np.pi * 25, rel=0.1)
    assert data.report.left_out == {"shape that is no polygon, rectangle or circle": 1}
    assert (len(b.boxes), data.report.noted["image without objects"]) == (0, 1)
    assert c.boxes.tolist() == [[2, 3, 30, 23], [2, 3, 12, 23]]
    assert c.labels.tolist() == [0, 1]
    assert [len(s) for s in c.segmentations] == [2, 1]
    assert data.report.noted["box clipped to the picture"] == 1


def test_dataset(folder):
    load = [dict(type="LoadImage"), dict(type="LoadAnnotations", with_mask=True), dict(type="PackInputs")]
    data = LabelMeDataset(data_root=str(folder), pipeline=load)
    assert [item["data_samples"].img_id for item in data] == ["a", "sub/c"]
    assert data[1]["data_samples"].img_path == f"{folder}/sub/c.png"
    truth = data[1]["data_samples"].gt_instances
    assert truth.masks.sum((1, 2)).tolist() == pytest.approx([200, 100], rel=0.15)
    assert len(LabelMeDataset(data_root=str(folder), test_mode=True)) == 3


def test_split_and_classes(folder):
    data = LabelMeDataset(data_root=str(folder), ann_file="train.txt", metainfo=dict(classes=("spot",)))
    assert data.metainfo["classes"] == ("spot",)
    assert [data.get_data_info(i)["objects"].labels.tolist() for i in range(2)] == [[0, 0], [0]]
    assert data.read_report.left_out["category not in classes"] == 3
    (folder / "train.txt").write_text("b\n")
    assert LabelMeDataset(data_root=str(folder), ann_file="train.txt", test_mode=True).metainfo["classes"] == (
        "leaf", "spot")  # fmt: skip
    with pytest.raises(DataError, match="no usable object is left"):
        LabelMeDataset(data_root=str(folder), ann_file="train.txt")
    with pytest.raises(DataError, match="left out: .* category not in classes.*no usable object"):
        LabelMeDataset(data_root=str(folder), metainfo=dict(classes=("leav",)))


def test_pictures_elsewhere(folder):
    (folder / "images").mkdir()
    for name in ("a", "b", "sub/c"):
        (folder / f"{name}.png").rename(folder / "images" / f"{name[-1]}.png")
    data = LabelMeDataset(data_root=str(folder), data_prefix=dict(img="images"), test_mode=True)
    assert [data.get_data_info(i)["img_path"] for i in range(3)] == [f"{folder}/images/{n}.png" for n in "abc"]
    (folder / "images/b.png").unlink()
    with pytest.raises(DataError, match="1 of 3 pictures are missing: b.png"):
        LabelMeDataset(data_root=str(folder), data_prefix=dict(img="images"), test_mode=True)


@pytest.mark.parametrize("content, message", [
    (dict(images=[], annotations=[], categories=[]), 'a list "shapes" is expected; for COCO files use CocoDataset'),
    ([], 'a list "shapes" is expected'),
    (document("a.png", imageHeight=None), "imageHeight is a whole number from 1, not None"),
    (document("", shape("leaf", TRIANGLE)), "imagePath is the name of a file"),
    (document("a.png", 7), r"shapes\[0\]: an object with a label is expected, not 7"),
    (document("a.png", shape(3, TRIANGLE)), r"shapes\[0\]: an object with a label"),
    (document("a.png", shape("leaf", [[1, 2, 3]])), r"shapes\[0\]: points are a list of \[x, y\]"),
    (document("a.png", shape("leaf", [[1, "2"]])), r"shapes\[0\]: points are a list of \[x, y\]"),
])  # fmt: skip
def test_malformed(tmp_path, content, message):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"a.json: {message}"):
        read_labelme(str(tmp_path))


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no JSON file of LabelMe"):
        read_labelme(str(tmp_path))
    (tmp_path / "a.json").write_text(json.dumps(document("a.png")))
    with pytest.raises(DataError, match="none of its 1 JSON files holds a shape"):
        read_labelme(str(tmp_path))


def test_left_out_and_counted(tmp_path):
    shapes = [shape("leaf", TRIANGLE), shape("leaf", [[1, 1], [2, 2]]), shape("leaf", [[60, 1], [70, 1], [70, 9]]),
              shape("leaf", [[5, 5], [5, 5], [5, 5]]), shape("leaf", [], "points")]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(document("a.png", *shapes)))
    data = read_labelme(str(tmp_path))
    assert len(data.images[0].boxes) == 1
    assert data.report.left_out == {
        "shape of too few points": 1,
        "box outside the picture": 1,
        "zero or negative area": 1,
        "shape that is no polygon, rectangle or circle": 1,
    }
