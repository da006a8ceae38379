"""What every matching head promises, and the numbers of the baselines."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import visionpatch.heads  # noqa: F401  (registers)
from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.heads import DescriptorHead, GradientNCCHead, SIFTHead, TwoChannelHead
from visionpatch.heads.matching_baselines import (
    Interaction,
    distances,
    hardest_excess,
    hybrid_excess,
    length_difference,
    second_order,
)
from visionpatch.heads.unlearned_matching import gradient_magnitude, sift_descriptors
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

CHANNELS, SIDES = (4, 6, 8), (16, 8, 4)
UNLEARNED = ("GradientNCCHead", "SIFTHead")
RAW = (*UNLEARNED, "TwoChannelHead")  # these read patches
MATCHING: dict[str, dict[str, Any]] = {
    "MDFRNHead": dict(in_channels=CHANNELS, channels=8),
    "TwoChannelHead": dict(),
    "SiameseHead": dict(in_channels=CHANNELS),
    "DescriptorHead": dict(in_channels=CHANNELS, loss="sosnet"),
    "AFDNetHead": dict(in_channels=CHANNELS),
    "FILNetHead": dict(in_channels=CHANNELS),
    "GradientNCCHead": dict(),
    "SIFTHead": dict(),
}
LEARNED = sorted(set(MATCHING) - set(UNLEARNED))


def maps(name: str, batch: int = 6, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, 1, 64, 64)] if name in RAW else [(batch, c, s, s) for c, s in zip(CHANNELS, SIDES)]
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def samples(labels: list[int]) -> list[DataSample]:
    return [
        DataSample(metainfo=dict(img_path=f"pair{i}.png"), gt_label=torch.tensor([y])) for i, y in enumerate(labels)
    ]


def build(name: str, **more: Any) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(dict(type=name, **MATCHING[name], **more))


@pytest.mark.parametrize("name", sorted(MATCHING))
class TestMatchingHead:
    def test_the_main_output_comes_first_and_alone_on_request(self, name: str) -> None:
        head = build(name).eval()
        found = head(maps(name), maps(name, seed=1))
        assert next(iter(found)) == "main"
        assert all(x.shape == (6,) and x.isfinite().all() for x in found.values())
        alone = head(maps(name), maps(name, seed=1), main_only=True)
        assert list(alone) == ["main"] and torch.equal(alone["main"], found["main"])

    @torch.no_grad()
    def test_a_pair_does_not_see_the_others_of_its_batch(self, name: str) -> None:
        head = build(name).eval()
        visible, thermal = maps(name), maps(name, seed=1)
        whole = head.score(visible, thermal)
        for i in (0, 5):
            one = head.score([x[i : i + 1] for x in visible], [x[i : i + 1] for x in thermal])
            torch.testing.assert_close(one, whole[i : i + 1], rtol=1e-4, atol=1e-5)

    def test_predictions_are_the_scores_of_the_given_samples(self, name: str) -> None:
        head, given = build(name).eval(), samples([0, 1, 0, 1, 0, 1])
        predicted = head.predict(maps(name), maps(name, seed=1), given)
        assert [p is g for p, g in zip(predicted, given, strict=True)] == [True] * 6
        scores = head.score(maps(name), maps(name, seed=1)).double()
        expected = scores.sigmoid() if head.probability else scores
        torch.testing.assert_close(torch.cat([s.pred_score for s in given]), expected)

    def test_wrong_channels_are_named(self, name: str) -> None:
        head = build(name)
        wrong = [x[:, :0] for x in maps(name)]
        with pytest.raises(ConfigError, match=rf"{name}: in_channels=.*set in_channels="):
            head(wrong, maps(name))
        with pytest.raises(ConfigError, match="there are 0 maps"):
            head(maps(name), [])

    def test_an_unknown_argument_raises(self, name: str) -> None:
        with pytest.raises(TypeError, match="no_such"):
            build(name, no_such=1)


@pytest.mark.parametrize("name", LEARNED)
class TestLearned:
    def test_losses_reach_every_parameter(self, name: str) -> None:
        head = build(name).train()
        visible, thermal = ([x.requires_grad_() for x in maps(name, seed=seed)] for seed in (0, 1))
        losses = head.loss(visible, thermal, samples([0, 1, 1, 1, 0, 1]))
        assert list(losses)[0] == "loss_main" and all(x.isfinite() and x >= 0 for x in losses.values())
        sum(losses.values()).backward()
        for key, parameter in head.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().sum() > 0, key
        for x in (visible[-1], thermal[-1]):
            assert x.grad is not None and x.grad.abs().sum() > 0

    def test_a_label_must_be_0_or_1_and_there(self, name: str) -> None:
        head = build(name)
        with pytest.raises(BadSampleError, match=r"pair2\.png: label 2.*labels 0 to 1"):
            head.loss(maps(name, 3), maps(name, 3), samples([0, 1, 2]))
        with pytest.raises(DataError, match="gt_label"):
            head.loss(maps(name, 1), maps(name, 1), [DataSample()])

    def test_autocast_gives_finite_losses(self, name: str) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = build(name).loss(maps(name), maps(name, seed=1), samples([0, 1, 1, 1, 0, 1]))
        assert all(x.isfinite() for x in losses.values())

    def test_the_state_dict_round_trip(self, name: str) -> None:
        first = build(name).eval()
        torch.manual_seed(9)
        second = MODELS.build(dict(type=name, **MATCHING[name])).eval()
        second.load_state_dict(first.state_dict(), strict=True)
        assert torch.equal(first.score(maps(name), maps(name, seed=1)), second.score(maps(name), maps(name, seed=1)))


def test_every_registered_matching_head_is_tested() -> None:
    found = {name for name, one in MODELS.module_dict.items() if isinstance(one, type)
             and issubclass(one, visionpatch.heads.MatchingHead)}  # fmt: skip
    assert found == set(MATCHING)


@pytest.mark.parametrize("name", ["AFDNetHead", "FILNetHead", "MDFRNHead"])
def test_losses_of_perfect_logits_vanish(name: str) -> None:
    head = build(name)
    labels = [0, 1, 1, 0]
    perfect = 40 * (2 * torch.tensor(labels) - 1.0)
    keys = list(head(maps(name), maps(name)))
    head.outputs = lambda visible, thermal, main_only: dict.fromkeys(keys, perfect)
    losses = head.loss(maps(name, 4), maps(name, 4), samples(labels))
    assert len(losses) == len(keys) and all(x < 1e-12 for x in losses.values())


def test_outputs_of_the_networks_with_several() -> None:
    for name, keys in {
        "AFDNetHead": ["main", "last"],
        "FILNetHead": ["main", "private0", "private1", "common0", "common1", "common2"],
    }.items():
        assert list(build(name)(maps(name), maps(name, seed=1))) == keys


def test_probabilities_of_sure_pairs_still_differ() -> None:
    head = build("SiameseHead")
    head.outputs = lambda visible, thermal, main_only: {"main": torch.tensor([20.0, 21.0])}
    given = samples([1, 1])
    head.predict(maps("SiameseHead", 2), maps("SiameseHead", 2), given)
    assert given[0].pred_score < given[1].pred_score < 1


def test_the_hinge_counts_what_is_within_the_margin() -> None:
    head = build("SiameseHead")
    head.outputs = lambda visible, thermal, main_only: {"main": torch.tensor([2.0, 0.25, -3.0, -0.5])}
    loss = head.loss(maps("SiameseHead", 4), maps("SiameseHead", 4), samples([1, 1, 0, 1]))["loss_main"]
    assert loss.item() == pytest.approx((0 + 0.75 + 0 + 1.5) / 4)
    head = build("SiameseHead", loss="bce")
    head.outputs = lambda visible, thermal, main_only: {"main": torch.zeros(1)}
    loss = head.loss(maps("SiameseHead", 1), maps("SiameseHead", 1), samples([1]))["loss_main"]
    assert loss.item() == pytest.approx(math.log(2))
    with pytest.raises(ConfigError, match='loss = "hing"; did you mean "hinge"'):
        build("SiameseHead", loss="hing")


def test_two_channels_take_patches_of_64_pixels_only() -> None:
    with pytest.raises(ConfigError, match=r"expected \(64, 64\)"):
        TwoChannelHead()([torch.zeros(1, 1, 65, 64)], [torch.zeros(1, 1, 65, 64)])
    assert sum(p.numel() for p in TwoChannelHead().parameters()) == 913_377


class TestDescriptors:
    def test_the_hardest_other_of_row_and_column(self) -> None:
        # the nearest others are 0.6 (row 0), 0.3 (column 1, of row 2), 0.3 (row 2); the 0.001 is a duplicate
        distance = torch.tensor([[0.2, 0.6, 0.9], [0.8, 0.1, 0.001], [0.7, 0.3, 0.5]])
        excess = hardest_excess(distance)
        assert excess.tolist() == pytest.approx([1 + 0.2 - 0.6, 1 + 0.1 - 0.3, 1 + 0.5 - 0.3])

    def test_the_hybrid_loss_looks_for_others_in_both_spectra(self) -> None:
        turns = torch.tensor([[0.0, 60, 250], [20, 130, 160]]).deg2rad()  # of three pairs on a circle
        a, b = torch.stack([turns.cos(), turns.sin()], 2)
        # degrees apart: matches 20, 70, 90; nearest others 40 (b0, a1), 30 (b1, b2), 30
        chords = [2 * math.sin(math.radians(x) / 2) for x in (20, 70, 90, 40, 30, 30)]
        s = [d + d * d for d in chords]
        expected = [max(0, 1.2 + s[i] - s[i + 3]) for i in range(3)]
        assert hybrid_excess(a, b).tolist() == pytest.approx(expected, abs=1e-4)

    def test_lengths_are_compared_before_they_become_one(self) -> None:
        found = length_difference(torch.tensor([[3.0, 4], [1, 0]]), torch.tensor([[0.0, 2], [0, 2]]))
        assert found.item() == pytest.approx(0.1 * (9 + 1) / 2)
        assert list(DescriptorHead((8,), "hynet").loss(*[[torch.randn(3, 8, 1, 1)]] * 2, samples([1, 1, 0]))) == [
            "loss_main",
            "loss_length",
        ]

    def test_far_others_and_near_matches_cost_nothing(self) -> None:
        assert hardest_excess(torch.tensor([[0.1, 1.2], [1.3, 0.2]])).tolist() == [0, 0]

    def test_the_second_order_term_compares_distances_within_each_spectrum(self) -> None:
        a = F.normalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)))
        rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))[0]
        assert second_order(a, a @ rotation).item() == pytest.approx(1e-4, abs=1e-4)  # distances are kept
        b = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
        c = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 0, 1]])
        # only d(0, 1) differs, sqrt 2 against 2: as seen from 0 and from 1
        assert second_order(b, c).item() == pytest.approx((2 - math.sqrt(2)) * 2 / 3, abs=1e-3)

    def test_the_second_order_term_looks_at_neighbours_only(self) -> None:
        turns = torch.tensor([[0.0, 10, 100, 115], [0, 20, 100, 150]]).deg2rad()
        a, b = torch.stack([turns.cos(), turns.sin()], 2)
        # of both the nearest are (0, 1) and (2, 3): 10 against 20 degrees, and 15 against 50
        first, second = (2 * math.sin(math.radians(x / 2)) - 2 * math.sin(math.radians(y / 2)) for x, y in
                         ((20, 10), (50, 15)))  # fmt: skip
        assert second_order(a, b, neighbours=1).item() == pytest.approx((2 * first + 2 * second) / 4, abs=1e-3)
        assert second_order(a, b) > second_order(a, b, neighbours=1)

    def test_scores_are_minus_distances_and_equal_maps_are_nearest(self) -> None:
        head = build("DescriptorHead").eval()
        a = torch.tensor([[3.0, 0], [0, 2]])[:, :, None, None]
        head.in_channels = (2,)
        scores = head([a[[0, 0, 0]]], [torch.stack([a[0], a[1], -a[0]])])["main"]
        assert scores.tolist() == pytest.approx([-1e-3, -math.sqrt(2), -2], abs=1e-4)

    def test_one_matching_pair_has_no_other_and_only_matches_count(self) -> None:
        head = DescriptorHead((8,))
        x = torch.randn(4, 8, 2, 2, requires_grad=True)
        loss = head.loss([x], [x], samples([0, 1, 0, 0]))["loss_main"]
        loss.backward()
        assert loss == 0 and x.grad is not None and x.grad.abs().sum() == 0
        y = torch.randn(4, 8, 2, 2)
        z = torch.cat([y[:3], 7 * torch.randn(1, 8, 2, 2)])
        labels = samples([1, 1, 1, 0])
        assert torch.equal(head.loss([y], [y], labels)["loss_main"], head.loss([z], [z], labels)["loss_main"])

    def test_distances_keep_their_precision_under_autocast(self) -> None:
        a = F.normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(0)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = distances(a, a)
        assert torch.equal(half, distances(a, a)) and half.dtype == torch.float32


def test_what_is_common_is_gated_by_the_other_spectrum() -> None:
    """With open gates all is common and nothing private; with shut ones the reverse."""
    torch.manual_seed(0)
    block = Interaction(4).eval()
    x, y = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5)
    for bias, share in ((50.0, 1.0), (-50.0, 0.0)):
        for gate in (block.gate_x, block.gate_y):
            gate[1].bias.data.fill_(bias)
        common, private = block(x, y)
        own = [F.leaky_relu(part(z), 0.1) for part, z in ((block.value_x, x), (block.value_y, y))]
        torch.testing.assert_close(common, share * (own[0] + own[1]), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(private, (1 - share) * torch.cat(own, 1).abs(), atol=1e-5, rtol=1e-4)


class TestUnlearned:
    def scene(self, seed: int) -> Tensor:
        """Smooth blobs (1, 1, 64, 64)."""
        noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        return F.interpolate(noise, (64, 64), mode="bicubic")

    def test_a_slope_of_one_has_a_gradient_of_one(self) -> None:
        ramp = torch.arange(8.0).expand(1, 1, 8, 8)
        assert torch.allclose(gradient_magnitude(ramp)[..., 1:-1], torch.ones(8, 6))
        assert torch.allclose(gradient_magnitude(3 * ramp.transpose(2, 3))[..., 1:-1, :], torch.full((6, 8), 3.0))

    def test_correlation_survives_contrast_and_inversion(self) -> None:
        head, x = GradientNCCHead(), self.scene(0)
        found = head([x.repeat(3, 1, 1, 1)], [torch.cat([x, 5 - 2 * x, self.scene(1)])])["main"]
        assert found[:2].tolist() == pytest.approx([1, 1], abs=1e-5)
        assert abs(found[2]) < 0.6
        assert head([x], [torch.ones_like(x)])["main"].tolist() == [0]

    def test_correlation_is_that_of_numpy(self) -> None:
        x, y = self.scene(2), self.scene(3)
        a, b = (gradient_magnitude(z).flatten().numpy() for z in (x, y))
        assert GradientNCCHead()([x], [y])["main"].item() == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-5)

    def test_sift_survives_brightness_and_not_another_scene(self) -> None:
        head, x = SIFTHead(), self.scene(0)
        found = head([x.repeat(3, 1, 1, 1)], [torch.cat([x, 9 + 3 * x, self.scene(1)])])["main"]
        assert found[0] == 0 and found[1] > -0.05
        assert found[2] < -0.4
        assert sift_descriptors(x).norm().item() == pytest.approx(1, abs=1e-5)

    def test_sift_reads_the_whole_patch_and_no_more_than_it(self) -> None:
        """Each of the 4 x 4 cells holds the gradients of a quarter of the side, and a share of its neighbours'."""
        for row, column in ((0, 3), (2, 1)):
            x = torch.zeros(1, 1, 64, 64)
            x[..., 16 * row + 6 : 16 * row + 10, 16 * column + 6 : 16 * column + 10] = 1  # amid the cell
            cells = sift_descriptors(x).view(4, 4, 8).sum(2)
            assert cells.argmax() == 4 * row + column and cells[row, column] > 0.5 * cells.sum()

    @pytest.mark.parametrize("head", [GradientNCCHead, SIFTHead])
    def test_patches_of_one_grey_level_and_training(self, head: type[nn.Module]) -> None:
        flat = torch.full((2, 1, 64, 64), 7.0)
        assert head()([flat], [flat])["main"].tolist() == [0, 0]
        with pytest.raises(ConfigError, match="nothing to learn"):
            head().loss([flat], [flat], samples([0, 1]))
