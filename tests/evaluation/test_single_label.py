"""Precision, recall, F1, kappa and MCC against values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.evaluation import Accuracy, SingleLabelMetric
from visionpatch.evaluation.single_label import class_table, confusion_table, per_class
from visionpatch.structures import DataSample

CLASSES = ("ant", "bee", "cat", "dog")
# rows the truth: ant 3 1 0, bee 0 2 2, cat 0 0 1; no dog
TRUTH = [0, 0, 0, 0, 1, 1, 1, 1, 2]
PREDICTED = [0, 0, 0, 1, 1, 1, 2, 2, 2]
EVERYTHING = ("precision", "recall", "f1-score", "kappa", "mcc")


def evaluate(truth: list[int], predicted: list[int], classes: tuple = CLASSES, **arguments: object) -> dict[str, float]:
    metric = SingleLabelMetric(**arguments)
    metric.dataset_meta = dict(classes=classes)
    samples = [dict(gt_label=torch.tensor([t]), pred_label=torch.tensor([p])) for t, p in zip(truth, predicted)]
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_macro_by_hand() -> None:
    """precision 3/3, 2/3, 1/3; recall 3/4, 2/4, 1/1; F1 6/7, 4/7, 1/2; the dog, which is nowhere, does not count."""
    results = evaluate(TRUTH, PREDICTED, items=EVERYTHING)
    assert results == {
        "single-label/precision": pytest.approx(100 * (1 + 2 / 3 + 1 / 3) / 3),
        "single-label/recall": pytest.approx(100 * (3 / 4 + 1 / 2 + 1) / 3),
        "single-label/f1-score": pytest.approx(100 * (6 / 7 + 4 / 7 + 1 / 2) / 3),
        # 6 of 9 agree; by chance (4 x 3 + 4 x 3 + 1 x 3) / 81 = 1/3 would: (2/3 - 1/3) / (1 - 1/3)
        "single-label/kappa": pytest.approx(0.5),
        # Gorodkin's R_K: (c s - sum p t) / sqrt((s^2 - sum p^2) (s^2 - sum t^2)) = (54 - 27) / sqrt(54 x 48)
        "single-label/mcc": pytest.approx(27 / math.sqrt(54 * 48)),
    }


def test_a_class_that_is_predicted_and_never_true_counts_with_nothing() -> None:
    results = evaluate([0, 0, 1], [0, 3, 1])
    assert results["single-label/recall"] == pytest.approx(100 * (1 / 2 + 1 + 0) / 3)
    assert results["single-label/precision"] == pytest.approx(100 * (1 + 1 + 0) / 3)


def test_micro_is_the_accuracy_and_weighted_weighs() -> None:
    micro = evaluate(TRUTH, PREDICTED, average="micro")
    assert micro == {
        f"single-label/{name}_micro": pytest.approx(100 * 6 / 9) for name in ("precision", "recall", "f1-score")
    }
    weighted = evaluate(TRUTH, PREDICTED, average="weighted", items="precision")
    assert weighted == {"single-label/precision_weighted": pytest.approx(100 * (4 * 1 + 4 * 2 / 3 + 1 / 3) / 9)}


def test_each_class() -> None:
    results = evaluate(TRUTH, PREDICTED, average=None, items=["f1-score"], prefix="cls")
    assert results.pop("cls/f1-score/dog") != results.get("cls/f1-score/dog")  # nan
    assert results == {f"cls/f1-score/{n}": pytest.approx(v) for n, v in zip(CLASSES, (600 / 7, 400 / 7, 50))}


def test_perfect_random_and_opposite() -> None:
    both = dict(items=("kappa", "mcc"), classes=("a", "b"))
    assert evaluate([0, 1, 0, 1], [0, 1, 0, 1], **both) == {"single-label/kappa": 1.0, "single-label/mcc": 1.0}
    assert evaluate([0, 1, 0, 1], [1, 0, 1, 0], **both) == {"single-label/kappa": -1.0, "single-label/mcc": -1.0}
    assert evaluate([0, 0, 1, 1], [0, 1, 0, 1], **both) == {"single-label/kappa": 0.0, "single-label/mcc": 0.0}
    one = evaluate([0, 0], [0, 0], **both)
    assert math.isnan(one["single-label/kappa"]) and one["single-label/mcc"] == 0.0


def test_scores_that_are_not_finite_belong_to_no_class() -> None:
    metric = SingleLabelMetric(items=("recall", "precision"))
    metric.dataset_meta = dict(classes=CLASSES)
    given = [dict(gt_label=torch.tensor([0]), pred_label=torch.tensor([0]), pred_score=torch.tensor(s))
             for s in ([0.9, 0.1, 0.0, 0.0], [float("nan")] * 4)]  # fmt: skip
    metric.process({}, given)
    assert metric.evaluate(2) == {"single-label/recall": 50.0, "single-label/precision": 100.0}


def test_no_sample_at_all() -> None:
    metric = SingleLabelMetric(items=EVERYTHING)
    metric.dataset_meta = dict(classes=CLASSES)
    results = metric.compute_metrics([])
    assert set(results) == set(EVERYTHING) and all(math.isnan(value) for value in results.values())


def test_tables() -> None:
    truth, predicted = np.array(TRUTH), np.array(PREDICTED)
    assert np.array_equal(per_class(truth, predicted, 4)[:, 3], [4, 4, 1, 0])
    rows = class_table(CLASSES, truth, predicted).splitlines()
    assert rows[3].split("|")[1:-1] == [" ant   ", "    100.00 ", "  75.00 ", "    85.71 ", "        4 "]
    assert "nan" in rows[6] and "dog" in rows[6]
    rows = confusion_table(CLASSES, truth, predicted).splitlines()
    assert rows[4].replace(" ", "") == "|1bee|0|2|2|0|"
    many = tuple(f"class {k}" for k in range(30))
    rows = confusion_table(many, np.array([7, 7, 7, 29]), np.array([7, 12, 12, 0])).splitlines()
    assert [row.replace(" ", "") for row in rows[3:-1]] == ["|class7|class12|2|", "|class29|class0|1|"]


def test_errors() -> None:
    with pytest.raises(ConfigError, match='items has "f1"; valid: f1-score'):
        SingleLabelMetric(items=["f1"])
    with pytest.raises(ConfigError, match='average = "makro"; did you mean "macro"'):
        SingleLabelMetric(average="makro")
    with pytest.raises(BadSampleError, match="label 4, but the data set names 4 classes"):
        evaluate([4], [0])
    with pytest.raises(BadSampleError, match="prediction 9, but"):
        evaluate([0], [9])
    with pytest.raises(DataError, match="names no classes"):
        evaluate([0], [0], classes=())
    for metric in (SingleLabelMetric(), Accuracy()):
        with pytest.raises(DataError, match=f"b.png: {type(metric).__name__} needs gt_label"):
            metric.check_sample(DataSample(metainfo=dict(img_path="b.png")))
