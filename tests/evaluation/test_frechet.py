"""The Frechet distance: by hand, against the formula with scipy's matrix root, whatever the batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

import visionpatch.evaluation.frechet
from visionpatch.errors import ConfigError, DataError
from visionpatch.evaluation import FrechetDistance
from visionpatch.evaluation.frechet import Moments, frechet_distance


class Averages(nn.Module):
    """Six features of a picture: mean and spread of each channel."""

    name = "FD-averages"

    def forward(self, pictures: list[Tensor]) -> Tensor:
        return torch.stack([torch.cat([p.mean((1, 2)), p.std((1, 2))]) for p in pictures])


def samples(number: int) -> list[dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(0)
    found = []
    for _ in range(number):
        gt = torch.randint(256, (3, 8, 6), generator=rng).float()
        found.append(
            dict(gt_image=gt, pred_image=(gt * 0.8 + torch.randint(40, gt.shape, generator=rng)).clamp(0, 255))
        )
    return found


def evaluate(metric: Any, given: list, batch_size: int = 2) -> dict[str, float]:
    for start in range(0, len(given), batch_size):
        metric.process(None, given[start : start + batch_size])
    return metric.evaluate(len(given))


def by_formula(pred: np.ndarray, gt: np.ndarray) -> float:
    covariances = np.cov(pred, rowvar=False), np.cov(gt, rowvar=False)
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    apart = np.square(pred.mean(0) - gt.mean(0)).sum()
    return float(apart + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root))


def features(given: list, name: str) -> np.ndarray:
    return Averages()([sample[name].round() for sample in given]).double().numpy()


def test_by_hand() -> None:
    """In one dimension the distance is (m1 - m2)^2 + (s1 - s2)^2; in more, without correlation, the sum of these."""
    assert frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([3.0]), np.array([[9.0]])) == pytest.approx(5)
    first, other = (np.array([0.0, 1.0]), np.diag([1.0, 16.0])), (np.array([2.0, 1.0]), np.diag([0.0, 25.0]))
    assert frechet_distance(*first, *other) == pytest.approx(4 + 1 + 1)
    assert frechet_distance(*first, *first) == pytest.approx(0, abs=1e-12)
    assert np.isnan(frechet_distance(*first, np.array([np.nan, 0]), np.eye(2)))


def test_against_the_matrix_root() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 8)) @ rng.normal(size=(8, 8)), rng.normal(size=(50, 8)) + 0.3
    moments = Moments(a), Moments(b)
    found = frechet_distance(*(part for m in moments for part in (m.mean, m.covariance())))
    assert found == pytest.approx(by_formula(a, b), rel=1e-9)


def test_singular_covariances() -> None:
    """Fewer pictures than features: by the nonzero eigenvalues of the product, which are those of a small matrix."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(5, 30)), rng.normal(size=(7, 30))
    first, other = (x - x.mean(0) for x in (a, b))
    cross = np.linalg.svd(first @ other.T, compute_uv=False).sum() / np.sqrt(4 * 6)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + (first**2).sum() / 4 + (other**2).sum() / 6 - 2 * cross
    found = frechet_distance(*(part for m in (Moments(a), Moments(b)) for part in (m.mean, m.covariance())))
    assert found == pytest.approx(expected, rel=1e-6)


def test_moments_of_parts_are_those_of_the_whole() -> None:
    rows = np.random.default_rng(0).normal(1000, 1, size=(23, 4)).astype(np.float32)
    whole, parts = Moments(rows), Moments(rows[:0])
    for start, end in ((0, 7), (7, 8), (8, 8), (8, 23)):
        parts.merge(Moments(rows[start:end]))
    assert parts.count == 23
    np.testing.assert_allclose(parts.mean, rows.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(parts.covariance(), np.cov(rows.astype(np.float64), rowvar=False), rtol=1e-9)
    np.testing.assert_allclose(whole.covariance(), parts.covariance(), rtol=1e-9)


def test_the_metric_is_the_formula_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visionpatch.evaluation.frechet, "ROWS", 4)
    given, metric = samples(11), FrechetDistance(Averages())
    found = evaluate(metric, given, 1)
    expected = by_formula(features(given, "pred_image"), features(given, "gt_image"))
    assert found == {"FD-averages": pytest.approx(expected, rel=1e-6)}
    assert expected > 1
    assert found == evaluate(metric, given, 11) == evaluate(metric, given, 3)
    monkeypatch.setattr(visionpatch.evaluation.frechet, "ROWS", 512)
    assert evaluate(metric, given) == {"FD-averages": pytest.approx(expected, rel=1e-6)}
    same = [dict(pred_image=s["gt_image"], gt_image=s["gt_image"]) for s in given]
    assert evaluate(metric, same)["FD-averages"] == pytest.approx(0, abs=1e-3)


def test_against_statistics_of_a_file(tmp_path: Path) -> None:
    given, path = samples(9), tmp_path / "train.npz"
    gt = features(given, "gt_image")
    np.savez(path, mu=gt.mean(0), sigma=np.cov(gt, rowvar=False))
    metric = FrechetDistance(Averages(), str(path))
    found = evaluate(metric, [dict(pred_image=s["pred_image"]) for s in given])
    assert found["FD-averages"] == pytest.approx(evaluate(FrechetDistance(Averages()), given)["FD-averages"], rel=1e-6)
    np.savez(path, mu=gt.mean(0)[:4], sigma=np.eye(4))
    with pytest.raises(DataError, match="reference is of 4 features, the extractor gives 6"):
        evaluate(FrechetDistance(Averages(), str(path)), given)
    np.savez(path, mu=gt.mean(0), sigma=np.eye(4))
    with pytest.raises(DataError, match=r"mu has the shape \(6,\) and sigma \(4, 4\)"):
        FrechetDistance(Averages(), str(path))
    path.write_text("no statistics")
    for wrong in (path, tmp_path / "none.npz"):
        with pytest.raises(DataError, match="no .npz file with the arrays mu"):
            FrechetDistance(Averages(), str(wrong))
    np.savez(path, mean=gt)
    with pytest.raises(DataError, match="no .npz file with the arrays mu"):
        FrechetDistance(Averages(), str(path))


def test_errors() -> None:
    for number in (0, 1):
        with pytest.raises(DataError, match=rf"FD-averages: {number} picture\(s\) evaluated; a covariance needs 2"):
            evaluate(FrechetDistance(Averages()), samples(number))
    with pytest.raises(ConfigError, match="extractor = Identity; expected InceptionFeatures or BackboneFeatures"):
        FrechetDistance(nn.Identity())
