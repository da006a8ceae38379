"""Metrics, as MMEngine's Evaluator runs them."""

from visionpatch.evaluation.accuracy import Accuracy
from visionpatch.evaluation.coco_metric import CocoMetric
from visionpatch.evaluation.few_shot_metric import FewShotMetric
from visionpatch.evaluation.iou_metric import IoUMetric, compute_confusion
from visionpatch.evaluation.voc_metric import VOCMetric

__all__ = ["Accuracy", "CocoMetric", "FewShotMetric", "IoUMetric", "VOCMetric", "compute_confusion"]
