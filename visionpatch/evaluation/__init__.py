"""Metrics, as MMEngine's Evaluator runs them."""

from visionpatch.evaluation.accuracy import Accuracy
from visionpatch.evaluation.coco_metric import CocoMetric
from visionpatch.evaluation.few_shot_metric import FewShotMetric
from visionpatch.evaluation.fpr95 import FPR95
from visionpatch.evaluation.frechet import FrechetDistance
from visionpatch.evaluation.image_quality import CodebookUsage, ImageQuality, PerceptualDistance
from visionpatch.evaluation.iou_metric import IoUMetric, compute_confusion
from visionpatch.evaluation.part_metric import PartMetric
from visionpatch.evaluation.saliency import SaliencyMetric
from visionpatch.evaluation.single_label import SingleLabelMetric
from visionpatch.evaluation.voc_metric import VOCMetric

__all__ = [
    "Accuracy",
    "CocoMetric",
    "CodebookUsage",
    "FPR95",
    "FewShotMetric",
    "FrechetDistance",
    "ImageQuality",
    "IoUMetric",
    "PartMetric",
    "PerceptualDistance",
    "SaliencyMetric",
    "SingleLabelMetric",
    "VOCMetric",
    "compute_confusion",
]
