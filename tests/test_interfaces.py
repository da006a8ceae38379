"""Registered names are an interface: one may be added here, never renamed."""

import importlib

import pytest

from visionpatch import registry

NAMES = {
    "MODELS": "CIoULoss CascadeRCNN CascadeRoIHead Classifier ConvFCBBoxHead CrossEntropyLoss CrossFormer DIoULoss "
    "DataPreprocessor Detector DiceLoss EfficientNetLite EfficientNetV2 FCNHead FCNMaskHead FPN FPNHead FasterRCNN "
    "FewShotDataPreprocessor FewShotSegmentor FocalLoss GIoULoss IoULoss L1Loss LinearClsHead MLPClsHead MaskRCNN "
    "PriorHead PrototypeHead RPNHead ResNet RetinaHead RetinaNet RoIAlign SAGViT SCCANHead Segmentor "
    "Shared2FCBBoxHead SingleRoIExtractor SmoothL1Loss StandardRoIHead UPerHead",
    "TASK_UTILS": "AnchorGenerator CutMix DeltaXYWHBBoxCoder MaxIoUAssigner Mixup PseudoSampler RandomSampler",
    "DATASETS": "ADE20KDataset COCOStuffDataset CamVidDataset CityscapesDataset CocoDataset CocoSegDataset "
    "ConcatDataset EpisodeDataset FolderDataset ImageFolderDataset LabelMeDataset ListFileDataset MultiImageMixDataset "
    "PascalVOCDataset RepeatDataset SegmentationDataset VOCDetectionDataset",
    "DATA_SAMPLERS": "AspectRatioBatchSampler DefaultSampler InfiniteSampler TrainSampler",
    "TRANSFORMS": "CenterCrop ColorJitter FilterAnnotations ForegroundCrop LargeScaleJitter LoadAnnotations LoadImage "
    "LoadImageFromFile MixUp Mosaic PackDetInputs PackInputs PackSegInputs Pad PhotoMetricDistortion "
    "RandAugment RandomChoice RandomChoiceResize RandomCrop RandomErasing RandomFlip RandomGaussianBlur RandomResize "
    "RandomResizedCrop RandomRotate RandomScale Resize ResizeEdge ResizeToCanvas SelectClass",
    "METRICS": "Accuracy CocoMetric FewShotMetric IoUMetric VOCMetric",
}
PACKAGES = ("backbones", "necks", "heads", "losses", "models", "datasets", "datasets.transforms", "evaluation")


@pytest.mark.parametrize("kind", NAMES)
def test_registered_names(kind):
    for package in PACKAGES:
        importlib.import_module(f"visionpatch.{package}")
    members = getattr(registry, kind).module_dict.items()
    ours = {name for name, member in members if member.__module__.startswith("visionpatch.")}
    assert ours == set(NAMES[kind].split())
