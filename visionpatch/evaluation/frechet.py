"""FrechetDistance: how far apart two sets of pictures are, as distributions of what a network sees in them.

Letters: B pictures of a batch, N pictures in all, D features of a picture.
"""

import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from visionpatch.errors import ConfigError, DataError
from visionpatch.evaluation.common import warn
from visionpatch.evaluation.image_quality import whole_numbers
from visionpatch.evaluation.streaming import StreamedMetric, Tally
from visionpatch.registry import METRICS, MODELS

ROWS = 512  # features that are added up at once


@METRICS.register_module()
class FrechetDistance(StreamedMetric):
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the means m and covariances S of features of `pred_image` and of
    `gt_image`, in float64 (Heusel et al., "GANs Trained by a Two Time-Scale Update Rule ...", arXiv:1706.08500, eq. 6).

    The name of the result is that of the extractor: ``FID`` for the published Inception weights alone, as values of
    different features cannot be compared. Nor can those of different numbers of pictures: the expected value falls
    with N, and with N <= D the covariances are singular, which the log says. Of a tokenizer, whose `pred_image` is a
    reconstruction of `gt_image`, this is what papers call rFID.

    Pictures are rounded to integers in 0..255 first, as a file would hold them. Features are added up as they come:
    memory is 2 (D^2 + 512 D) numbers, whatever N.

    Args:
        extractor: `InceptionFeatures` with its checkpoint, `BackboneFeatures`, or another module that takes a list of
            RGB pictures (3, H, W) of 0..255, gives (B, D) and has a `name`; or the config of one. None:
            BackboneFeatures of EfficientNet-Lite0, named ``FD-EfficientNetLite0``.
        reference: an .npz file, as pytorch-fid writes it, with the mean ``mu`` (D,) and covariance ``sigma`` (D, D) of
            the same features, to compare with instead of `gt_image`.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result name.

    Raises:
        ConfigError: an extractor without name. DataError: `reference` is no such file, or fewer than 2 pictures.
        BadSampleError: a sample without one of the pictures.
    """

    def __init__(
        self,
        extractor: dict | nn.Module | None = None,
        reference: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        extractor = dict(type="BackboneFeatures") if extractor is None else extractor
        self.extractor: Any = extractor if isinstance(extractor, nn.Module) else MODELS.build(extractor)
        if not isinstance(getattr(self.extractor, "name", None), str):
            raise ConfigError(
                f"FrechetDistance: extractor = {type(self.extractor).__name__}; expected InceptionFeatures or "
                'BackboneFeatures, as dict(type="BackboneFeatures", backbone=dict(...))'
            )
        self.reference = None if reference is None else read_statistics(reference)

    @torch.no_grad()
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add the features of each picture, predicted and given."""
        names = ("pred_image", "gt_image") if self.reference is None else ("pred_image",)
        pictures = [[whole_numbers(self, sample, name) for sample in data_samples] for name in names]
        for row in zip(*map(self._features, pictures)):
            self.add(row)

    def tally(self) -> "FeatureTally":
        return FeatureTally()

    def values(self, tally: "FeatureTally") -> dict[str, float]:
        count = tally.moments[0].count if tally.moments else 0
        if count < 2:
            raise DataError(f"{self.extractor.name}: {count} picture(s) evaluated; a covariance needs 2 or more")
        pred = tally.moments[0]
        if pred.count <= len(pred.mean):
            warn(
                f"{self.extractor.name} of {pred.count} pictures with {len(pred.mean)} features: the covariances are "
                "singular; compare it with values of as many pictures only"
            )
        given = (tally.moments[1].mean, tally.moments[1].covariance()) if self.reference is None else self.reference
        if given[0].shape != pred.mean.shape:
            raise DataError(
                f"{self.extractor.name}: reference is of {len(given[0])} features, the extractor gives "
                f"{len(pred.mean)}; take the statistics of the same extractor"
            )
        return {self.extractor.name: frechet_distance(pred.mean, pred.covariance(), *given)}

    def _features(self, pictures: list[Tensor]) -> ndarray:
        """(B, D) float32."""
        return self.extractor.to(pictures[0].device)(pictures).float().cpu().numpy()


class Moments:
    """Of N vectors: `count` N, `mean` (D,) and `scatter` (D, D), the sum of products of differences from the mean."""

    def __init__(self, rows: ndarray) -> None:
        """rows: (N, D)."""
        rows = rows.astype(np.float64)
        self.count = len(rows)
        self.mean = rows.mean(0) if self.count else np.zeros(rows.shape[1])
        self.scatter = (rows - self.mean).T @ (rows - self.mean)

    def merge(self, other: "Moments") -> None:
        """Those of both sets together (Chan, Golub and LeVeque, 1979)."""
        if not other.count:
            return
        total, apart = self.count + other.count, other.mean - self.mean
        self.scatter += other.scatter
        self.scatter += np.outer(apart * (self.count * other.count / total), apart)
        self.mean = self.mean + apart * (other.count / total)
        self.count = total

    def covariance(self) -> ndarray:
        """The unbiased one, over N - 1."""
        return self.scatter / (self.count - 1)


class FeatureTally(Tally[tuple[ndarray, ...]]):
    """Moments of the features of predicted pictures and, where they are compared with those, of given ones.

    Rows are added up `ROWS` at a time, whatever the batches they come in.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[ndarray, ...]] = []
        self.moments: list[Moments] = []

    def take(self, row: tuple[ndarray, ...]) -> None:
        self.rows.append(row)
        if len(self.rows) == ROWS:
            self._add_up()

    def close(self, keep_last: bool) -> None:
        super().close(keep_last)
        self._add_up()

    def merge(self, other: "FeatureTally") -> None:
        self._join(other.moments)

    def _add_up(self) -> None:
        if self.rows:
            self._join([Moments(np.stack(kind)) for kind in zip(*self.rows)])
            self.rows = []

    def _join(self, more: list[Moments]) -> None:
        if not self.moments:
            self.moments = more
        else:
            for moments, other in zip(self.moments, more):
                moments.merge(other)


def frechet_distance(mean: ndarray, covariance: ndarray, other_mean: ndarray, other_covariance: ndarray) -> float:
    """Of two normal distributions with means (D,) and covariances (D, D); nan where one of them is not finite.

    tr (S1 S2)^(1/2) is computed as the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which has the same
    ones and is symmetric, so that singular covariances need no small number on their diagonal.
    """
    from scipy.linalg import eigh, eigvalsh

    parts = (mean, covariance, other_mean, other_covariance)
    if not all(np.isfinite(part).all() for part in parts):
        return float("nan")
    values, vectors = eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = eigvalsh(root @ other_covariance @ root).clip(0)
    apart = np.square(mean - other_mean).sum()
    return float(apart + np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(cross).sum())


def read_statistics(path: str) -> tuple[ndarray, ndarray]:
    """``mu`` (D,) and ``sigma`` (D, D) of an .npz file, float64.

    Raises:
        DataError: no such file, or without these arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (np.asarray(file[name], np.float64) for name in ("mu", "sigma"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: no .npz file with the arrays mu (D,) and sigma (D, D) ({type(error).__name__}: {error})"
        ) from error
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise DataError(f"{path}: mu has the shape {mean.shape} and sigma {covariance.shape}; expected (D,), (D, D)")
    return mean, covariance
