"""The public formats: class tables, file layouts, and what their files mean."""

import cv2
import numpy as np
import pytest

from visionpatch.datasets import (
    ADE20KDataset,
    CamVidDataset,
    CityscapesDataset,
    COCOStuffDataset,
    PascalVOCDataset,
)
from visionpatch.datasets.transforms import LoadAnnotations, LoadImage

LOAD = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="PackInputs")]
FORMATS = {PascalVOCDataset: 21, ADE20KDataset: 150, COCOStuffDataset: 171, CityscapesDataset: 19, CamVidDataset: 11}

# pictures with the class, and pictures with at least 2048 pixels of it, for (train, val)
VOC_COUNTS = {
    "aeroplane": ((22, 17), (18, 16)), "bicycle": ((18, 12), (14, 10)), "bird": ((22, 17), (16, 14)),
    "boat": ((17, 16), (16, 11)), "bottle": ((22, 14), (21, 15)), "bus": ((19, 17), (18, 18)),
    "car": ((26, 21), (29, 22)), "cat": ((22, 22), (22, 22)), "chair": ((35, 29), (32, 28)),
    "cow": ((16, 16), (15, 15)), "diningtable": ((24, 22), (21, 21)), "dog": ((17, 15), (27, 26)),
    "horse": ((20, 19), (23, 21)), "motorbike": ((21, 20), (18, 18)), "person": ((131, 107), (132, 118)),
    "pottedplant": ((19, 16), (26, 18)), "sheep": ((14, 14), (17, 16)), "sofa": ((19, 19), (26, 26)),
    "train": ((18, 18), (21, 21)), "tvmonitor": ((26, 23), (24, 20)),
}  # fmt: skip


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def labels(dataset, index=0):
    return dataset[index]["data_samples"].gt_sem_seg.data[0].numpy()


IMAGE = np.zeros((2, 4, 3), np.uint8)


@pytest.mark.parametrize("kind, number", FORMATS.items())
def test_class_tables(kind, number):
    classes, palette = kind.METAINFO["classes"], kind.METAINFO["palette"]
    assert len(classes) == len(set(classes)) == len(palette) == number
    assert all(name == name.strip() for name in classes)


def test_some_classes_by_number():
    assert ADE20KDataset.METAINFO["classes"][12] == "person"
    assert ADE20KDataset.METAINFO["classes"][149] == "flag"
    assert ADE20KDataset.METAINFO["palette"][1] == (180, 120, 120)
    assert COCOStuffDataset.METAINFO["classes"][79:81] == ("toothbrush", "banner")
    assert CityscapesDataset.METAINFO["classes"][13] == "car"
    assert CityscapesDataset.METAINFO["palette"][13] == (0, 0, 142)


def test_ade20k(tmp_path):
    write(tmp_path / "images/training/ADE_train_00000001.jpg", IMAGE)
    write(tmp_path / "annotations/training/ADE_train_00000001.png", np.array([[0, 1, 2, 150]] * 2, np.uint8))
    prefix = dict(img_path="images/training", seg_map_path="annotations/training")
    data = ADE20KDataset(data_root=str(tmp_path), data_prefix=prefix, pipeline=LOAD)
    assert labels(data)[0].tolist() == [255, 0, 1, 149]
    assert data[0]["data_samples"].reduce_zero_label is True
    selected = dict(classes=("building", "flag"))
    data = ADE20KDataset(data_root=str(tmp_path), data_prefix=prefix, pipeline=LOAD, metainfo=selected)
    assert labels(data)[0].tolist() == [255, 255, 0, 1]


def test_coco_stuff(tmp_path):
    write(tmp_path / "images/train2017/000000000009.jpg", IMAGE)
    write(tmp_path / "annotations/train2017/000000000009_labelTrainIds.png", np.array([[0, 170, 255, 3]] * 2, np.uint8))
    write(
        tmp_path / "annotations/train2017/000000000009.png", np.zeros((2, 4), np.uint8)
    )  # the original ids beside them
    prefix = dict(img_path="images/train2017", seg_map_path="annotations/train2017")
    data = COCOStuffDataset(data_root=str(tmp_path), data_prefix=prefix, pipeline=LOAD)
    assert (data.stems, labels(data)[0].tolist()) == (["000000000009"], [0, 170, 255, 3])


def test_cityscapes(tmp_path):
    for city in ("aachen", "bonn"):
        write(tmp_path / f"leftImg8bit/train/{city}/{city}_000000_000019_leftImg8bit.png", IMAGE)
        for kind in ("labelTrainIds", "labelIds", "instanceIds"):
            write(
                tmp_path / f"gtFine/train/{city}/{city}_000000_000019_gtFine_{kind}.png", np.full((2, 4), 18, np.uint8)
            )
    prefix = dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train")
    data = CityscapesDataset(data_root=str(tmp_path), data_prefix=prefix, pipeline=LOAD)
    assert data.stems == ["aachen/aachen_000000_000019", "bonn/bonn_000000_000019"]
    assert (labels(data, 1) == 18).all()


def test_camvid(real_data):
    prefix = dict(img_path="train", seg_map_path="trainannot")
    data = CamVidDataset(data_root=str(real_data / "camvid_small"), data_prefix=prefix, pipeline=LOAD)
    assert len(data) == 20
    seen = np.unique(np.concatenate([np.unique(labels(data, i)) for i in range(20)]))
    assert set(seen) == {*range(11), 255}
    raw = cv2.imread(data.get_data_info(0)["seg_path"], cv2.IMREAD_UNCHANGED)
    assert np.array_equal(labels(data), np.where(raw == 11, 255, raw))


@pytest.mark.parametrize("split, column, samples", [("train", 0, 311), ("val", 1, 321)])
def test_voc_counts(real_data, split, column, samples):
    root = real_data / "VOCdevkit/VOC2012"
    data = PascalVOCDataset(data_root=str(root), ann_file=f"ImageSets/Segmentation/{split}.txt")
    assert len(data) == samples
    read_image, read_labels = LoadImage(), LoadAnnotations()
    counts = []
    for index in range(len(data)):
        info = data.get_data_info(index)
        if index < 10:
            info = read_image(info)  # the size of the mask is checked too
        counts.append(np.bincount(read_labels(info)["gt_seg_map"].ravel(), minlength=256)[:21])
    pixels = np.array(counts)
    present, large = (pixels > 0).sum(0), (pixels >= 2048).sum(0)
    for index, name in enumerate(data.metainfo["classes"][1:], start=1):
        assert (present[index], large[index]) == VOC_COUNTS[name][column], name
