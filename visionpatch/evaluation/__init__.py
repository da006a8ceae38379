"""Metrics, as MMEngine's Evaluator runs them."""

from visionpatch.evaluation.accuracy import Accuracy
from visionpatch.evaluation.iou_metric import IoUMetric, compute_confusion

__all__ = ["Accuracy", "IoUMetric", "compute_confusion"]
