"""VOCMetric: mean average precision of boxes, as the PASCAL VOC challenge computes it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from rich import box
from rich.table import Table

from visionpatch.errors import ConfigError, DataError, nearest
from visionpatch.evaluation.common import as_text, class_names, warn_of_dropped
from visionpatch.evaluation.instances import Objects, annotated, predicted
from visionpatch.registry import METRICS
from visionpatch.structures import DataSample

EVAL_MODES = ("area", "11points")


@METRICS.register_module()
class VOCMetric(BaseMetric):
    """``pascal_voc/mAP`` (the mean over `iou_thrs`) and ``pascal_voc/AP50``, ... of each threshold; fractions.

    The detections of a class, best score first, each look at the one object of the picture that they overlap most:
    below the threshold they are wrong, on an object found before they are wrong, on a difficult one they do not count.
    Predictions with a score or coordinate that is not finite are left out and counted in the log. The means are over
    classes with objects that are not difficult. Without any the result is 0.

    Boxes are taken as edges: width = x2 - x1. The readers of this package give VOC's inclusive coordinates that way.

    Args:
        eval_mode: "area" (VOC 2010 to 2012), the area under the precision made monotone, or "11points" (VOC 2007),
            the mean of the best precisions from recall 0, 0.1, ... 1 on.
        iou_thrs: one or more.
        classwise: also return ``<class>_AP50``, -1 for a class without objects that count. The table of all classes is
            in the log either way.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result names; None: "pascal_voc".

    Raises:
        ConfigError: an unknown mode or a threshold outside (0, 1].
        DataError: no class names in the data set's metainfo.
        BadSampleError: a sample without the fields that are needed, or with an unknown class.
    """

    default_prefix = "pascal_voc"

    def __init__(
        self,
        eval_mode: str = "area",
        iou_thrs: float | Sequence[float] = 0.5,
        classwise: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if eval_mode not in EVAL_MODES:
            raise ConfigError(f'VOCMetric: eval_mode = "{eval_mode}"{nearest(eval_mode, EVAL_MODES)}')
        self.eval_mode = eval_mode
        self.iou_thrs = tuple(iou_thrs) if isinstance(iou_thrs, Sequence) else (iou_thrs,)
        if not self.iou_thrs or not all(0 < threshold <= 1 for threshold in self.iou_thrs):
            raise ConfigError(f"VOCMetric: iou_thrs = {iou_thrs}; thresholds above 0 and up to 1 are expected")
        self.classwise = classwise

    def check_sample(self, sample: DataSample) -> None:
        """Refuse a data set without ground truth before any time is spent on it; `sample` is one of its samples.

        Raises:
            DataError: no objects.
        """
        if "gt_instances" not in sample:
            raise DataError(
                f"{sample.where()}: VOCMetric needs gt_instances and the sample has none; put "
                'dict(type="LoadAnnotations", with_bbox=True) into the pipeline'
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what was found and what is there, one pair a sample."""
        number = len(class_names(self))
        self.results.extend((predicted(sample, number), annotated(sample, number)) for sample in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The means over classes; the table of all classes goes to the log."""
        classes = class_names(self)
        warn_of_dropped(self, sum(found.dropped for found, _ in results))
        numbers: dict[str, float] = {"mAP": 0.0}
        table = Table("Class", "objects", "detections", box=box.ASCII)
        columns = []
        for threshold in self.iou_thrs:
            name = f"AP{round(100 * threshold)}"
            table.add_column(name, justify="right")
            columns.append(class_precisions(results, len(classes), threshold, self.eval_mode))
            known = columns[-1][~np.isnan(columns[-1])]
            numbers[name] = float(known.mean()) if known.size else 0.0
            if self.classwise:
                values = np.nan_to_num(columns[-1], nan=-1.0).tolist()
                numbers |= {f"{label}_{name}": value for label, value in zip(classes, values, strict=True)}
        numbers["mAP"] = float(np.mean([numbers[f"AP{round(100 * threshold)}"] for threshold in self.iou_thrs]))
        for label, name in enumerate(classes):
            objects = sum(int(((truth.labels == label) & ~truth.ignored).sum()) for _, truth in results)
            detections = sum(int((found.labels == label).sum()) for found, _ in results)
            shown = ("-" if np.isnan(column[label]) else f"{100 * column[label]:.1f}" for column in columns)
            table.add_row(str(name), str(objects), str(detections), *shown)
        print_log(f"per class results, in percent:\n{as_text(table)}", MMLogger.get_current_instance())
        return numbers


def class_precisions(
    pairs: Sequence[tuple[Objects, Objects]], num_classes: int, threshold: float, mode: str = "area"
) -> np.ndarray:
    """(C,) average precision of each class over pictures (found, truth); nan without an object that counts."""
    values = np.full(num_classes, np.nan)
    for label in range(num_classes):
        scores, right, wrong, total = [np.zeros(0)], [np.zeros(0, bool)], [np.zeros(0, bool)], 0
        for found, truth in pairs:
            mine, theirs = found.labels == label, truth.labels == label
            total += int((~truth.ignored[theirs]).sum())
            if mine.any():
                scores.append(found.scores[mine])
                verdict = match(found.boxes[mine], scores[-1], truth.boxes[theirs], truth.ignored[theirs], threshold)
                right.append(verdict[0])
                wrong.append(verdict[1])
        if total:
            order = np.argsort(-np.concatenate(scores), kind="stable")
            hits, misses = np.concatenate(right)[order].cumsum(), np.concatenate(wrong)[order].cumsum()
            precision = hits / np.maximum(hits + misses, np.finfo(np.float32).eps)
            values[label] = average_precision(hits / total, precision, mode)
    return values


def match(
    boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray, difficult: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which of n detections (n, 4) of one class in one picture are right, and which wrong: (n,) bool each.

    Neither: the best object is a difficult one.
    """
    right, wrong = np.zeros(len(boxes), bool), np.zeros(len(boxes), bool)
    if not len(truth):
        return right, ~wrong
    overlaps = ious(boxes, truth)
    best, taken = overlaps.argmax(1), np.zeros(len(truth), bool)
    for i in np.argsort(-scores, kind="stable"):
        target = best[i]
        if overlaps[i, target] < threshold:
            wrong[i] = True
        elif not difficult[target]:
            right[i], wrong[i] = not taken[target], taken[target]
            taken[target] = True
    return right, wrong


def ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) overlaps of boxes (n, 4) and (m, 4); 0 where both are empty."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    sides = np.minimum(first[:, None, 2:], second[None, :, 2:]) - corner
    common = sides.clip(0).prod(2)  # (n, m)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-6)


def average_precision(recall: np.ndarray, precision: np.ndarray, mode: str = "area") -> float:
    """Of a curve whose recall rises, see `VOCMetric`."""
    if mode == "11points":
        levels = np.arange(0, 1 + 1e-3, 0.1)  # the rounding of its steps is part of the definition
        return float(np.mean([precision[recall >= level].max(initial=0) for level in levels]))
    recall = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    return float((np.diff(recall) * envelope[1:]).sum())
