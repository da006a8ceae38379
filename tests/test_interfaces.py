"""Registered names are an interface: one may be added here, never renamed."""

import importlib

import pytest

from visionpatch import registry

NAMES = {
    "MODELS": "Classifier CrossEntropyLoss CrossFormer DataPreprocessor DiceLoss EfficientNetLite FCNHead FPN FPNHead "
    "LinearClsHead Segmentor UPerHead",
    "DATASETS": "ADE20KDataset COCOStuffDataset CamVidDataset CityscapesDataset ConcatDataset FolderDataset "
    "ImageFolderDataset ListFileDataset PascalVOCDataset RepeatDataset SegmentationDataset",
    "DATA_SAMPLERS": "DefaultSampler InfiniteSampler TrainSampler",
    "TRANSFORMS": "CenterCrop LoadAnnotations LoadImage LoadImageFromFile PackInputs PackSegInputs Pad "
    "PhotoMetricDistortion RandomCrop RandomFlip RandomResize RandomResizedCrop Resize ResizeEdge",
    "METRICS": "Accuracy IoUMetric",
}
PACKAGES = ("backbones", "necks", "heads", "losses", "models", "datasets", "datasets.transforms", "evaluation")


@pytest.mark.parametrize("kind", NAMES)
def test_registered_names(kind):
    for package in PACKAGES:
        importlib.import_module(f"visionpatch.{package}")
    members = getattr(registry, kind).module_dict.items()
    ours = {name for name, member in members if member.__module__.startswith("visionpatch.")}
    assert ours == set(NAMES[kind].split())
