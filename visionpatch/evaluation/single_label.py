"""SingleLabelMetric: precision, recall, F1, Cohen's kappa and Matthews' correlation of image classification.

Letters: N pictures, K classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from rich import box
from rich.table import Table

from visionpatch.errors import BadSampleError, ConfigError, nearest
from visionpatch.evaluation.common import as_text, class_names, require_label
from visionpatch.registry import METRICS
from visionpatch.structures import DataSample

PER_CLASS = ("precision", "recall", "f1-score")
ITEMS = (*PER_CLASS, "kappa", "mcc")
AVERAGES = ("macro", "micro", "weighted")
SHOWN = 20  # classes of which the log gets the whole confusion matrix
NONE = -1  # the predicted class where the scores are not finite


@METRICS.register_module()
class SingleLabelMetric(BaseMetric):
    """Results of scikit-learn under the names of OpenMMLab's SingleLabelMetric; the log gets two tables.

    - ``single-label/precision``, ``/recall``, ``/f1-score`` in percent: the mean over the classes. The names end with
      ``_micro`` or ``_weighted`` where `average` says so. Without an average there is one result for each class:
      ``single-label/f1-score/cat``.
    - ``single-label/kappa``: Cohen's kappa, ``single-label/mcc``: Matthews' correlation coefficient, both -1 to 1.

    A class counts in the means when it occurs in the truth or in the predictions, as scikit-learn has it when it is
    given no list of labels: one that is predicted and never true counts with 0, one that is neither does not count, and
    its own results are nan. (OpenMMLab's metric counts such a class with 0.) A ratio 0 / 0 of a class that counts is 0.
    A picture whose scores are not finite belongs to no class. No sample at all gives nan.

    The tables: the three values and the number of pictures of each class; the confusion matrix, a row for the truth and
    a column for the prediction, of up to 20 classes, and the ten most frequent confusions of more.

    Args:
        items: what to compute: "precision", "recall", "f1-score", "kappa", "mcc".
        average: "macro", the mean over the classes; "weighted", by their numbers of pictures; "micro", over all
            pictures, which makes all three the accuracy; None, each class.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result names; None: "single-label".

    Raises:
        ConfigError: an unknown item or average.
        DataError: no class names in the data set's metainfo.
        BadSampleError: a sample without label or prediction, or a class outside [0, K).
    """

    default_prefix = "single-label"

    def __init__(
        self,
        items: Sequence[str] = PER_CLASS,
        average: str | None = "macro",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.items = (items,) if isinstance(items, str) else tuple(items)
        for item in self.items:
            if item not in ITEMS:
                raise ConfigError(f'SingleLabelMetric: items has "{item}"{nearest(str(item), ITEMS)}')
        if average is not None and average not in AVERAGES:
            raise ConfigError(f'SingleLabelMetric: average = "{average}"{nearest(str(average), AVERAGES)}')
        self.average = average

    def check_sample(self, sample: DataSample) -> None:
        """Refuse a data set without ground truth before any time is spent on it; `sample` is one of its samples.

        Raises:
            DataError: no class index.
        """
        require_label(self, sample)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the true and the predicted class of each sample."""
        number = len(class_names(self))
        self.results.extend(_pair(sample, number) for sample in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The results by name; the tables go to the log."""
        classes = class_names(self)
        truth, predicted = np.array(results, dtype=np.int64).reshape(-1, 2).T  # (N,) each
        table = class_table(classes, truth, predicted)
        confusions = confusion_table(classes, truth, predicted)
        print_log(f"per class results:\n{table}\n{confusions}", MMLogger.get_current_instance())
        return {name: value for item in self.items for name, value in self._compute(item, truth, predicted)}

    def _compute(self, item: str, truth: np.ndarray, predicted: np.ndarray) -> list[tuple[str, float]]:
        if item not in PER_CLASS:
            return [(item, _agreement(item, truth, predicted))]
        column = PER_CLASS.index(item)
        if self.average is None:
            classes = class_names(self)
            values = 100 * per_class(truth, predicted, len(classes))[:, column]
            return [(f"{item}/{name}", float(value)) for name, value in zip(classes, values)]
        suffix = "" if self.average == "macro" else f"_{self.average}"
        value = float("nan") if not len(truth) else _scores(truth, predicted, self.average)[column]
        return [(f"{item}{suffix}", 100 * float(value))]


def per_class(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Precision, recall, F1 (fractions) and number of pictures of each class: (K, 4).

    Args:
        truth, predicted: class indices (N,); -1 in `predicted` is none of the classes.
    """
    table = np.full((num_classes, 4), np.nan)
    table[:, 3] = 0
    if len(truth):
        table[_present(truth, predicted)] = np.stack(_scores(truth, predicted, None), axis=1)
    return table


def class_table(classes: Sequence[str], truth: np.ndarray, predicted: np.ndarray) -> str:
    """One row per class, percentages with two decimals, as plain text."""
    table = Table("Class", box=box.ASCII)
    for name in ("Precision", "Recall", "F1-score", "Pictures"):
        table.add_column(name, justify="right")
    for name, row in zip(classes, per_class(truth, predicted, len(classes))):
        table.add_row(str(name), *(f"{100 * value:.2f}" for value in row[:3]), str(int(row[3])))
    return as_text(table)


def confusion_table(classes: Sequence[str], truth: np.ndarray, predicted: np.ndarray) -> str:
    """The confusion matrix of up to 20 classes, or the ten most frequent confusions, as plain text."""
    number = len(classes)
    counts = np.bincount(truth * (number + 1) + predicted + 1, minlength=number * (number + 1))
    counts = counts.reshape(number, number + 1)[:, 1:]  # the first column is none of the classes
    if number <= SHOWN:
        table = Table("Truth", *(str(k) for k in range(number)), box=box.ASCII)
        for k, name in enumerate(classes):
            table.add_row(f"{k} {name}", *(str(count) for count in counts[k]))
        return as_text(table)
    table = Table("Truth", "taken for", "Pictures", box=box.ASCII)
    wrong = counts * (1 - np.eye(number, dtype=counts.dtype))
    for place in np.argsort(-wrong, axis=None, kind="stable")[:10]:
        row, column = divmod(int(place), number)
        if wrong[row, column]:
            table.add_row(str(classes[row]), str(classes[column]), str(wrong[row, column]))
    return as_text(table)


def _scores(truth: np.ndarray, predicted: np.ndarray, average: str | None) -> tuple:
    """scikit-learn's precision, recall, F1 and support: numbers, or arrays of the classes that are present."""
    from sklearn.metrics import precision_recall_fscore_support  # a second to import

    labels = _present(truth, predicted)
    return precision_recall_fscore_support(truth, predicted, labels=labels, average=average, zero_division=0)


def _agreement(item: str, truth: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

    if item == "mcc":
        return float(matthews_corrcoef(truth, predicted)) if len(truth) else float("nan")
    if len(np.union1d(truth, predicted)) < 2:  # one class alone, or nothing: 0 / 0
        return float("nan")
    return float(cohen_kappa_score(truth, predicted))


def _present(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The classes that occur, ascending."""
    found = np.union1d(truth, predicted)
    return found[found != NONE]


def _pair(sample: dict, num_classes: int) -> tuple[int, int]:
    """(true class, predicted class) of a sample."""
    where = sample.get("img_path", "a sample without img_path")
    for key in ("gt_label", "pred_label"):
        if key not in sample:
            raise BadSampleError(f"{where}: no {key}; SingleLabelMetric compares gt_label with pred_label")
    truth, predicted = (int(sample[key].reshape(-1)[0]) for key in ("gt_label", "pred_label"))
    for kind, label in (("label", truth), ("prediction", predicted)):
        if not 0 <= label < num_classes:
            raise BadSampleError(f"{where}: {kind} {label}, but the data set names {num_classes} classes")
    finite = "pred_score" not in sample or bool(torch.isfinite(sample["pred_score"]).all())
    return truth, predicted if finite else NONE
