"""PatchMatcher: every method end to end, windows of whole pictures, and what a user may get wrong."""

from typing import Any

import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from visionpatch.apis.flops import count_macs
from visionpatch.errors import ConfigError, DataError
from visionpatch.evaluation import FPR95
from visionpatch.models import PatchMatcher
from visionpatch.structures import DataSample

MICRO = dict(type="CrossFormer", arch=dict(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)))
FOUR = dict(type="FourBranchEncoder", width=4)
PYRAMID = (4, 4, 8, 16, 32)
# name -> backbone, head
METHODS: dict[str, tuple[dict | None, dict]] = {
    "md_frn": (FOUR, dict(type="MDFRNHead", in_channels=(8, 16, 32), channels=8)),
    "md_frn on EfficientNet-Lite0": (
        dict(type="PairEncoder", visible=dict(type="EfficientNetLite", out_indices=(0, 1, 2))),
        dict(type="MDFRNHead", in_channels=(24, 40, 112), channels=8),
    ),
    "md_frn on CrossFormer": (
        dict(type="PairEncoder", visible=MICRO, thermal=MICRO),
        dict(type="MDFRNHead", in_channels=(16, 32, 64, 128), channels=8),
    ),
    "two channels": (None, dict(type="TwoChannelHead")),
    "siamese": (dict(type="PatchEncoder", arch="aguilera", shared=True), dict(type="SiameseHead", in_channels=(256,))),
    "pseudo-siamese": (
        dict(type="PatchEncoder", arch="aguilera", shared=False),
        dict(type="SiameseHead", in_channels=(256,)),
    ),
    "hardnet": (
        dict(type="PatchEncoder", arch="hardnet", shared=True, width=4),
        dict(type="DescriptorHead", in_channels=(16,)),
    ),
    "sosnet": (
        dict(type="PatchEncoder", arch="sosnet", shared=True, width=4),
        dict(type="DescriptorHead", in_channels=(16,), loss="sosnet"),
    ),
    "hynet": (
        dict(type="PatchEncoder", arch="hynet", shared=True, width=4),
        dict(type="DescriptorHead", in_channels=(16,), loss="hynet"),
    ),
    "afd_net": (
        dict(type="PatchEncoder", arch="afd_net", shared=False, width=4),
        dict(type="AFDNetHead", in_channels=PYRAMID),
    ),
    "fil_net": (
        dict(type="PatchEncoder", arch="fil_net", shared=False, width=4),
        dict(type="FILNetHead", in_channels=PYRAMID),
    ),
    "gradient correlation": (None, dict(type="GradientNCCHead")),
    "sift": (None, dict(type="SIFTHead")),
}
UNLEARNED = ("gradient correlation", "sift")


def build(method: str) -> PatchMatcher:
    torch.manual_seed(0)
    backbone, head = METHODS[method]
    return PatchMatcher(head, backbone, BaseDataPreprocessor())


def patches(batch: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


def pairs(batch: int) -> dict[str, Tensor]:
    return dict(visible=patches(batch), thermal=patches(batch, 1))


def samples(labels: list[int]) -> list[DataSample]:
    return [DataSample(metainfo=dict(img_path=f"{i}.png"), gt_label=torch.tensor([y])) for i, y in enumerate(labels)]


@pytest.mark.parametrize("method", METHODS)
class TestEveryMethod:
    @torch.no_grad()
    def test_scores_predictions_and_a_pair_alone(self, method: str) -> None:
        model = build(method).eval()
        scores = model(pairs(3))
        assert scores.shape == (3,) and scores.isfinite().all()
        found = model(pairs(3), samples([0, 1, 0]), mode="predict")
        order = torch.cat([s.pred_score for s in found]).argsort()
        assert torch.equal(order, scores.argsort())
        if model.head.probability:
            assert all(0 <= s.pred_score <= 1 for s in found)
        one = model({k: x[2:] for k, x in pairs(3).items()})
        torch.testing.assert_close(one, scores[2:], rtol=1e-4, atol=1e-4)

    @torch.no_grad()
    def test_encoding_once_and_comparing_gives_the_same(self, method: str) -> None:
        model = build(method).eval()
        first, all_of_them = model.encode(patches(1), "visible"), model.encode(patches(3, 1), "thermal")
        repeated = dict(visible=patches(1).repeat(3, 1, 1, 1), thermal=patches(3, 1))
        torch.testing.assert_close(model.compare(first, all_of_them), model(repeated), rtol=1e-4, atol=1e-4)

    def test_a_training_step(self, method: str) -> None:
        model = build(method)
        if method in UNLEARNED:
            with pytest.raises(ConfigError, match="nothing to learn"):
                model(pairs(2), samples([0, 1]), mode="loss")
            return
        losses = model(pairs(4), samples([1, 0, 1, 1]), mode="loss")
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert all(p.grad.abs().sum() > 0 for p in [*model.parameters()][:1])

    @torch.no_grad()
    def test_windows_of_a_picture(self, method: str) -> None:
        model = build(method).eval()
        picture = torch.randn(1, 80, 96, generator=torch.Generator().manual_seed(3))
        corners = torch.tensor([[0, 0], [12, 0], [32, 16], [7, 11], [20, 16]])
        windows = torch.stack([picture[:, y : y + 64, x : x + 64] for x, y in corners.tolist()])
        expected = model.encode(windows, "thermal")
        for x, y in zip(model.encode_windows(picture, corners, "thermal"), expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
        if method in ("hardnet", "sosnet", "hynet"):
            return  # they take 64 x 64 pixels only
        shared = model.encode_windows(picture, corners, "thermal", share=True)
        for x, y in zip(shared, expected, strict=True):
            assert x.shape == y.shape
            if model.exact_windows:
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
        exact = {"two channels", "siamese", "pseudo-siamese", *UNLEARNED}
        assert model.exact_windows == (method in exact)


def test_shared_windows_on_a_grid_are_close_where_they_are_not_exact() -> None:
    """A lone window is its own picture; of others the inner cells agree, the padding of the border does not."""
    model = build("md_frn").eval()
    picture = torch.randn(1, 96, 96, generator=torch.Generator().manual_seed(3))
    alone = torch.tensor([[5, 9]])
    with torch.no_grad():
        for x, y in zip(model.encode_windows(picture, alone, "visible", share=True),
                        model.encode_windows(picture, alone, "visible"), strict=True):  # fmt: skip
            torch.testing.assert_close(x, y)
        grid = torch.tensor([[x, y] for y in (0, 16, 32) for x in (0, 16, 32)])
        near = model.encode_windows(picture, grid, "visible", share=True)[0]
        exact = model.encode_windows(picture, grid, "visible")[0]
    assert (near - exact)[..., 4:-4, 4:-4].abs().mean() < 0.15 * exact.std()


@pytest.mark.parametrize("method, macs", [("two channels", 20_794_624), ("sift", 0)])
def test_operations_can_be_counted(method: str, macs: int) -> None:
    """conv 7x7: 20 x 20 x 96 x 98; 5x5: 6 x 6 x 192 x 2400; 3x3: 256 x 1728; linear: 256."""
    assert count_macs(build(method), (2, 64, 64)) == macs


def test_parameters_of_the_baselines() -> None:
    for method, parameters in {"two channels": 913_377, "siamese": 1_171_585, "pseudo-siamese": 2_080_001}.items():
        assert sum(p.numel() for p in build(method).parameters()) == parameters


def test_from_patches_of_8_and_16_bits_to_the_metric() -> None:
    """The unlearned floor tells blurred, inverted patches from others."""
    model = PatchMatcher(dict(type="GradientNCCHead"))
    scenes = nn.functional.interpolate(torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), (64, 64))
    visible = (200 * scenes).to(torch.uint8)
    thermal = (60000 * (1 - nn.functional.avg_pool2d(scenes, 3, 1, 1))).to(torch.uint16)
    given = samples([1] * 6 + [0] * 6)
    for sample in given:
        sample.set_metainfo(dict(scene="a", set="R"))
    batch = dict(inputs=dict(visible=[*visible, *visible], thermal=[*thermal, *thermal.flip(0)]), data_samples=given)
    metric = FPR95()
    metric.process({}, [sample.to_dict() for sample in model.test_step(batch)])
    found = metric.evaluate(12)
    assert found["FPR95"] == 0 and found["AUC"] == 100


class TestErrors:
    def test_a_backbone_of_single_pictures(self) -> None:
        with pytest.raises(ConfigError, match=r'PairEncoder", visible=dict\(type="EfficientNetLite"'):
            PatchMatcher(
                dict(type="SiameseHead", in_channels=(24, 40, 112, 320)),
                dict(type="EfficientNetLite"),
                BaseDataPreprocessor(),
            )

    @pytest.mark.parametrize("head", [dict(type="MDFRNHead", in_channels=(8, 16, 31)), dict(type="TwoChannelHead")])
    def test_parts_that_do_not_fit(self, head: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=r"model\.head\.in_channels"):
            PatchMatcher(head, FOUR, BaseDataPreprocessor())

    def test_pairs_that_are_none(self) -> None:
        model = build("gradient correlation")
        with pytest.raises(DataError, match="without thermal"):
            model(dict(visible=patches(1)))
        with pytest.raises(DataError, match=r"visible patches of shape \(2, 1, 64, 64\), thermal ones of \(2, 1, 32"):
            model(dict(visible=patches(2), thermal=patches(2)[..., :32, :]))
        with pytest.raises(ConfigError, match='mode = "predikt"; did you mean "predict"'):
            model(pairs(1), mode="predikt")

    def test_numbers_and_windows_that_do_not_fit(self) -> None:
        model = build("gradient correlation")
        maps = model.encode(patches(3), "visible")
        with pytest.raises(DataError, match="3 visible and 2 thermal"):
            model.compare(maps, model.encode(patches(2), "thermal"))
        for corners in ([[0, 1]], [[-1, 0]]):
            with pytest.raises(DataError, match="windows of 64 pixels"):
                model.encode_windows(torch.zeros(1, 64, 70), torch.tensor(corners), "visible")
        with pytest.raises(DataError, match="one or more"):
            model.encode_windows(torch.zeros(1, 64, 70), torch.zeros(0, 2, dtype=torch.long), "visible")


def test_a_small_network_learns_pairs_by_heart() -> None:
    """12 pairs whose thermal patch is the inverted, blurred visible one, or that of another pair."""
    torch.manual_seed(0)
    model = build("md_frn")
    scenes = nn.functional.interpolate(torch.randn(6, 1, 8, 8), (64, 64), mode="bicubic")
    thermal = -nn.functional.avg_pool2d(scenes, 5, 1, 2)
    inputs = dict(visible=scenes.repeat(2, 1, 1, 1), thermal=torch.cat([thermal, thermal.roll(1, 0)]))
    given = samples([1] * 6 + [0] * 6)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(12):
        optimizer.zero_grad()
        losses = model(inputs, given, mode="loss")
        sum(losses.values()).backward()
        optimizer.step()
    with torch.no_grad():
        scores = model(inputs)  # with the batch's own statistics, as in training
    assert scores[:6].min() > scores[6:].max()
    assert losses["loss_main"] < 0.1
