"""PASCAL VOC 2012 segmentation (http://host.robots.ox.ac.uk/pascal/VOC/voc2012)."""

from typing import Any, ClassVar

from visionpatch.palette import colour_map
from visionpatch.registry import DATASETS

from .segmentation import SegmentationDataset

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@DATASETS.register_module()
class PascalVOCDataset(SegmentationDataset):
    """21 classes; ``data_root="data/VOCdevkit/VOC2012"``, ``ann_file="ImageSets/Segmentation/train.txt"``."""

    METAINFO: ClassVar[dict[str, Any]] = dict(classes=CLASSES, palette=colour_map(21))
    DATA_PREFIX: ClassVar[dict[str, str]] = dict(img_path="JPEGImages", seg_map_path="SegmentationClass")
