"""PartMetric: unnamed parts of an object against its annotated ones. K true parts, n pixels of the object."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

from visionpatch.errors import DataError
from visionpatch.evaluation.saliency import pair_of_maps
from visionpatch.registry import METRICS
from visionpatch.structures import DataSample


@METRICS.register_module()
class PartMetric(BaseMetric):
    """Results in percent, each the mean over images, over the pixels that the truth gives to a part.

    The names of predicted parts do not matter. How the paper evaluates parts is not known; these are usual measures.

    - ``NMI``: mutual information over the mean of both entropies.
    - ``ARI``: Rand index, adjusted for chance.
    - ``mIoU``: true parts are assigned to predicted ones, one to one, for the largest sum of IoUs; their mean over the
      true parts, 0 for those that get none.

    Images without a part are left out; where none is left the results are nan.

    Args:
        ignore_index: label of the pixels that count nowhere, as those of label 0, the background, do not.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result names; None: "parts".

    Raises:
        BadSampleError: a sample without `pred_sem_seg` or `gt_sem_seg`, or of different sizes.
    """

    default_prefix = "parts"

    def __init__(self, ignore_index: int = 255, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index

    def check_sample(self, sample: DataSample) -> None:
        """Refuse a data set without label maps before any time is spent on it.

        Raises:
            DataError: no label map.
        """
        if "gt_sem_seg" not in sample:
            raise DataError(f"{sample.where()}: PartMetric needs gt_sem_seg and the sample has none")

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            prediction, truth = pair_of_maps(sample, "pred_sem_seg")
            inside = (truth != 0) & (truth != self.ignore_index)
            self.results.append(agreement(prediction[inside], truth[inside]) if inside.any() else None)

    def compute_metrics(self, results: list) -> dict[str, float]:
        known = np.array([values for values in results if values is not None]).reshape(-1, 3)
        means = 100 * known.mean(0) if len(known) else np.full(3, np.nan)
        return {name: round(float(value), 2) for name, value in zip(("NMI", "ARI", "mIoU"), means)}


def agreement(prediction: ndarray, truth: ndarray) -> tuple[float, float, float]:
    """NMI, ARI and matched mIoU of part labels (n,), fractions."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # takes a second to import

    nmi = normalized_mutual_info_score(truth, prediction, average_method="arithmetic")
    return float(nmi), float(adjusted_rand_score(truth, prediction)), float(matched_ious(prediction, truth).mean())


def matched_ious(prediction: ndarray, truth: ndarray) -> ndarray:
    """IoU of each true part, by ascending label, with the predicted part it is assigned to: (K,)."""
    rows, columns = (np.unique(labels, return_inverse=True)[1] for labels in (truth, prediction))
    width = columns.max() + 1
    common = np.bincount(rows * width + columns, minlength=(rows.max() + 1) * width).reshape(-1, width)
    iou = common / (common.sum(1, keepdims=True) + common.sum(0, keepdims=True) - common)
    row, column = linear_sum_assignment(iou, maximize=True)
    found = np.zeros(len(iou))
    found[row] = iou[row, column]
    return found
