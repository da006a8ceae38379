"""Metrics, as MMEngine's Evaluator runs them."""

from visionpatch.evaluation.accuracy import Accuracy
from visionpatch.evaluation.iou_metric import IoUMetric, compute_confusion
from visionpatch.evaluation.palette_png import write_palette_png

__all__ = ["Accuracy", "IoUMetric", "compute_confusion", "write_palette_png"]
