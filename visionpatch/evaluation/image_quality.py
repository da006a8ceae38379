"""How near predicted pictures are to the given ones, and how many codes they are made of.

Letters: C colour channels, H, W sides of a picture, h, w sides of a map of codes, c codes a point.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from numpy import ndarray
from torch import Tensor, nn

from visionpatch.errors import BadSampleError, ConfigError, DataError, MissingDependencyError, nearest
from visionpatch.evaluation.streaming import StreamedMetric, Tally
from visionpatch.registry import METRICS, MODELS

MEASURES = ("PSNR", "SSIM", "L1")
# arguments of skimage.metrics.structural_similarity, and the side of the window
WINDOWS: dict[str, tuple[dict[str, Any], int]] = {
    "gaussian": (dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False), 11),
    "uniform": (dict(win_size=7), 7),
}


@METRICS.register_module()
class ImageQuality(BaseMetric):
    """``PSNR`` in dB, ``SSIM`` and ``L1`` of `pred_image` against `gt_image`, each the mean over the pictures.

    Pictures (C, H, W) of 0..255 are rounded to integers first, as a file would hold them.

    - PSNR: 10 log10(255^2 / mean squared error over all pixels and channels); infinite for equal pictures.
    - SSIM: of scikit-image, the mean over the channels and over all pixels whose window lies in the picture, with
      K1 = 0.01, K2 = 0.03. The window is that of Wang et al. ("Image Quality Assessment: From Error Visibility to
      Structural Similarity", 2004), a Gaussian of sigma 1.5 and 11 pixels a side, or a uniform one of 7 pixels with
      sample covariances, scikit-image's default. Values of the two differ.
    - L1: the mean absolute difference on the scale -1..1, that of the pixel loss: twice that on the scale 0..1.

    Args:
        measures: of "PSNR", "SSIM", "L1".
        ssim_window: "gaussian" or "uniform".
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result names.

    Raises:
        ConfigError: an unknown name. MissingDependencyError: SSIM without scikit-image.
        BadSampleError: a sample without one of the pictures, of different sizes, or smaller than the window.
        DataError: no sample at all.
    """

    def __init__(
        self,
        measures: Sequence[str] = MEASURES,
        ssim_window: str = "gaussian",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.measures = (measures,) if isinstance(measures, str) else tuple(measures)
        for name in self.measures:
            if name not in MEASURES:
                raise ConfigError(f'ImageQuality: measures has "{name}"{nearest(str(name), MEASURES)}')
        if not self.measures or ssim_window not in WINDOWS:
            raise ConfigError(
                f'ImageQuality: measures = {list(self.measures)} names one or more, and ssim_window = "{ssim_window}" '
                f"is one of {', '.join(WINDOWS)}"
            )
        self.ssim_window = ssim_window
        if "SSIM" in self.measures:
            structural_similarity()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the values of each picture."""
        for sample in data_samples:
            pred, gt = (x.double().cpu().numpy() for x in picture_pair(self, sample))
            self.results.append([self._value(name, pred, gt, sample) for name in self.measures])

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not results:
            raise DataError("ImageQuality: no picture was evaluated")
        return dict(zip(self.measures, np.array(results, np.float64).mean(0).tolist()))

    def _value(self, name: str, pred: ndarray, gt: ndarray, sample: Mapping) -> float:
        if name == "PSNR":
            return psnr(pred, gt)
        if name == "L1":
            return float(np.abs(pred - gt).mean() / 127.5)
        options, side = WINDOWS[self.ssim_window]
        if min(gt.shape[1:]) < side:
            raise BadSampleError(
                f"{_where(sample)}: SSIM needs pictures of {side} pixels or more a side, this one is {gt.shape[1:]}; "
                'leave SSIM out: measures=["PSNR", "L1"]'
            )
        return float(structural_similarity()(gt, pred, data_range=255, channel_axis=0, **options))


@METRICS.register_module()
class CodebookUsage(StreamedMetric):
    """``codebook_usage``, the share (0..1) of the codes that occur at all, and ``perplexity``, exp of the entropy of
    their frequencies, over the `pred_codes` (h, w, c) of all pictures together; the c codes share one codebook.

    Args:
        codebook_size: number of the codes.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result names.

    Raises:
        ConfigError: no code. BadSampleError: a sample without codes, or a code out of range. DataError: no sample.
    """

    def __init__(self, codebook_size: int, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if codebook_size < 1:
            raise ConfigError(f"CodebookUsage: codebook_size = {codebook_size}; expected 1 or more")
        self.codebook_size = codebook_size

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the codes."""
        for sample in data_samples:
            if "pred_codes" not in sample:
                raise BadSampleError(
                    f"{_where(sample)}: no pred_codes in the predicted sample; CodebookUsage is for a model of "
                    "discrete codes, such as ImageTokenizer"
                )
            codes = sample["pred_codes"].flatten().cpu()
            if not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
                raise BadSampleError(
                    f"{_where(sample)}: codes from {int(codes.min())} to {int(codes.max())}, but codebook_size = "
                    f"{self.codebook_size}; set it to that of the model"
                )
            self.add(codes.numpy())

    def tally(self) -> "CodeCounts":
        return CodeCounts(self.codebook_size)

    def values(self, tally: "CodeCounts") -> dict[str, float]:
        total = tally.counts.sum()
        if not total:
            raise DataError("CodebookUsage: no picture was evaluated")
        shares = tally.counts[tally.counts > 0] / total
        perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
        return dict(codebook_usage=len(shares) / self.codebook_size, perplexity=perplexity)


class CodeCounts(Tally[ndarray]):
    """`counts`: how often each code occurs."""

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.counts = np.zeros(codebook_size, np.int64)

    def take(self, row: ndarray) -> None:
        self.counts += np.bincount(row, minlength=len(self.counts))

    def merge(self, other: "CodeCounts") -> None:
        self.counts += other.counts


@METRICS.register_module()
class PerceptualDistance(BaseMetric):
    """The mean distance of `pred_image` to `gt_image` by a network, under the name of its class: ``LPIPS`` where the
    published file is given, otherwise ``FeatureDistance``, whose values are on another scale.

    Args:
        distance: an `LPIPS` with its checkpoint, or a `FeatureDistance`, or the config of one; None: FeatureDistance
            on EfficientNet-Lite0 with ImageNet weights.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result name.

    Raises:
        ConfigError: LPIPS without its weights. BadSampleError: as ImageQuality. DataError: no sample at all.
    """

    def __init__(
        self, distance: dict | nn.Module | None = None, collect_device: str = "cpu", prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        distance = dict(type="FeatureDistance") if distance is None else distance
        if isinstance(distance, Mapping) and distance.get("type") == "LPIPS" and not distance.get("checkpoint"):
            raise ConfigError(
                "PerceptualDistance: LPIPS without checkpoint has random weights; give the published file vgg.pth, or "
                'take distance=dict(type="FeatureDistance")'
            )
        self.distance: nn.Module = distance if isinstance(distance, nn.Module) else MODELS.build(distance)

    @torch.no_grad()
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the distance of each pair."""
        for sample in data_samples:
            pred, gt = (x[None] / 127.5 - 1 for x in picture_pair(self, sample))
            self.results.append(float(self.distance.to(pred.device)(pred, gt)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not results:
            raise DataError("PerceptualDistance: no picture was evaluated")
        return {type(self.distance).__name__: float(np.mean(results))}


def picture_pair(metric: BaseMetric, sample: Mapping) -> tuple[Tensor, Tensor]:
    """`pred_image` and `gt_image` (C, H, W) of a sample, float32, rounded to integers and clipped to 0..255.

    Raises:
        BadSampleError: one is missing, or they differ in shape.
    """
    pred, gt = (whole_numbers(metric, sample, name) for name in ("pred_image", "gt_image"))
    if pred.shape != gt.shape:
        raise BadSampleError(
            f"{_where(sample)}: pred_image has the shape {tuple(pred.shape)}, gt_image {tuple(gt.shape)}; expected "
            "equal ones (C, H, W)"
        )
    return pred, gt


def whole_numbers(metric: BaseMetric, sample: Mapping, name: str) -> Tensor:
    """The picture `name` (C, H, W) of a sample, float32, rounded to integers and clipped to 0..255."""
    if name not in sample or sample[name].ndim != 3:
        raise BadSampleError(
            f"{_where(sample)}: {type(metric).__name__} needs {name} (C, H, W) in the predicted sample; a model such "
            "as ImageTokenizer gives it"
        )
    return sample[name].float().round().clamp(0, 255)


def psnr(pred: ndarray, gt: ndarray) -> float:
    """Of pictures in 0..255, in dB."""
    error = float(np.square(pred - gt).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def structural_similarity() -> Any:
    """scikit-image's function.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        from skimage.metrics import structural_similarity as function
    except ImportError as error:
        raise MissingDependencyError(
            'SSIM needs scikit-image; run: pip install "scikit-image>=0.20" (or pip install "visionpatch[tokenizer]"), '
            'or leave SSIM out: ImageQuality(measures=["PSNR", "L1"])'
        ) from error
    return function


def _where(sample: Mapping) -> str:
    return str(sample.get("img_path", "a picture without img_path"))
