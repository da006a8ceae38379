"""SaliencyMetric and PartMetric against hand examples."""

import math

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.evaluation import PartMetric, SaliencyMetric
from visionpatch.evaluation.part_metric import agreement, matched_ious
from visionpatch.evaluation.saliency import THRESHOLDS, centred, f_measure, overlap, precision_recall
from visionpatch.structures import DataSample

TRUTHS = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
VALUES = np.array([[0.9, 0.4, 0.3, 0.1], [0.6, 0.8, 0.2, 0.1]])
PARTS, FOUND = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([1, 1, 1, 0, 0, 2, 2, 0])


def sample(truth: np.ndarray, **predictions: np.ndarray) -> dict:
    """Maps (n,) as one row of pixels."""
    made = DataSample(metainfo=dict(img_path="a.png"), gt_sem_seg=PixelData(data=torch.as_tensor(truth).view(1, 1, -1)))
    for name, values in predictions.items():
        setattr(made, name, PixelData(data=torch.as_tensor(values).view(1, 1, -1)))
    return made.to_dict()


def evaluate(metric, samples: list[dict]) -> dict[str, float]:
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_both_orders_of_averaging():
    curves = np.stack([precision_recall(v, t, np.array([0.25, 0.5, 0.75])) for v, t in zip(VALUES, TRUTHS)])
    each = f_measure(curves[:, 0], curves[:, 1]).mean(0)
    assert each.tolist() == pytest.approx([0.6437, 0.6889, 0.4062], abs=1e-4)
    assert f_measure(*curves.mean(0)).tolist() == pytest.approx([0.6454, 0.7500, 0.4062], abs=1e-4)


def test_saliency_metric_on_the_same_pictures():
    result = evaluate(SaliencyMetric(), [sample(7 * t, pred_saliency=v) for t, v in zip(TRUTHS, VALUES)])
    # at 77/255: [.9, .4] and [.6, .8] are above, F = 1 and .5652; the mean precision .75 and recall 1 give .7959
    assert result["saliency/maxF"] == pytest.approx(100 * (1 + 1.3 * 0.5 / 1.15) / 2, abs=0.01)
    assert result["saliency/maxF_mean_pr"] == pytest.approx(100 * 1.3 * 0.75 / 1.225, abs=0.01)
    assert result["saliency/IoU"] == 50.0  # 1 / 2 each
    assert result["saliency/accuracy"] == 75.0


def test_a_perfect_map_and_one_that_says_nothing():
    assert evaluate(SaliencyMetric(), [sample(TRUTHS[0] * 1, pred_saliency=TRUTHS[0] * 1.0)]) == {
        "saliency/maxF": 100.0, "saliency/maxF_mean_pr": 100.0, "saliency/IoU": 100.0, "saliency/accuracy": 100.0
    }  # fmt: skip
    nothing = evaluate(SaliencyMetric(), [sample(TRUTHS[0] * 1, pred_saliency=np.zeros(4))])
    assert nothing["saliency/maxF"] == 0 and nothing["saliency/accuracy"] == 50


def test_thresholds_against_counting():
    generator = np.random.default_rng(0)
    values, truth = generator.integers(0, 256, 500) / 255, generator.random(500) < 0.3
    curve = precision_recall(values.astype(np.float64), truth, THRESHOLDS)
    for i in (0, 17, 128, 254):
        chosen = values > i / 255
        assert curve[0, i] == pytest.approx((chosen & truth).sum() / chosen.sum())
        assert curve[1, i] == pytest.approx((chosen & truth).sum() / truth.sum())


def test_an_empty_truth_and_ignored_pixels():
    assert precision_recall(np.array([0.2]), np.array([False]), np.array([0.1, 0.5])).tolist() == [[0, 1], [1, 1]]
    assert overlap(np.zeros(2, bool), np.zeros(2, bool)) == (1.0, 1.0)
    truth = np.array([1, 0, 255, 255])
    assert evaluate(SaliencyMetric(), [sample(truth, pred_saliency=[0.9, 0.1, 0.9, 0.1])])["saliency/IoU"] == 100
    assert all(math.isnan(value) for value in SaliencyMetric().compute_metrics([]).values())


def test_parts_by_hand():
    nmi, ari, miou = agreement(FOUND, PARTS)
    assert nmi == pytest.approx(0.77944, abs=1e-5)
    assert ari == pytest.approx(0.61905, abs=1e-5)
    assert miou == pytest.approx(0.77778, abs=1e-5)
    assert matched_ious(FOUND, PARTS).tolist() == pytest.approx([1, 2 / 3, 2 / 3])


def test_parts_outside_the_object_do_not_count():
    truth = np.concatenate([PARTS + 1, [0, 0, 255]])
    found = np.concatenate([FOUND, [0, 1, 2]])
    empty = sample(np.zeros(4, int), pred_sem_seg=np.arange(4))
    result = evaluate(PartMetric(), [sample(truth, pred_sem_seg=found), empty])
    assert result == {"parts/NMI": 77.94, "parts/ARI": 61.9, "parts/mIoU": 77.78}
    assert all(math.isnan(value) for value in evaluate(PartMetric(), [empty]).values())


def test_names_of_parts_do_not_matter_and_missing_ones_count_as_zero():
    assert agreement(np.array([5, 5, 9, 9]), np.array([9, 9, 5, 5])) == (1, 1, 1)
    assert matched_ious(np.zeros(4, int), np.array([1, 1, 1, 2])).tolist() == [0.75, 0]
    assert matched_ious(np.arange(4), np.array([1, 1, 1, 1])).tolist() == [0.25]


def test_wrong_samples():
    with pytest.raises(BadSampleError, match=r"a.png: pred_saliency must be in 0..1"):
        SaliencyMetric().process(None, [sample(TRUTHS[0] * 1, pred_saliency=np.array([0, 2.0, 0, 0]))])
    with pytest.raises(BadSampleError, match="a.png: no pred_sem_seg"):
        PartMetric().process(None, [sample(PARTS)])
    with pytest.raises(BadSampleError, match=r"is \(1, 3\) \(H, W\), gt_sem_seg \(1, 4\)"):
        SaliencyMetric().process(None, [sample(TRUTHS[0] * 1, pred_saliency=np.zeros(3))])
    for metric in (SaliencyMetric(), PartMetric()):
        with pytest.raises(DataError, match="needs gt_sem_seg"):
            metric.check_sample(DataSample())


def test_the_centre_as_a_baseline():
    """Of 1 x 4 pixels, those at 1/8 and 3/8 of the width from the middle: exp(-1/2 (offset / .25)^2)."""
    values = centred((1, 4), 0.25)
    assert values[0].tolist() == pytest.approx([math.exp(-1.125), math.exp(-0.125), math.exp(-0.125), math.exp(-1.125)])
    result = evaluate(SaliencyMetric(centre=0.25), [sample(np.array([0, 1, 255, 0]), pred_saliency=np.zeros(4))])
    assert result["saliency/IoU"] == 0 and result["saliency/accuracy"] == pytest.approx(66.67)
    assert all(result[f"saliency/centre_{name}"] == 100 for name in ("maxF", "maxF_mean_pr", "IoU", "accuracy"))
    assert set(SaliencyMetric(centre=0.25).compute_metrics([])) == {name.split("/")[1] for name in result}
    with pytest.raises(ConfigError, match="centre = 0"):
        SaliencyMetric(centre=0)
