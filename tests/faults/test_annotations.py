"""Fault 14: annotation files that are malformed, or of which little or nothing can be used."""

import json

import cv2
import numpy as np
import pytest

from visionpatch.datasets import CocoDataset, LabelMeDataset
from visionpatch.datasets.coco_json import read_coco
from visionpatch.errors import DataError

from .expect import expect


def coco(**changes):
    document = dict(
        images=[dict(id=1, file_name="a.jpg", height=40, width=50)],
        categories=[dict(id=1, name="cat"), dict(id=2, name="dog")],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 5, 5], iscrowd=0, area=25)],
    )
    return {**document, **changes}


def annotations(*boxes, **changes):
    entry = dict(image_id=1, category_id=1, iscrowd=0)
    return [{**entry, "id": i, "bbox": list(box), **changes} for i, box in enumerate(boxes)]


def without(document, table, key):
    return {**document, table: [{k: v for k, v in entry.items() if k != key} for entry in document[table]]}


MALFORMED = {
    "cut": (json.dumps(coco())[:-30], "no valid JSON: .* at line 1, column .*cut off"),
    "text": ("hello", "no valid JSON: Expecting value at line 1, column 1"),
    "empty": ("", "is empty"),
    "binary": (b"\xff\xfe\x00\x01", "cannot be read"),
    "deep": ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "long_number": ('{"a": ' + "9" * 10_000 + "}", "no valid JSON: Exceeds the limit"),
    "nan": (json.dumps(coco(annotations=annotations((1, 1, float("nan"), 5)))), "NaN is no number"),
    "infinity": ('{"images": [-Infinity]}', "-Infinity is no number"),
    "huge": (json.dumps(coco()).replace("[1, 1, 5, 5]", "[1, 1, 1e999, 5]"), "bbox is four numbers.*inf"),
    "key_twice": ('{"images": [], "images": []}', 'the key "images" stands twice'),
    "list": ([], r"an object with images, annotations, categories is expected, not a list \(of results\?\)"),
    "number": (3, "is expected, not 3"),
    "no_images": (dict(annotations=[], categories=[]), 'no "images", only annotations, categories'),
    "no_table": (coco(images={}), '"images" is a list, not {}'),
    "no_categories": (coco(categories=[]), '"categories" is empty: 0 samples'),
    "entry": (coco(images=[7]), r"images\[0\] is an object, not 7"),
    "no_id": (without(coco(), "images", "id"), r'images\[0\] \(id None\): no "id", only file_name'),
    "no_box": (without(coco(), "annotations", "bbox"), r'annotations\[0\] \(id 1\): no "bbox"'),
    "short_box": (coco(annotations=annotations((1, 2, 3))), r"annotations\[0\] .*bbox is four numbers"),
    "text_box": (coco(annotations=annotations((1, 2, "3", 4))), "bbox is four numbers.*'3'"),
    "true_box": (coco(annotations=annotations((1, 2, True, 4))), "bbox is four numbers.*True"),
    "area": (coco(annotations=annotations((1, 2, 3, 4), area="9")), "area is a number, not '9'"),
    "crowd": (coco(annotations=annotations((1, 2, 3, 4), iscrowd=2)), "iscrowd is 0 or 1, not 2"),
    "category": (coco(annotations=annotations((1, 2, 3, 4), category_id="cat")), "category_id are integers"),
    "size": (coco(images=[dict(id=1, file_name="a", height=0, width=5)]), "whole numbers from 1, not 0"),
    "name": (coco(images=[dict(id=1, file_name=5, height=4, width=5)]), "file_name is the name of a file, not 5"),
    "image_twice": (coco(images=coco()["images"] * 2), r'images\[1\] \(id 1\): image 1 is there before.*"drop"'),
    "object_twice": (coco(annotations=coco()["annotations"] * 2), r"annotations\[1\] \(id 1\): .* is there before"),
    "category_twice": (coco(categories=coco()["categories"] * 2), r'categories\[2\] .*category 1 "cat" is there'),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_fault_14_malformed(tmp_path, case):
    content, message = MALFORMED[case]
    path = tmp_path / "instances.json"
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as error:
        read_coco(path)
    expect(str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value), error.value)


def write(folder, document):
    (folder / "instances.json").write_text(json.dumps(document))
    return folder / "instances.json"


def test_fault_14_counted_and_reported(tmp_path):
    boxes = [(1, 1, 5, 5), (60, 1, 5, 5), (-9, 1, 5, 5), (1, 1, 0, 5), (9, 9, -3, 5), (45, 35, 20, 20)]
    extra = [
        dict(id=10, image_id=9, category_id=1, bbox=[1, 1, 5, 5]),
        dict(id=11, image_id=1, category_id=2, bbox=[1, 1, 5, 5]),
        dict(id=12, image_id=1, category_id=3, bbox=[1, 1, 5, 5]),
        dict(id=13, image_id=1, category_id=1, bbox=[1, 1, 5, 5], iscrowd=1, area=25,
             segmentation=dict(size=[40, 50], counts=[0, 1])),
    ]  # fmt: skip
    data = read_coco(write(tmp_path, coco(annotations=annotations(*boxes) + extra)), ["cat"])
    expect(data.images[0].object_ids == [0, 5, 13])
    expect(data.images[0].boxes[1].tolist() == [45, 35, 50, 40])
    for part in ("10 objects in 1 images", "2 box outside the picture", "2 zero or negative area",
                 "1 annotation without image", "1 category not in classes", "1 category_id not among the categories",
                 "1 malformed segmentation", "1 crowd", "1 box clipped to the picture"):  # fmt: skip
        expect(part in str(data.report), data.report)


def test_fault_14_nothing_usable_says_which_filter(tmp_path):
    path = write(tmp_path, coco(annotations=annotations((60, 1, 5, 5), (70, 1, 5, 5), (1, 1, 0, 0))))
    with pytest.raises(DataError, match="left out: 2 box outside the picture, 1 zero or negative area.*no usable"):
        read_coco(path)
    with pytest.raises(DataError, match="no usable object"):
        read_coco(write(tmp_path, coco(annotations=[])))


def test_fault_14_classes_that_do_not_match(tmp_path):
    with pytest.raises(DataError, match='instances.json: no category "dgo"; did you mean "dog"'):
        read_coco(write(tmp_path, coco()), ("cat", "dgo"))
    with pytest.raises(DataError, match='does not exist; did you mean "instances.json"'):
        read_coco(tmp_path / "instance.json")


def dataset(folder, document, **arguments):
    cv2.imwrite(str(folder / "a.jpg"), np.zeros((40, 50, 3), np.uint8))
    write(folder, document)
    load = [dict(type="LoadImage"), dict(type="LoadAnnotations", with_bbox=True), dict(type="PackInputs")]
    return CocoDataset(data_root=str(folder), ann_file="instances.json", pipeline=load, **arguments)


def test_fault_14_a_dataset_of_crowds_or_nothing_says_so(tmp_path):
    crowd = coco(annotations=annotations((1, 1, 5, 5), iscrowd=1))
    for document in (crowd, coco(annotations=[]), coco(annotations=annotations((60, 1, 5, 5)))):
        with pytest.raises(DataError, match="instances.json: . objects in 1 images.*no usable object"):
            dataset(tmp_path, document)
        sample = dataset(tmp_path, document, filter_cfg=None)[0]["data_samples"]
        expect(len(sample.gt_instances) == 0 and sample.gt_instances.bboxes.shape == (0, 4))
        expect(len(dataset(tmp_path, document, test_mode=True)) == 1)
    expect(len(dataset(tmp_path, crowd, test_mode=True)[0]["data_samples"].ignored_instances) == 1)


def test_fault_14_what_a_dataset_left_out_is_logged_once(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr("visionpatch.datasets.detection.print_log", lambda text, *_: lines.append(text))
    data = dataset(tmp_path, coco(annotations=annotations((1, 1, 5, 5), (60, 1, 5, 5), (1, 1, 0, 0))))
    expect(len(data[0]["data_samples"].gt_instances) == 1)
    expect(len(lines) == 1 and "left out: 1 box outside the picture, 1 zero or negative area" in lines[0], lines)


def test_fault_14_duplicate_ids_can_be_dropped(tmp_path):
    twice = coco(annotations=coco()["annotations"] * 2)
    with pytest.raises(DataError, match='annotation 1 is there before; duplicates="drop" keeps the first'):
        dataset(tmp_path, twice)
    data = dataset(tmp_path, twice, duplicates="drop")
    expect(data.read_report.left_out["duplicate id"] == 1 and len(data[0]["data_samples"].gt_instances) == 1)


def test_fault_14_labelme(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(coco()))
    with pytest.raises(DataError, match="a.json: .*for COCO files use CocoDataset"):
        LabelMeDataset(data_root=str(tmp_path))
    (tmp_path / "a.json").write_text('{"shapes": [')
    with pytest.raises(DataError, match="a.json: no valid JSON.*cut off"):
        LabelMeDataset(data_root=str(tmp_path))
