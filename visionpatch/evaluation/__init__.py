"""Metrics, as MMEngine's Evaluator runs them."""

from visionpatch.evaluation.accuracy import Accuracy
from visionpatch.evaluation.coco_metric import CocoMetric
from visionpatch.evaluation.iou_metric import IoUMetric, compute_confusion
from visionpatch.evaluation.voc_metric import VOCMetric

__all__ = ["Accuracy", "CocoMetric", "IoUMetric", "VOCMetric", "compute_confusion"]
