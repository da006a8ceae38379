"""Registered names are an interface: one may be added here, never renamed."""

import importlib

import pytest

from visionpatch import registry

NAMES = {
    "MODELS": "AFDNetHead BackboneFeatures CIoULoss CascadeRCNN CascadeRoIHead Classifier ConvFCBBoxHead "
    "CrossEntropyLoss CrossFormer DIoULoss DataPreprocessor DependencyReader DependencyViT DescriptorHead Detector "
    "DiceLoss EfficientNetLite EfficientNetV2 FCNHead FCNMaskHead FILNetHead FPN FPNHead FasterRCNN FeatureDistance "
    "FeaturePyramidFromPlain FewShotDataPreprocessor FewShotSegmentor FocalLoss FourBranchEncoder GIoULoss "
    "GradientNCCHead ImageTokenizer InceptionFeatures IoULoss L1Loss LPIPS LinearClsHead MDFRNHead MLPClsHead "
    "MaskRCNN MaskedTokenGenerator MaskedTokenTransformer PairEncoder PatchEncoder PatchMatcher "
    "PatchPairPreprocessor PriorHead PrototypeHead RPNHead ResNet RetinaHead RetinaNet RoIAlign SAGViT SCCANHead "
    "SIFTHead Segmentor Shared2FCBBoxHead SiameseHead SingleRoIExtractor SmoothL1Loss StandardRoIHead TokenizerLoss "
    "TwoChannelHead UPerHead",
    "TASK_UTILS": "AnchorGenerator CutMix DeltaXYWHBBoxCoder MaxIoUAssigner Mixup PseudoSampler RandomSampler",
    "DATASETS": "ADE20KDataset COCOStuffDataset CamVidDataset CityscapesDataset CocoDataset CocoSegDataset "
    "ConcatDataset EpisodeDataset FolderDataset ImageDataset ImageFolderDataset LabelMeDataset ListFileDataset "
    "MultiImageMixDataset PascalVOCDataset PatchPairDataset PatchPairTrainDataset RepeatDataset "
    "SegmentationDataset VOCDetectionDataset VisLwirDataset VisNirDataset",
    "DATA_SAMPLERS": "AspectRatioBatchSampler DefaultSampler InfiniteSampler TrainSampler",
    "TRANSFORMS": "AugmentPatchPair CenterCrop ColorJitter FilterAnnotations ForegroundCrop LargeScaleJitter "
    "LoadAnnotations LoadImage LoadImageFromFile LoadPatchPair MixUp Mosaic PackDetInputs PackInputs "
    "PackPatchPair PackSegInputs Pad PhotoMetricDistortion RandAugment RandomChoice RandomChoiceResize "
    "RandomCrop RandomErasing RandomFlip RandomGaussianBlur RandomResize RandomResizedCrop RandomRotate "
    "RandomScale Resize ResizeEdge ResizeToCanvas SelectClass",
    "METRICS": "Accuracy CocoMetric CodebookUsage FPR95 FewShotMetric FrechetDistance ImageQuality IoUMetric "
    "PartMetric PerceptualDistance SaliencyMetric SingleLabelMetric VOCMetric",
}
PACKAGES = ("backbones", "necks", "heads", "losses", "models", "datasets", "datasets.transforms", "evaluation")


@pytest.mark.parametrize("kind", NAMES)
def test_registered_names(kind):
    for package in PACKAGES:
        importlib.import_module(f"visionpatch.{package}")
    members = getattr(registry, kind).module_dict.items()
    ours = {name for name, member in members if member.__module__.startswith("visionpatch.")}
    assert ours == set(NAMES[kind].split())
