"""PSNR, SSIM, L1, perceptual distance and codebook usage: by hand, against scikit-image, whatever the batches."""

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from visionpatch.errors import BadSampleError, ConfigError, DataError, MissingDependencyError
from visionpatch.evaluation import CodebookUsage, ImageQuality, PerceptualDistance
from visionpatch.losses import LPIPS, FeatureDistance


def pair(seed: int = 0, height: int = 24, width: int = 20) -> dict[str, Any]:
    """A sample of integers in 0..255."""
    rng = torch.Generator().manual_seed(seed)
    gt = torch.randint(256, (3, height, width), generator=rng).float()
    noise = torch.randint(-20, 21, gt.shape, generator=rng)
    return dict(gt_image=gt, pred_image=(gt + noise).clamp(0, 255), img_path=f"{seed}.png")


def flat(pred: float, gt: float) -> dict[str, Tensor]:
    return dict(pred_image=torch.full((3, 16, 16), pred), gt_image=torch.full((3, 16, 16), gt))


def evaluate(metric: Any, samples: list, batch_size: int = 2) -> dict[str, float]:
    for start in range(0, len(samples), batch_size):
        metric.process(None, samples[start : start + batch_size])
    return metric.evaluate(len(samples))


class TestImageQuality:
    def test_by_hand(self) -> None:
        found = evaluate(ImageQuality(["L1", "PSNR"]), [flat(100, 110), flat(0, 255)])
        assert list(found) == ["L1", "PSNR"]
        assert found["L1"] == pytest.approx((10 / 127.5 + 2) / 2)
        assert found["PSNR"] == pytest.approx((20 * math.log10(25.5) + 0) / 2)

    def test_ssim_of_flat_pictures_is_its_luminance_term(self) -> None:
        c1 = (0.01 * 255) ** 2
        expected = (2 * 100 * 50 + c1) / (100**2 + 50**2 + c1)
        for window in ("gaussian", "uniform"):
            assert evaluate(ImageQuality("SSIM", window), [flat(100, 50)])["SSIM"] == pytest.approx(expected, rel=1e-9)

    def test_against_scikit_image(self) -> None:
        samples = [pair(seed) for seed in range(3)]
        arrays = [[s[k].permute(1, 2, 0).numpy().astype(np.uint8) for k in ("gt_image", "pred_image")] for s in samples]
        wang = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for window, options in (("gaussian", wang), ("uniform", {})):
            found = evaluate(ImageQuality(ssim_window=window), samples)
            ssim = [structural_similarity(*two, channel_axis=2, data_range=255, **options) for two in arrays]
            assert found["SSIM"] == pytest.approx(np.mean(ssim), rel=1e-9)
            assert found["PSNR"] == pytest.approx(np.mean([peak_signal_noise_ratio(*two) for two in arrays]), rel=1e-9)
        assert evaluate(ImageQuality("SSIM"), samples) != evaluate(ImageQuality("SSIM", "uniform"), samples)

    def test_the_window_of_the_paper(self) -> None:
        """At the middle of 11 x 11 pixels the formula of Wang et al., with its Gaussian weights."""
        sample = pair(height=11, width=11)
        axis = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
        weights = np.outer(axis, axis) / axis.sum() ** 2
        values = []
        for x, y in zip(sample["gt_image"].double().numpy(), sample["pred_image"].double().numpy()):
            mx, my = (weights * x).sum(), (weights * y).sum()
            vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
            both = (weights * (x - mx) * (y - my)).sum()
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            values.append((2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
        assert evaluate(ImageQuality("SSIM"), [sample])["SSIM"] == pytest.approx(np.mean(values), rel=1e-9)

    def test_batches_do_not_matter_and_a_second_run_is_equal(self) -> None:
        samples, metric = [pair(seed) for seed in range(5)], ImageQuality()
        first = evaluate(metric, samples, 1)
        assert first == evaluate(metric, samples, 5) == evaluate(ImageQuality(), samples, 2)

    def test_pictures_are_rounded_as_in_a_file(self) -> None:
        found = evaluate(ImageQuality(), [flat(100.4, 99.6)])
        assert found == dict(PSNR=math.inf, SSIM=1.0, L1=0.0)
        assert evaluate(ImageQuality("L1"), [flat(300.0, 255)]) == dict(L1=0.0)

    def test_what_is_not_finite_is_seen(self) -> None:
        found = evaluate(ImageQuality(), [flat(math.nan, 1)])
        assert all(math.isnan(value) for value in found.values())

    def test_errors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigError, match='measures has "PSRN"; did you mean "PSNR"'):
            ImageQuality(["PSRN"])
        with pytest.raises(ConfigError, match='ssim_window = "gauss" is one of gaussian, uniform'):
            ImageQuality(ssim_window="gauss")
        with pytest.raises(BadSampleError, match=r"0.png: SSIM needs pictures of 11 pixels or more a side.*\(10, 30\)"):
            evaluate(ImageQuality(), [pair(height=10, width=30)])
        with pytest.raises(BadSampleError, match="needs pred_image"):
            evaluate(ImageQuality(), [dict(gt_image=torch.zeros(3, 16, 16))])
        with pytest.raises(BadSampleError, match=r"\(3, 16, 16\), gt_image \(3, 16, 17\)"):
            evaluate(ImageQuality(), [flat(0, 0) | dict(gt_image=torch.zeros(3, 16, 17))])
        with pytest.raises(DataError, match="no picture was evaluated"):
            ImageQuality().evaluate(0)
        monkeypatch.setitem(sys.modules, "skimage.metrics", None)
        with pytest.raises(MissingDependencyError, match='pip install "scikit-image'):
            ImageQuality()
        assert evaluate(ImageQuality(["PSNR", "L1"]), [flat(1, 1)])["L1"] == 0


class TestCodebookUsage:
    def test_by_hand(self) -> None:
        samples = [dict(pred_codes=torch.tensor([[[0, 1], [1, 1]]])), dict(pred_codes=torch.tensor([[[2, 2], [0, 0]]]))]
        found = evaluate(CodebookUsage(8), samples)  # shares 3/8, 3/8, 2/8
        entropy = -2 * 3 / 8 * math.log(3 / 8) - 2 / 8 * math.log(2 / 8)
        assert found == dict(codebook_usage=3 / 8, perplexity=pytest.approx(math.exp(entropy)))

    def test_batches_do_not_matter_and_a_second_run_is_equal(self) -> None:
        rng = torch.Generator().manual_seed(0)
        samples = [dict(pred_codes=torch.randint(50, (4, 5, 2), generator=rng)) for _ in range(7)]
        metric = CodebookUsage(64)
        first = evaluate(metric, samples, 1)
        assert first == evaluate(metric, samples, 7) == evaluate(metric, samples, 3)
        counts = torch.cat([s["pred_codes"].flatten() for s in samples]).bincount(minlength=64).double()
        entropy = torch.special.entr(counts / counts.sum()).sum()
        assert first["perplexity"] == pytest.approx(entropy.exp().item())

    def test_errors(self) -> None:
        codes = torch.tensor([[[3]]])
        with pytest.raises(BadSampleError, match="codes from 3 to 3, but codebook_size = 3; set it to that"):
            evaluate(CodebookUsage(3), [dict(pred_codes=codes)])
        with pytest.raises(BadSampleError, match="no pred_codes"):
            evaluate(CodebookUsage(3), [flat(0, 0)])
        with pytest.raises(ConfigError, match="codebook_size = 0"):
            CodebookUsage(0)
        with pytest.raises(DataError, match="no picture was evaluated"):
            CodebookUsage(3).evaluate(0)


class TestPerceptualDistance:
    def test_the_mean_of_the_networks_distances(self) -> None:
        torch.manual_seed(0)
        network = FeatureDistance(dict(type="EfficientNetLite", out_indices=(0,)))
        samples = [pair(seed, 32, 32) for seed in range(3)]
        found = evaluate(PerceptualDistance(network), samples)
        pred, gt = (torch.stack([s[k] for s in samples]) / 127.5 - 1 for k in ("pred_image", "gt_image"))
        assert found == dict(FeatureDistance=pytest.approx(network(pred, gt).mean().item(), rel=1e-4))
        assert found["FeatureDistance"] > 0
        same = [dict(pred_image=s["gt_image"], gt_image=s["gt_image"]) for s in samples]
        assert evaluate(PerceptualDistance(network), same)["FeatureDistance"] == 0

    def test_lpips_by_name_with_its_weights_only(self) -> None:
        with pytest.raises(ConfigError, match="LPIPS without checkpoint has random weights"):
            PerceptualDistance(dict(type="LPIPS"))

        class Given(LPIPS):
            def __init__(self) -> None:
                nn.Module.__init__(self)

            def forward(self, image: Tensor, other: Tensor) -> Tensor:
                return (image - other).abs().mean().view(1, 1, 1, 1)

        assert evaluate(PerceptualDistance(Given()), [flat(127.0, 0.0)]) == dict(Given=pytest.approx(127 / 127.5))
