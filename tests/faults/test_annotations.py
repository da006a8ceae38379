"""Fault 14: annotation files that are malformed, or of which little or nothing can be used."""

import json
import math

import cv2
import numpy as np
import pytest
import torch

from visionpatch.datasets import CocoDataset, LabelMeDataset
from visionpatch.datasets.coco_json import read_coco
from visionpatch.errors import ConfigError, DataError
from visionpatch.evaluation import CocoMetric

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
    "nan": (coco(annotations=annotations((1, 1, math.nan, 5))), r"annotations\[0\] .*: bbox .* not \[1, 1, nan, 5\]"),
    "infinity": (coco(annotations=annotations((1, 2, 3, 4), area=-math.inf)), "area is a number, not -inf"),
    "huge": (json.dumps(coco()).replace("[1, 1, 5, 5]", "[1, 1, 1e999, 5]"), "bbox is four numbers.*inf"),
    "key_twice": ('{"images": [], "images": []}', 'the key "images" stands twice'),
    "list": ([], r"an object with images, annotations, categories is expected, not a list \(of results\?\)"),
    "number": (3, "is expected, not 3"),
    "no_images": (dict(annotations=[], categories=[]), 'no "images", only annotations, categories'),
    "no_table": (coco(images={}), '"images" is a list, not {}'),
    "no_categories": (coco(categories=[]), '"categories" is empty: 0 samples'),
    "entry": (coco(images=[7]), r"images\[0\]: an object is expected, not 7; .*malformed=.drop. leaves"),
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
    expect("; first: annotation 1 of a.jpg: x, y, width, height [60, 1, 5, 5] (box outside the picture)" in lines[0])


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


def broken():
    """Three usable objects among entries of every kind that cannot be used."""
    good = annotations((1, 1, 5, 5), (2, 2, 9, 9), (3, 3, 4, 4))
    bad = [
        dict(image_id=1, category_id=1, id=20),
        dict(image_id=1, category_id="1", id=21, bbox=[1, 1, 2, 2]),
        dict(image_id=1, category_id=1, id=22, bbox=[1, math.nan, 2, 2]),
        dict(image_id=1, category_id=1, id=23, bbox=[1, 1, 2, 2], iscrowd="no"),
        None,
    ]
    images = [*coco()["images"], dict(id=2, file_name="a.jpg"), coco()["images"][0], 5]
    return coco(images=images, annotations=[*good, *bad, good[0]])


def test_fault_14_every_malformed_entry_is_counted(tmp_path):
    path = write(tmp_path, broken())
    with pytest.raises(DataError) as error:
        read_coco(path)
    text = f'{path}: images[1] (id 2): no "height", only id, file_name; correct it, or malformed="drop" leaves such '
    text += (
        "entries out and counts them (3 entries cannot be used: 2 malformed entry, 1 duplicate id; this is the first)"
    )
    expect(str(error.value) == text, error.value)
    with pytest.raises(DataError, match=r"annotations\[3\] \(id 20\): no .bbox.* 5 malformed entry, 1 duplicate id"):
        read_coco(write(tmp_path, {**broken(), "images": coco()["images"]}))
    data = read_coco(write(tmp_path, broken()), malformed="drop", duplicates="drop")
    expect(data.report.left_out == {"malformed entry": 7, "duplicate id": 2}, data.report)
    expect(data.images[0].object_ids == [0, 1, 2])
    expect(data.report.first_case == 'images[1] (id 2): no "height", only id, file_name (malformed entry)')
    with pytest.raises(ConfigError, match='malformed=.dorp.; did you mean "drop"'):
        read_coco(path, malformed="dorp")


def test_fault_14_what_an_annotation_can_do_without(tmp_path):
    entry = dict(image_id=1, category_id=1, bbox=[1, 2, 3, 4])
    given = [entry, {**entry, "id": None, "area": None, "iscrowd": None, "segmentation": None}]
    data = read_coco(write(tmp_path, coco(annotations=given)))
    expect(data.images[0].areas.tolist() == [12, 12] and not data.images[0].crowd.any())
    expect(data.images[0].object_ids == ["annotations[0]", "annotations[1]"])
    expect(data.report.noted == {"annotation without id": 2} and not data.report.left_out)


def evaluated(path, prediction=(1, 1, 6, 6), size=(40, 50), metrics=("bbox", "segm"), **arguments):
    """The numbers of a picture with one prediction, and what was warned of."""
    metric = CocoMetric(ann_file=str(path), metric=metrics, **arguments)
    metric.dataset_meta = dict(classes=("cat", "dog"))
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[0, 1:6, 1:6] = True
    found = dict(bboxes=torch.tensor([prediction]), labels=torch.tensor([0]), scores=torch.tensor([0.5]), masks=mask)
    metric.process({}, [dict(img_id=1, img_path="a.jpg", ori_shape=size, pred_instances=found)])
    return metric.evaluate(1)


SQUARE = [[1, 1, 6, 1, 6, 6, 1, 6]]


@pytest.fixture
def warned(monkeypatch):
    lines = []
    monkeypatch.setattr("visionpatch.evaluation.coco_metric.warn", lines.append)
    return lines


def test_fault_14_a_metric_counts_what_it_cannot_use(tmp_path, warned):
    document = broken()
    for entry in document["annotations"][1:3]:
        entry["segmentation"] = [[1e9, 1, 2, 1e9, 4, 5]]  # which would take the memory of the machine
    document["annotations"][0]["segmentation"] = document["annotations"][-1]["segmentation"] = SQUARE
    document["annotations"] += [{**document["annotations"][0], "id": 30 + i, "image_id": 7} for i in range(2)]
    found = evaluated(write(tmp_path, document))
    expect(found["coco/segm_mAP"] == pytest.approx(1) and found["coco/bbox_AR@100"] == pytest.approx(1 / 3), found)
    text = f"CocoMetric: {tmp_path}/instances.json: entries are left out of the evaluation: "
    expect(warned[0].startswith(text) and warned[0].endswith("(first: images[2], duplicate id)"), warned)
    for part in ("3 malformed entry", "2 annotation without image", "2 duplicate id", "iscrowd is not 0 or 1"):
        expect(part in warned[0], warned[0])
    expect("2 objects" in warned[3] and "no valid bbox" in warned[3], warned)
    expect("4 objects" in warned[4] and "no valid segmentation" in warned[4], warned)


def test_fault_14_a_metric_refuses_what_is_no_truth(tmp_path):
    for change, message in (
        (dict(images={}), '"images" of a COCO file is a list of objects, not {}'),
        (dict(annotations=3), '"annotations" of a COCO file is a list'),
        (dict(categories=[dict(id="1", name="cat")]), r"categories\[0\]: an integer id and a name are expected"),
        (dict(categories=[dict(id=1, name="cow")]), 'no category "cat", a class of the data set; valid: cow'),
    ):
        with pytest.raises(DataError, match=f"instances.json: {message}"):
            evaluated(write(tmp_path, coco(**change)))
    (tmp_path / "instances.json").write_text('{"images": [')
    with pytest.raises(DataError, match="instances.json: no valid JSON.*cut off"):
        evaluated(tmp_path / "instances.json")


def test_fault_14_a_picture_of_another_size_than_its_entry(tmp_path):
    path = write(tmp_path, coco(annotations=annotations((1, 1, 5, 5), segmentation=SQUARE)))
    expect(evaluated(path)["coco/segm_mAP"] == pytest.approx(1))
    with pytest.raises(DataError, match=r"a.jpg: is 40x50, but .*instances.json says 50x40 .* of image 1; .*EXIF"):
        evaluated(path, size=(50, 40))
    without = coco(annotations=annotations((1, 1, 5, 5), segmentation=SQUARE))
    del without["images"][0]["height"]
    expect(evaluated(write(tmp_path, without))["coco/segm_mAP"] == pytest.approx(1))  # the picture's own size does


@pytest.mark.parametrize("number", [-1, 2**31, 2**53 + 1, 2**70])
def test_fault_14_ids_of_any_size(tmp_path, number):
    """No id passes through a type that does not hold it."""
    document = coco(annotations=annotations((1, 1, 5, 5), (20, 20, 5, 5), segmentation=SQUARE))
    document["annotations"][1] |= dict(category_id=number, id=number)
    document["categories"][1]["id"] = number
    for backend in ("faster-coco-eval", "pycocotools"):
        found = evaluated(write(tmp_path, document), backend=backend, classwise=True)
        values = [found[f"coco/bbox_{name}_precision"] for name in ("cat", "dog")]
        expect(values == pytest.approx([1, 0]), found)
    document["images"][0]["id"] = number
    for entry in document["annotations"]:
        entry["image_id"] = number
    data = dataset(tmp_path, document)
    expect(data[0]["data_samples"].img_id == number and len(data[0]["data_samples"].gt_instances) == 2)
