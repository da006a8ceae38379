"""What a config calls `model`: wiring of backbone, neck and heads."""

from visionpatch.models.classifier import Classifier
from visionpatch.models.data_preprocessor import DataPreprocessor, FewShotDataPreprocessor
from visionpatch.models.detector import Detector
from visionpatch.models.few_shot_segmentor import FewShotSegmentor
from visionpatch.models.segmentor import Segmentor

__all__ = ["Classifier", "DataPreprocessor", "Detector", "FewShotDataPreprocessor", "FewShotSegmentor", "Segmentor"]
