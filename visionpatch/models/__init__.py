"""What a config calls `model`: wiring of backbone, neck and heads."""

from visionpatch.models.batch_augment import BatchAugment, CutMix, Mixup
from visionpatch.models.classifier import Classifier
from visionpatch.models.data_preprocessor import DataPreprocessor, FewShotDataPreprocessor
from visionpatch.models.dependency_reader import DependencyReader
from visionpatch.models.detector import Detector
from visionpatch.models.few_shot_segmentor import FewShotSegmentor
from visionpatch.models.image_tokenizer import ImageTokenizer
from visionpatch.models.masked_token_generator import MaskedTokenGenerator
from visionpatch.models.patch_matcher import PatchMatcher
from visionpatch.models.patch_pair_preprocessor import PatchPairPreprocessor
from visionpatch.models.picture_features import BackboneFeatures, InceptionFeatures
from visionpatch.models.segmentor import Segmentor

__all__ = [
    "BackboneFeatures",
    "BatchAugment",
    "Classifier",
    "CutMix",
    "DataPreprocessor",
    "DependencyReader",
    "Detector",
    "FewShotDataPreprocessor",
    "FewShotSegmentor",
    "ImageTokenizer",
    "MaskedTokenGenerator",
    "InceptionFeatures",
    "Mixup",
    "PatchPairPreprocessor",
    "PatchMatcher",
    "Segmentor",
]
