"""Readers of public formats, samplers, and the transforms of a sample."""

from .ade20k import ADE20KDataset
from .base import BaseDataset
from .camvid import CamVidDataset
from .cityscapes import CityscapesDataset
from .classification import ImageFolderDataset, ListFileDataset
from .coco_json import read_coco
from .coco_stuff import COCOStuffDataset
from .folder import FolderDataset
from .paths import data_path
from .samplers import DefaultSampler, TrainSampler
from .segmentation import SegmentationDataset
from .segments import mask_of
from .voc import PascalVOCDataset
from .voc_xml import read_voc, read_voc_objects
from .wrappers import ConcatDataset, RepeatDataset

__all__ = [
    "ADE20KDataset",
    "BaseDataset",
    "COCOStuffDataset",
    "CamVidDataset",
    "CityscapesDataset",
    "ConcatDataset",
    "DefaultSampler",
    "FolderDataset",
    "ImageFolderDataset",
    "ListFileDataset",
    "PascalVOCDataset",
    "RepeatDataset",
    "SegmentationDataset",
    "TrainSampler",
    "data_path",
    "mask_of",
    "read_coco",
    "read_voc",
    "read_voc_objects",
]
