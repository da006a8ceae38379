"""FPR95 by its definition, its interpolated form, AUC and accuracy."""

import math

import numpy as np
import pytest
import torch

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.evaluation import FPR95
from visionpatch.evaluation.fpr95 import auc, fpr95, fpr95_interp
from visionpatch.structures import DataSample

POSITIVE = np.array(
    [
        1.00,
        0.98,
        0.96,
        0.94,
        0.92,
        0.91,
        0.89,
        0.88,
        0.86,
        0.84,
        0.82,
        0.80,
        0.78,
        0.76,
        0.74,
        0.72,
        0.66,
        0.60,
        0.50,
        0.10,
    ]
)
NEGATIVE = np.array([0.90, 0.70, 0.50, 0.30, 0.20, 0.15, 0.12, 0.05, 0.04, 0.03])


def by_sweep(positive, negative):
    """The least share of false positives of all thresholds that accept 95 % of the matching pairs."""
    shares = [
        np.mean(negative >= t)
        for t in np.concatenate([positive, negative])
        if 20 * np.sum(positive >= t) >= 19 * len(positive)
    ]
    return min(shares)


def sample(score, label, kind="R", scene="a"):
    return dict(
        pred_score=torch.tensor([score], dtype=torch.float64), gt_label=torch.tensor([label]), set=kind, scene=scene
    )


def evaluate(samples, **arguments):
    metric = FPR95(**arguments)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def scene(positive, negative, **place):
    return [sample(s, 1, **place) for s in positive] + [sample(s, 0, **place) for s in negative]


def test_hand_example():
    """t is the 19th of 20 scores, 0.50; three negatives reach it. The ROC curve is level at 0.95, up to 0.7."""
    assert fpr95(POSITIVE, NEGATIVE) == 0.3
    assert fpr95_interp(POSITIVE, NEGATIVE) == pytest.approx(0.7)
    values = evaluate(scene(POSITIVE, NEGATIVE))
    assert values["FPR95"] == values["FPR95_R"] == 30.0 and values["FPR95_interp"] == pytest.approx(70.0)
    # of the positives 19 are at 0.5 or above, of the negatives 7 are below: 26 of 30
    assert values["accuracy"] == pytest.approx(100 * 26 / 30)


@pytest.mark.parametrize("measure", [fpr95, fpr95_interp])
def test_extremes(measure):
    low, high = np.linspace(0, 0.4, 30), np.linspace(0.6, 1, 30)
    assert measure(high, low) == 0.0
    assert measure(low, high) == 1.0
    assert fpr95(np.full(7, 0.5), np.full(5, 0.5)) == 1.0
    assert measure(np.array([1.0]), np.array([0.0])) == 0.0 and measure(np.array([0.0]), np.array([1.0])) == 1.0


def test_interpolation_between_two_points():
    """P = 2, N = 4: the curve goes (0, .5), (.25, .5), (.75, 1); 0.95 is nine tenths of the way from .5 to 1."""
    assert fpr95_interp(np.array([0.9, 0.4]), np.array([0.6, 0.4, 0.4, 0.1])) == pytest.approx(0.25 + 0.9 * 0.5)


def test_equals_a_sweep_over_all_thresholds():
    rng = np.random.default_rng(0)
    for _ in range(200):
        positive = rng.integers(3, 12, rng.integers(1, 60)) / 10  # many ties
        negative = rng.integers(0, 9, rng.integers(1, 60)) / 10
        assert fpr95(positive, negative) == pytest.approx(by_sweep(positive, negative), abs=1e-12)
        wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
        assert auc(positive, negative) == pytest.approx(wins)


def test_monotone_maps_change_nothing():
    rng = np.random.default_rng(1)
    positive, negative = rng.normal(1, 1, 300), rng.normal(0, 1, 400)
    for measure in (fpr95, fpr95_interp, auc):
        expected = measure(positive, negative)
        for change in (lambda x: 3 * x - 7, np.exp, lambda x: x**3):
            assert measure(change(positive), change(negative)) == expected


def test_both_forms_agree_on_many_pairs():
    rng = np.random.default_rng(2)
    positive, negative = rng.normal(2, 1, 5000), rng.normal(0, 1, 5000)
    assert abs(fpr95(positive, negative) - fpr95_interp(positive, negative)) < 1e-3


def test_nan_counts_against_the_method():
    nan = float("nan")
    assert fpr95(np.array([1.0, nan]), np.array([0.0, 0.5])) == 1.0  # the threshold falls to the lowest of all
    assert fpr95(np.array([1.0, 1.0]), np.array([0.0, nan])) == 0.5
    assert evaluate(scene([0.9, nan], [0.1, nan]))["accuracy"] == 50.0


def test_scenes_and_sets():
    samples = scene(POSITIVE, NEGATIVE, scene="a") + scene([1.0, 0.9], [0.1, 0.2], scene="b")
    samples += scene([0.1, 0.2], [0.8, 0.9], kind="S") + scene([0.9], [0.9], kind="H")
    values = evaluate(samples, variants="exact")
    assert values["FPR95_R/a"] == 30 and values["FPR95_R/b"] == 0 and values["FPR95_R"] == 15
    assert (values["FPR95_S"], values["FPR95_H"], values["FPR95"]) == (100, 100, 57.5)
    assert values["AUC_S"] == 0 and values["AUC_H"] == 50 and not any("interp" in name for name in values)
    pooled = evaluate(samples, variants="exact", per="all")
    # of 22 positives the 21st is 0.50: still three of now twelve negatives
    assert pooled["FPR95_R"] == 25.0 and "FPR95_R/a" not in pooled
    assert evaluate(scene([0.9], [0.9], kind="H"))["FPR95"] == 100


def test_scores_that_are_no_probability_have_no_accuracy():
    values = evaluate(scene([-0.2, -0.3], [-0.9, -1.5]))
    assert values["FPR95"] == 0 and not any(name.startswith("accuracy") for name in values)
    assert not any(math.isnan(value) for value in values.values())


def test_scores_by_chance_of_many_scenes():
    """40,000 pairs of 20 scenes."""
    rng = np.random.default_rng(3)
    metric = FPR95()
    scores = rng.random(40_000)
    metric.results = [("R", f"scene {k % 20}", int(k % 40 < 20), float(score)) for k, score in enumerate(scores)]
    values = metric.evaluate(40_000)
    assert abs(values["FPR95"] - 95) < 1 and abs(values["AUC"] - 50) < 1


def test_errors():
    with pytest.raises(DataError, match="set S, scene b: 1 matching and 0 other pairs"):
        evaluate(scene([0.5], [0.5]) + scene([0.5], [], kind="S", scene="b"))
    with pytest.raises(DataError, match="no pair"):
        FPR95().compute_metrics([])
    with pytest.raises(BadSampleError, match="label 2"):
        evaluate([sample(0.5, 2)])
    with pytest.raises(BadSampleError, match="no pred_score"):
        FPR95().process({}, [dict(gt_label=torch.tensor([1]), img_path="a.png")])
    with pytest.raises(BadSampleError, match="2 scores"):
        FPR95().process({}, [dict(sample(0.5, 1), pred_score=torch.tensor([0.1, 0.2]))])
    with pytest.raises(ConfigError, match='did you mean "exact"'):
        FPR95(variants=("exakt",))
    with pytest.raises(ConfigError, match='per="scenes"|per=.scenes.'):
        FPR95(per="scenes")
    with pytest.raises(DataError, match="needs gt_label"):
        FPR95().check_sample(DataSample())
