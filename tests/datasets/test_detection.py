"""Detection datasets: what is read, what is left out and logged, and that workers share one array."""

import contextlib
import io
import json
import logging
import os
import pickle

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from visionpatch.datasets import (
    CocoDataset,
    ConcatDataset,
    MultiImageMixDataset,
    RepeatDataset,
    TrainSampler,
    VOCDetectionDataset,
    data_path,
)
from visionpatch.datasets.packed import PackedImages
from visionpatch.errors import ConfigError, DataError

LOAD = [dict(type="LoadImage"), dict(type="LoadAnnotations", with_bbox=True)]
MASKS = [dict(type="LoadImage"), dict(type="LoadAnnotations", with_bbox=True, with_mask=True)]
PACK = [dict(type="PackInputs")]
SQUARE = [[4, 4, 14, 4, 14, 24, 4, 24]]


def annotation(number, image, category, box, **more):
    return dict(id=number, image_id=image, category_id=category, bbox=box, area=box[2] * box[3], iscrowd=0) | more


DOCUMENT = dict(
    images=[dict(id=10 + i, file_name=f"{i}.png", height=40, width=50) for i in range(4)]
    + [dict(id=20, file_name="small.png", height=20, width=50)],
    categories=[dict(id=5, name="cat"), dict(id=2, name="dog")],
    annotations=[
        annotation(1, 10, 5, [4, 4, 10, 20], segmentation=SQUARE),
        annotation(2, 10, 2, [40, 30, 20, 20], segmentation=[[40, 30, 60, 30, 60, 50]]),
        annotation(3, 11, 2, [1, 1, 30, 30], segmentation=dict(size=[40, 50], counts=[0, 2000]), iscrowd=1),
        annotation(4, 12, 2, [60, 1, 5, 5]),  # outside
        annotation(5, 20, 2, [1, 1, 5, 5]),
    ],
)


@pytest.fixture
def folder(tmp_path):
    """Pictures of DOCUMENT and its file, in the usual layout."""
    for sub in ("annotations", "images"):
        (tmp_path / sub).mkdir()
    for image in DOCUMENT["images"]:
        picture = np.full((image["height"], image["width"], 3), image["id"], np.uint8)
        cv2.imwrite(str(tmp_path / "images" / image["file_name"]), picture)
    (tmp_path / "annotations/all.json").write_text(json.dumps(DOCUMENT))
    return tmp_path


@pytest.fixture
def coco(folder):
    def build(document=None, **kwargs):
        if document is not None:
            (folder / "annotations/all.json").write_text(json.dumps(document))
        args = dict(data_root=str(folder), ann_file="annotations/all.json", data_prefix=dict(img="images"))
        return CocoDataset(**args | kwargs)

    return build


@pytest.fixture
def log(monkeypatch):
    """The lines the datasets log, as (level, text)."""
    from visionpatch.datasets import detection

    lines = []
    monkeypatch.setattr(detection, "print_log", lambda text, _, level: lines.append((level, text)))
    return lines


class TestCoco:
    def test_training_leaves_out_empty_and_small_pictures(self, coco, log):
        data = coco()
        assert [data.get_data_info(i)["img_id"] for i in range(len(data))] == [10, 11]  # 11 holds a crowd
        assert data.metainfo["classes"] == ("cat", "dog")
        assert data.metainfo["cat_ids"] == (5, 2)
        assert len(data.metainfo["palette"]) == 2
        [(level, text)] = log
        assert level == logging.WARNING
        for part in ("5 objects in 5 images", "2 image without objects", "1 image with a side below 32 pixels",
                     "1 box outside the picture", "1 box clipped", "1 crowd"):  # fmt: skip
            assert part in text

    def test_evaluation_and_no_filter_keep_all(self, coco):
        ids = [10, 11, 12, 13, 20]
        for data in (coco(test_mode=True), coco(filter_cfg=None)):
            assert [data.get_data_info(i)["img_id"] for i in range(len(data))] == ids
            assert data.read_report.noted["image without objects"] == 2
        assert len(coco(filter_cfg=dict(min_size=30))) == 4
        assert len(coco(filter_cfg=dict(filter_empty_gt=True))) == 3

    def test_samples(self, coco):
        sample = coco(pipeline=MASKS + PACK)[0]["data_samples"]
        assert sample.gt_instances.bboxes.tolist() == [[4, 4, 14, 24], [40, 30, 50, 40]]
        assert sample.gt_instances.labels.tolist() == [0, 1]
        assert sample.gt_instances.masks[0].nonzero().min(0).values.tolist() == [4, 4]
        assert sample.gt_instances.masks[0].sum() == 200
        assert sample.img_id == 10
        assert sample.ori_shape == (40, 50)
        crowd = coco(pipeline=MASKS + PACK)[1]["data_samples"]
        assert len(crowd.gt_instances) == 0
        assert crowd.ignored_instances.masks.sum() == 2000

    def test_classes(self, coco):
        data = coco(metainfo=dict(classes=("dog",), palette=[(1, 2, 3)]), pipeline=LOAD + PACK)
        assert (data.metainfo["cat_ids"], data.metainfo["palette"]) == ((2,), [(1, 2, 3)])
        assert data[0]["data_samples"].gt_instances.labels.tolist() == [0]
        with pytest.raises(DataError, match='no category "dgo"; did you mean "dog"'):
            coco(metainfo=dict(classes=("dgo",)))

    def test_the_only_file_of_a_folder(self, coco, folder):
        assert len(coco(ann_file="annotations")) == 2
        with pytest.raises(DataError, match="0 JSON files .none.; name the one to read as ann_file"):
            coco(ann_file="")
        (folder / "annotations/b.json").write_text("{}")
        with pytest.raises(DataError, match="2 JSON files .all.json, b.json."):
            coco(ann_file="annotations")
        with pytest.raises(ConfigError, match="needs ann_file"):
            CocoDataset()

    def test_missing_pictures(self, coco, folder):
        (folder / "images/0.png").rename(folder / "0.png")
        with pytest.raises(DataError, match=r"all.json: 1 of 2 pictures are missing: 0.png \(expected .*images/0.png"):
            coco()
        (folder / "0.png").rename(folder / "images/0.png")
        with pytest.raises(DataError, match="data_prefix.img"):
            coco(data_prefix=dict(img="image"))
        with pytest.raises(ConfigError, match='data_prefix has no key "imgs"; did you mean "img"'):
            coco(data_prefix=dict(imgs="images"))
        with pytest.raises(ConfigError, match='data_prefix has no key "ann"'):
            coco(data_prefix=dict(img="images", ann="annotations"))
        assert coco(data_prefix=dict(img_path="images"), ann_file="annotations/all.json").img_dir == f"{folder}/images"

    def test_filter_arguments(self, coco):
        with pytest.raises(ConfigError, match='filter_cfg has no key "minsize"; did you mean "min_size"'):
            coco(filter_cfg=dict(minsize=32))
        with pytest.raises(ConfigError, match="filter_cfg.min_size is .* not -1"):
            coco(filter_cfg=dict(min_size=-1))
        with pytest.raises(DataError, match="no picture is left to train on"):
            coco(filter_cfg=dict(min_size=41))

    def test_small_objects_are_ignored(self, coco):
        data = coco(filter_cfg=dict(bbox_min_size=11), pipeline=LOAD + PACK)  # the boxes are 10 x 20 and 10 x 10
        sample = data[0]["data_samples"]
        assert (len(sample.gt_instances), len(sample.ignored_instances)) == (0, 2)
        assert data.read_report.noted["object with a side below 11 pixels, ignored"] == 3
        assert len(coco(filter_cfg=dict(bbox_min_size=10), pipeline=LOAD + PACK)[0]["data_samples"].gt_instances) == 2
        data = coco(filter_cfg=dict(bbox_min_size=11), pipeline=LOAD + PACK, test_mode=True)
        assert len(data[0]["data_samples"].gt_instances) == 2

    def test_masks_for_some_or_none(self, coco):
        document = json.loads(json.dumps(DOCUMENT))
        del document["annotations"][1]["segmentation"]
        data = coco(document, pipeline=MASKS + PACK)
        assert data.read_report.noted["object without valid outline, ignored"] == 1
        assert data[0]["data_samples"].ignored_instances.labels.tolist() == [1]
        for entry in document["annotations"]:
            entry.pop("segmentation", None)
        with pytest.raises(DataError, match="no object has a valid segmentation; set with_mask=False"):
            coco(document, pipeline=MASKS)
        assert len(coco(document, pipeline=LOAD)) == 2

    def test_pictures_alone_for_test_sets(self, coco):
        document = {key: DOCUMENT[key] for key in ("images", "categories")}
        data = coco(document, test_mode=True, pipeline=LOAD + PACK)
        assert len(data) == 5
        assert len(data[0]["data_samples"].gt_instances) == 0
        with pytest.raises(DataError, match='no "annotations"'):
            coco(document)

    def test_training_on_pictures_without_objects(self, coco):
        document = {**DOCUMENT, "annotations": []}
        with pytest.raises(DataError, match="no usable object is left"):
            coco(document)
        data = coco(document, filter_cfg=None, pipeline=MASKS + PACK)
        assert data[0]["data_samples"].gt_instances.masks.shape == (0, 40, 50)

    def test_indices(self, coco):
        assert [i["data_samples"].img_id for i in coco(indices=[1], pipeline=LOAD + PACK)] == [11]


class TestPacked:
    def test_round_trip(self, coco):
        from visionpatch.datasets import read_coco

        images = read_coco(coco().ann_file).images
        packed = PackedImages(images)
        assert (len(packed), packed.data.dtype, packed.data.ndim) == (5, np.uint8, 1)
        for image, other in zip(images, packed, strict=False):
            for name in vars(image):
                a, b = getattr(image, name), getattr(other, name)
                same = a.dtype == b.dtype and np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
                assert same, name

    def test_a_dataset_holds_arrays_not_objects(self, coco):
        data = coco()
        assert vars(data.images).keys() == {"ends", "data"}
        assert len(pickle.dumps(data.images)) < data.images.data.nbytes + 1000


@pytest.fixture
def voc(tmp_path):
    """Two pictures with XML files; the second one's only object is difficult."""
    for sub in ("JPEGImages", "Annotations"):
        (tmp_path / sub).mkdir()
    for stem, name, difficult in (("a", "dog", 0), ("b", "cat", 1)):
        cv2.imwrite(str(tmp_path / f"JPEGImages/{stem}.jpg"), np.zeros((40, 50, 3), np.uint8))
        (tmp_path / f"Annotations/{stem}.xml").write_text(
            f"<annotation><filename>x.jpg</filename><size><width>50</width><height>40</height></size><object>"
            f"<name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>5</xmin><ymin>1</ymin>"
            "<xmax>10</xmax><ymax>40</ymax></bndbox></object></annotation>"
        )
    (tmp_path / "train.txt").write_text("b\na\n")
    return tmp_path


class TestVOC:
    def test_samples(self, voc):
        data = VOCDetectionDataset(data_root=str(voc), ann_file="train.txt", pipeline=LOAD + PACK)
        assert len(data.metainfo["classes"]) == 20
        b, a = (item["data_samples"] for item in data)
        assert a.img_path == f"{voc}/JPEGImages/a.jpg"
        assert a.gt_instances.bboxes.tolist() == [[4, 0, 10, 40]]
        assert data.metainfo["classes"][a.gt_instances.labels[0]] == "dog"
        assert (len(b.gt_instances), len(b.ignored_instances)) == (0, 1)

    def test_selected_classes(self, voc):
        data = VOCDetectionDataset(data_root=str(voc), metainfo=dict(classes=("dog",)))
        assert [data.get_data_info(0)["img_id"], len(data)] == ["a", 1]
        assert data.read_report.left_out["category not in classes"] == 1

    def test_faults(self, voc):
        with pytest.raises(DataError, match='a.xml: object 0 is a "dog", not one of the 1 classes'):
            VOCDetectionDataset(data_root=str(voc), metainfo=dict(classes=("hound",)))
        with pytest.raises(DataError, match="no usable object is left"):
            VOCDetectionDataset(data_root=str(voc), metainfo=dict(classes=("cow",)))
        (voc / "train.txt").write_text("a\nc\n")
        with pytest.raises(DataError, match="1 of 2 samples have no annotation: c"):
            VOCDetectionDataset(data_root=str(voc), ann_file="train.txt")
        (voc / "JPEGImages/b.jpg").unlink()
        with pytest.raises(DataError, match="1 of 2 samples have no image: b"):
            VOCDetectionDataset(data_root=str(voc))
        with pytest.raises(DataError, match="no object has a valid segmentation"):
            VOCDetectionDataset(data_root=str(voc), ann_file="", indices=None, pipeline=MASKS,
                                data_prefix=dict(img="JPEGImages", ann=_only(voc, "a")))  # fmt: skip


def _only(root, stem):
    (root / "one").mkdir()
    (root / f"one/{stem}.xml").write_bytes((root / f"Annotations/{stem}.xml").read_bytes())
    return "one"


AUGMENT = [
    dict(type="RandomChoiceResize", scales=[(64, 48), (90, 50)], keep_ratio=True),
    dict(type="RandomCrop", crop_size=(30, 30)),
    dict(type="RandomFlip"),
    dict(type="PhotoMetricDistortion"),
]
MIX = [
    dict(type="Mosaic", img_scale=(48, 40)),
    dict(type="MixUp", img_scale=(48, 40)),
    dict(type="RandomFlip"),
    dict(type="FilterAnnotations"),
]


def flat(item):
    sample = item["data_samples"]
    return [item["inputs"], sample.gt_instances.bboxes, sample.gt_instances.masks, sample.ignored_instances.bboxes]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))


class TestMixDataset:
    def build(self, coco, inner=AUGMENT, outer=MIX, seed=3):
        data = MultiImageMixDataset(coco(pipeline=MASKS + inner, filter_cfg=None), outer + PACK)
        data.seed = seed
        return data

    def test_follows_from_seed_epoch_and_index(self, coco):
        data, again = self.build(coco), self.build(coco)
        samples = [data[key] for key in range(10)]  # two epochs
        np.random.seed(0)
        assert all(same(again[key], samples[key]) for key in reversed(range(10)))
        assert not same(samples[0], samples[5])
        assert not same(self.build(coco, seed=4)[0], samples[0])
        assert samples[0]["data_samples"].gt_instances.masks.shape[1:] == samples[0]["inputs"].shape[1:]

    def test_leaves_the_random_state_alone(self, coco):
        data = self.build(coco)
        np.random.seed(5)
        before = np.random.get_state()[1].tolist()
        data[0]
        assert np.random.get_state()[1].tolist() == before

    def test_workers_change_nothing(self, coco):
        data = self.build(coco)
        single = [data[key] for key in (3, 7, 4, 6)]
        loader = DataLoader(data, 2, sampler=[3, 7, 4, 6], num_workers=2, collate_fn=pseudo_collate)
        batches = [{k: b[k][i] for k in b} for b in loader for i in range(2)]
        assert all(same(a, b) for a, b in zip(batches, single, strict=True))

    def test_inner_samples_are_of_the_same_epoch(self, coco):
        seen = []

        class Spy:
            def get_indexes(self, dataset):
                return [2, 0]

            def __call__(self, results):
                seen.append([other["sample_idx"] for other in results["mix_results"]])
                seen.append([other["img"] for other in results["mix_results"]])
                return results

        data = self.build(coco, outer=[Spy()])
        data[5 + 1]
        assert seen[0] == [2, 0]
        assert np.array_equal(seen[1][0], data.dataset[5 + 2]["img"])

    def test_inside_other_wrappers(self, coco):
        data = ConcatDataset([self.build(coco), RepeatDataset(self.build(coco), 2)])
        TrainSampler(data, seed=1)
        assert len(data) == 15
        assert not same(data[0], data[5])

    def test_packed_too_early(self, coco):
        data = MultiImageMixDataset(coco(pipeline=LOAD + PACK), PACK)
        with pytest.raises(ConfigError, match="PackInputs belongs to the end of the outer pipeline"):
            data[0]


@pytest.mark.skipif(not os.path.isdir(data_path("data/coco_small")), reason="needs data/coco_small")
class TestRealPictures:
    def test_coco(self):
        for split, images, crowds in (("train", 160, 14), ("val", 158, 16)):
            data = CocoDataset(
                data_root="data/coco_small", ann_file=f"annotations/instances_{split}2017.json",
                data_prefix=dict(img=f"{split}2017"), pipeline=MASKS + PACK, indices=None,
            )  # fmt: skip
            assert len(data) == images
            assert len(data.metainfo["classes"]) == 80
            assert data.read_report.noted["crowd"] == crowds
        sample = data[0]["data_samples"].gt_instances
        filled = sample.masks.flatten(1).sum(1)
        whole = (sample.bboxes[:, 2:] - sample.bboxes[:, :2]).prod(1)
        assert (filled <= 1.1 * whole + 20).all()
        assert (filled > 0.1 * whole).all()

    def test_areas_are_the_files(self):
        data = CocoDataset(
            data_root="data/coco_small", ann_file="annotations/instances_val2017.json",
            data_prefix=dict(img="val2017"), pipeline=MASKS, indices=20,
        )  # fmt: skip
        for index in range(20):
            objects, masks = data.get_data_info(index)["objects"], data[index]["gt_masks"]
            large = (objects.areas > 400) & ~objects.crowd
            assert masks.sum((1, 2))[large] == pytest.approx(objects.areas[large], rel=0.1)

    def test_truth_as_prediction_is_perfect(self):
        pycocotools = pytest.importorskip("pycocotools.cocoeval")
        from pycocotools import mask
        from pycocotools.coco import COCO

        data = CocoDataset(
            data_root="data/coco_small", ann_file="annotations/instances_val2017.json",
            data_prefix=dict(img="val2017"), test_mode=True, indices=60,
            pipeline=[MASKS[0], dict(type="Resize", scale=(300, 200), keep_ratio=True), MASKS[1], *PACK],
        )  # fmt: skip
        found, samples = [], [item["data_samples"] for item in data]
        for sample in samples:
            truth = sample.gt_instances
            assert truth.masks.shape[1:] == sample.ori_shape  # loaded after the resize: pixels of the file
            for box, label, shape in zip(truth.bboxes.tolist(), truth.labels.tolist(), truth.masks.numpy()):
                x1, y1, x2, y2 = box
                entry = dict(image_id=sample.img_id, category_id=data.metainfo["cat_ids"][label], score=1.0)
                rle = mask.encode(np.asfortranarray(shape))
                found.append(dict(entry, bbox=[x1, y1, x2 - x1, y2 - y1], segmentation=rle))
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(data.ann_file)
            for kind in ("bbox", "segm"):
                evaluation = pycocotools.COCOeval(truth, truth.loadRes(found), kind)
                evaluation.params.imgIds = [sample.img_id for sample in samples]
                evaluation.evaluate()
                evaluation.accumulate()
                evaluation.summarize()
                assert evaluation.stats[0] == pytest.approx(1.0, abs=1e-6), kind


@pytest.mark.skipif(not os.path.isdir(data_path("data/VOCdevkit/VOC2012")), reason="needs data/VOCdevkit")
def test_real_voc():
    data = VOCDetectionDataset(
        data_root="data/VOCdevkit/VOC2012",
        ann_file="ImageSets/Segmentation/train.txt",
        pipeline=LOAD + PACK,
    )
    assert len(data) == 311
    assert data.read_report.objects == 899
    assert not data.read_report.left_out
    flags = [len(item["data_samples"].ignored_instances) for item in (data[i] for i in range(40))]
    assert sum(flags) == sum(int(data.images[i].difficult.sum()) for i in range(40)) > 0
