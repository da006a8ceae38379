"""SaliencyMetric: maximum F measure, IoU and accuracy of foreground maps. T thresholds, n valid pixels of an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from numpy import ndarray

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.registry import METRICS
from visionpatch.structures import DataSample

BETA2 = 0.3  # weight of the recall in the F measure of this field
THRESHOLDS = np.arange(255) / 255.0


@METRICS.register_module()
class SaliencyMetric(BaseMetric):
    """Results in percent, each the mean over images of `pred_saliency` against the union of all labels but 0.

    - ``maxF``: at each of the 255 thresholds 0, 1/255, ... the F measure (beta^2 = 0.3) of each image, a pixel being
      predicted where its value is above the threshold; their mean over images; the largest of all thresholds.
      This order is that of the metric published with TokenCut.
    - ``maxF_mean_pr``: the older order: means of precision and recall over images, then F, then the largest.
    - ``IoU``, ``accuracy``: of the prediction above 0.5.

    A precision of nothing predicted and a recall of nothing to find are 1. No sample at all gives nan.

    Args:
        ignore_index: label of the pixels that count nowhere.
        centre: also measure, under names that begin with ``centre_``, a map that knows no picture: a Gaussian at the
            centre, 1 there, whose standard deviations are this share of the picture's sides. What photographers put in
            the middle makes it hard to beat. None leaves it out.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result names; None: "saliency".

    Raises:
        ConfigError: a `centre` that is not positive.
        BadSampleError: a sample without prediction or truth, of different sizes, or a value outside 0..1.
    """

    default_prefix = "saliency"

    def __init__(
        self,
        ignore_index: int = 255,
        centre: float | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if centre is not None and not centre > 0:
            raise ConfigError(f"SaliencyMetric: centre = {centre}; expected a positive share of the sides, or None")
        self.ignore_index, self.centre = ignore_index, centre

    def check_sample(self, sample: DataSample) -> None:
        """Refuse a data set without label maps before any time is spent on it.

        Raises:
            DataError: no label map.
        """
        if "gt_sem_seg" not in sample:
            raise DataError(f"{sample.where()}: SaliencyMetric needs gt_sem_seg and the sample has none")

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Reduce each sample to its precision and recall at every threshold, IoU and accuracy."""
        for sample in data_samples:
            prediction, truth = pair_of_maps(sample, "pred_saliency")
            if not (prediction.min() >= 0 and prediction.max() <= 1):
                raise BadSampleError(f"{place_of(sample)}: pred_saliency must be in 0..1, without nan")
            maps = [prediction] if self.centre is None else [prediction, centred(prediction.shape, self.centre)]
            valid = truth != self.ignore_index
            self.results.append([compared(one[valid], truth[valid] != 0) for one in maps])

    def compute_metrics(self, results: list) -> dict[str, float]:
        prefixes = ("",) if self.centre is None else ("", "centre_")
        values: dict[str, float] = {}
        for index, prefix in enumerate(prefixes):
            means = averaged([result[index] for result in results])
            values |= {prefix + name: round(100 * value, 2) for name, value in means.items()}
        return values


def compared(prediction: ndarray, truth: ndarray) -> tuple[ndarray, float, float]:
    """Values (n,) and truths (n,) bool to precision and recall (2, T), IoU and accuracy."""
    return precision_recall(prediction, truth, THRESHOLDS), *overlap(prediction > 0.5, truth)


def averaged(results: Sequence[tuple[ndarray, float, float]]) -> dict[str, float]:
    """The metric's results as fractions, of what `compared` gave for each image."""
    if not results:
        return dict.fromkeys(("maxF", "maxF_mean_pr", "IoU", "accuracy"), float("nan"))
    curves = np.stack([curve for curve, _, _ in results])  # (images, 2, T)
    return dict(
        maxF=float(f_measure(curves[:, 0], curves[:, 1]).mean(0).max()),
        maxF_mean_pr=float(f_measure(*curves.mean(0)).max()),
        IoU=float(np.mean([iou for _, iou, _ in results])),
        accuracy=float(np.mean([accuracy for _, _, accuracy in results])),
    )


def centred(shape: tuple[int, ...], deviation: float) -> ndarray:
    """A Gaussian (H, W) around the centre, 1 there, with `deviation` times each side as its standard deviations."""
    offsets = [(np.arange(side) + 0.5) / side - 0.5 for side in shape]
    row, column = (np.exp(-0.5 * (offset / deviation) ** 2) for offset in offsets)
    return row[:, None] * column


def precision_recall(prediction: ndarray, truth: ndarray, thresholds: ndarray) -> ndarray:
    """Values (n,) and truths (n,) bool to (2, T): precision and recall of what is above each, ascending threshold."""
    below = np.searchsorted(thresholds, prediction.astype(np.float64), side="left")  # thresholds a value is above

    def above(counts: ndarray) -> ndarray:
        """Values above each threshold (T,)."""
        return counts[::-1].cumsum()[::-1][1:]

    size = len(thresholds) + 1
    predicted = above(np.bincount(below, minlength=size))
    right = above(np.bincount(below[truth], minlength=size))
    precision = np.where(predicted > 0, right / np.maximum(predicted, 1), 1.0)
    recall = right / truth.sum() if truth.any() else np.ones(len(thresholds))
    return np.stack([precision, recall])


def f_measure(precision: ndarray, recall: ndarray) -> ndarray:
    """(1 + b) p r / (b p + r) with b = beta^2 = 0.3; 0 where both are 0."""
    below = BETA2 * precision + recall
    return (1 + BETA2) * precision * recall / np.where(below > 0, below, 1.0)


def overlap(predicted: ndarray, truth: ndarray) -> tuple[float, float]:
    """IoU and share of right pixels of two masks (n,) bool; 1 where there is nothing."""
    union = (predicted | truth).sum()
    iou = (predicted & truth).sum() / union if union else 1.0
    return float(iou), float((predicted == truth).mean()) if truth.size else 1.0


def pair_of_maps(sample: dict, predicted: str) -> tuple[ndarray, ndarray]:
    """The prediction and the truth of a sample, each (H, W).

    Raises:
        BadSampleError: one is missing, or they differ in size.
    """
    for key in (predicted, "gt_sem_seg"):
        if key not in sample:
            raise BadSampleError(f"{place_of(sample)}: no {key}, so there is nothing to compare")
    prediction, truth = (sample[key]["data"].squeeze(0).cpu().numpy() for key in (predicted, "gt_sem_seg"))
    if prediction.shape != truth.shape or not prediction.size:
        raise BadSampleError(f"{place_of(sample)}: {predicted} is {prediction.shape} (H, W), gt_sem_seg {truth.shape}")
    return prediction, truth


def place_of(sample: dict) -> str:
    return str(sample.get("img_path", sample.get("img_id", "a sample without img_path")))
