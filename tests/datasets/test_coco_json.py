"""The COCO reader: its numbers on a file made by hand, agreement with pycocotools, and its arguments."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest

from visionpatch.datasets import objects as why
from visionpatch.datasets.coco_json import read_coco
from visionpatch.datasets.segments import mask_of
from visionpatch.errors import ConfigError, DataError

DOCUMENT = dict(
    images=[
        dict(id=7, file_name="a.jpg", height=40, width=50),
        dict(id=3, file_name="sub\\b.jpg", height=20, width=30.0),
        dict(id="c", file_name="c.jpg", height=10, width=10),
    ],
    categories=[dict(id=5, name="cat"), dict(id=2, name="dog")],
    annotations=[
        dict(id=1, image_id=7, category_id=2, bbox=[1, 2, 3.5, 4], area=9.0, segmentation=[[1, 2, 4, 2, 4, 6]]),
        dict(id=2, image_id=7, category_id=5, bbox=[45, 30, 20, 20], iscrowd=0),
        dict(id=3, image_id=3, category_id=5, bbox=[0, 0, 30, 20], iscrowd=1, area=600,
             segmentation=dict(size=[20, 30], counts=[0, 600])),
    ],
)  # fmt: skip


def changed(change):
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


@pytest.fixture
def read(tmp_path):
    """A function that reads a document, by default the one above."""

    def run(document=DOCUMENT, classes=None, **kwargs):
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(document))
        return read_coco(path, classes, **kwargs)

    return run


def test_numbers(read):
    data = read()
    assert (data.classes, data.category_ids) == (("cat", "dog"), (5, 2))
    a, b, c = data.images
    assert (a.id, a.file_name, a.height, a.width) == (7, "a.jpg", 40, 50)
    assert a.boxes.dtype == np.float32
    assert a.boxes.tolist() == [[1, 2, 4.5, 6], [45, 30, 50, 40]]
    assert (a.labels.tolist(), a.areas.tolist(), a.crowd.tolist()) == ([1, 0], [9.0, 400.0], [False, False])
    assert (a.segmentations, a.object_ids) == ([[[1, 2, 4, 2, 4, 6]], None], [1, 2])
    assert (b.file_name, b.width, b.crowd.tolist()) == ("sub/b.jpg", 30, [True])
    assert (c.id, c.boxes.shape, c.labels.shape) == ("c", (0, 4), (0,))
    assert (data.report.images, data.report.objects, dict(data.report.left_out)) == (3, 3, {})
    assert data.report.noted == {why.CLIPPED: 1, why.CROWD: 1, why.EMPTY: 1}
    assert data.report.examples[why.CLIPPED] == ["annotation 2 of a.jpg"]


def test_the_classes_asked_for_give_the_labels(read):
    data = read(classes=("dog", "cat"))
    assert (data.category_ids, data.images[0].labels.tolist()) == ((2, 5), [0, 1])
    data = read(classes=["dog"])
    assert [len(image.labels) for image in data.images] == [1, 0, 0]
    assert data.report.left_out == {why.OTHER_CLASS: 2}
    for wrong in ("dog", ("dog", "dog"), ()):
        with pytest.raises(ConfigError, match="tuple of different names"):
            read(classes=wrong)
    with pytest.raises(ConfigError, match='duplicates=.*did you mean "drop"'):
        read(duplicates="drp")


def test_arguments(read):
    assert [image.id for image in read(keep_empty=False).images] == [7, 3]
    masks = read(with_masks=True)
    assert [image.object_ids for image in masks.images] == [[1], [3], []]
    assert masks.report.left_out == {why.NO_MASK: 1}
    crowd = changed(lambda d: d["annotations"].__delitem__(slice(0, 2)))
    with pytest.raises(
        DataError,
        match=r"1 objects in 3 images; counted: 2 image without objects, 1 crowd: no usable object.*need_objects=False",
    ):
        read(crowd)
    assert read(crowd, need_objects=False).images[1].crowd.tolist() == [True]
    pictures = changed(lambda d: d.pop("annotations"))
    assert len(read(pictures, need_objects=False).images) == 3
    with pytest.raises(DataError, match='no "annotations", only images, categories'):
        read(pictures)


def test_duplicates_are_dropped_on_demand(read):
    twice = changed(lambda d: [d[table].append({**d[table][0], "name": "x"}) for table in list(d)])
    data = read(twice, duplicates="drop")
    assert data.report.left_out == {why.DUPLICATE: 3}
    assert [image.object_ids for image in data.images] == [[1, 2], [3], []]
    assert data.classes == ("cat", "dog")


def test_parts_of_a_segmentation(read):
    def polygons(*given):
        return read(changed(lambda d: d["annotations"][0].update(segmentation=list(given))))

    good = [0, 0, 5, 0, 5, 5]
    assert polygons(good, [1, 1]).images[0].segmentations[0] == [good]
    for bad in ([1, 2, 3, 4, 5], [0, 0, "5", 0, 5, 5], [0, 0, 1e6, 0, 5, 5], [0, 0, True, 0, 5, 5]):
        data = polygons(bad)
        assert data.images[0].segmentations[0] is None
        assert data.report.noted[why.BAD_MASK] == 1


@pytest.mark.parametrize(
    "file, images, objects, crowd",
    [
        ("instances_train2017", 160, 1444, 14),
        ("instances_val2017", 158, 1424, 16),
        ("person_keypoints_val2017", 79, 118, 1),
    ],
)
def test_equals_pycocotools_on_real_files(real_data, file, images, objects, crowd):
    tools = pytest.importorskip("pycocotools.coco")
    path = real_data / f"coco_small/annotations/{file}.json"
    data = read_coco(path)
    assert (len(data.images), data.report.objects, data.report.noted[why.CROWD]) == (images, objects, crowd)
    assert not data.report.left_out
    with contextlib.redirect_stdout(io.StringIO()):
        coco = tools.COCO(str(path))
    for image in data.images:
        expected = coco.loadAnns(coco.getAnnIds(image.id))
        assert image.object_ids == [a["id"] for a in expected]
        assert [data.category_ids[label] for label in image.labels] == [a["category_id"] for a in expected]
        assert image.crowd.tolist() == [a["iscrowd"] == 1 for a in expected]
        assert image.areas.tolist() == [a["area"] for a in expected]
        for box, segmentation, entry in zip(image.boxes, image.segmentations, expected):
            x, y, w, h = entry["bbox"]
            assert np.abs(box - [x, y, x + w, y + h]).max() < 1e-4
            assert np.array_equal(mask_of(segmentation, image.height, image.width), coco.annToMask(entry))
