"""Readers of public formats, samplers, and the transforms of a sample."""

from visionpatch.paths import data_path

from .ade20k import ADE20KDataset
from .base import BaseDataset
from .camvid import CamVidDataset
from .cityscapes import CityscapesDataset
from .classification import ImageFolderDataset, ListFileDataset
from .coco import CocoDataset
from .coco_json import read_coco
from .coco_seg import CocoSegDataset
from .coco_stuff import COCOStuffDataset
from .detection import DetectionDataset
from .episodes import Episode, EpisodeLists, draw_episode, fold_classes, make_lists
from .few_shot import EpisodeDataset
from .folder import FolderDataset
from .images import ImageDataset
from .labelme import LabelMeDataset, read_labelme
from .patch_lists import VisLwirDataset, VisNirDataset
from .patch_manifest import PatchPair, read_manifest
from .patch_pairs import PatchPairDataset, PatchPairTrainDataset
from .samplers import AspectRatioBatchSampler, DefaultSampler, TrainSampler
from .segmentation import SegmentationDataset
from .segments import mask_of
from .voc import PascalVOCDataset
from .voc_detection import VOCDetectionDataset
from .voc_xml import read_voc, read_voc_objects
from .wrappers import ConcatDataset, MultiImageMixDataset, RepeatDataset

__all__ = [
    "ADE20KDataset",
    "AspectRatioBatchSampler",
    "BaseDataset",
    "COCOStuffDataset",
    "CamVidDataset",
    "CityscapesDataset",
    "CocoDataset",
    "CocoSegDataset",
    "ConcatDataset",
    "DefaultSampler",
    "DetectionDataset",
    "Episode",
    "EpisodeDataset",
    "EpisodeLists",
    "FolderDataset",
    "ImageDataset",
    "ImageFolderDataset",
    "LabelMeDataset",
    "ListFileDataset",
    "MultiImageMixDataset",
    "PascalVOCDataset",
    "PatchPair",
    "PatchPairDataset",
    "PatchPairTrainDataset",
    "RepeatDataset",
    "SegmentationDataset",
    "TrainSampler",
    "VOCDetectionDataset",
    "VisLwirDataset",
    "VisNirDataset",
    "data_path",
    "draw_episode",
    "fold_classes",
    "make_lists",
    "mask_of",
    "read_coco",
    "read_labelme",
    "read_manifest",
    "read_voc",
    "read_voc_objects",
]
