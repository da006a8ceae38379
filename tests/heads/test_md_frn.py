"""MD-FRN: what its modules relate, on inputs whose relations are known."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionpatch.backbones import FourBranchEncoder
from visionpatch.errors import ConfigError
from visionpatch.heads import MDFRNHead
from visionpatch.heads.md_frn import MSCRM, SCM, averaged


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def network(
    width: int, channels: int, encoder: dict[str, Any] | None = None, **head: Any
) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    backbone = FourBranchEncoder(width, **(encoder or {}))
    return backbone, MDFRNHead(backbone.out_channels, channels, **head)


@pytest.mark.parametrize(
    "width, channels, encoder, head, parameters",
    [
        (32, 128, {}, {}, 8_836_653),
        (16, 64, {}, {}, 2_805_789),
        (8, 32, {}, {}, 1_247_445),
        (32, 128, {}, dict(use_dim=False), 6_515_112),
        (32, 128, dict(sharing="siamese"), {}, 6_404_973),
    ],
)
def test_parameters(width: int, channels: int, encoder: dict, head: dict, parameters: int) -> None:
    with torch.device("meta"):
        assert count(*network(width, channels, encoder, **head)) == parameters


class TestSCM:
    def identity(self, channels: int) -> SCM:
        scm = SCM(channels, channels)
        for conv in (scm.query, scm.value):
            conv.weight.data.copy_(torch.eye(channels)[:, :, None, None])
        return scm.eval()

    @torch.no_grad()
    def test_places_that_moved_are_found_again(self) -> None:
        scm, a = self.identity(128), noise(2, 128, 8, 8)
        order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
        b = a.flatten(2)[:, :, order].view_as(a)  # b[j] = a[order[j]]
        relation = scm.relation(a, b)
        assert relation.shape == (2, 64, 64)
        assert torch.equal(relation.argmax(2), order.argsort().expand(2, 64))
        seen, _ = scm.gather(relation, a, b)
        unrelated = noise(2, 128, 8, 8, seed=2)
        other, _ = scm.gather(scm.relation(a, unrelated), a, unrelated)
        assert (a - seen).abs().mean() < 0.02
        assert (a - other).abs().mean() > 0.6

    @torch.no_grad()
    def test_an_order_of_places_does_not_change_what_is_gathered(self) -> None:
        torch.manual_seed(0)
        scm, a, b = SCM(6, 16).eval(), noise(2, 6, 4, 4), noise(2, 6, 4, 4, seed=1)
        order = torch.randperm(16)
        moved = b.flatten(2)[:, :, order].view_as(b)
        torch.testing.assert_close(scm(a, moved)[0], scm(a, b)[0])
        torch.testing.assert_close(scm(a, moved)[1], scm(a, b)[1].flatten(2)[:, :, order].view(2, 16, 4, 4))

    @torch.no_grad()
    def test_weights_sum_to_one_in_both_directions(self) -> None:
        scm, a, b = SCM(6, 16), noise(2, 6, 4, 4), noise(2, 6, 4, 4, seed=1)
        ones = torch.ones(2, 16, 4, 4)
        for seen in scm.gather(scm.relation(a, b), ones, ones):
            torch.testing.assert_close(seen, ones)

    @pytest.mark.parametrize("mode", [True, False])
    def test_an_exchange_of_the_patches_exchanges_the_results(self, mode: bool) -> None:
        torch.manual_seed(0)
        scm, a, b = SCM(6, 16).train(mode), noise(2, 6, 4, 4), noise(2, 6, 4, 4, seed=1)
        for x, y in zip(scm(a, b), reversed(scm(b, a))):
            torch.testing.assert_close(x, y)

    def test_the_factor_starts_at_ten_learns_and_stays_below_a_hundred(self) -> None:
        scm, a = self.identity(8), noise(1, 8, 2, 2)
        assert scm.relation(a, a)[0].diagonal().tolist() == pytest.approx([10.0] * 4, rel=1e-4)
        scm.relation(a, noise(1, 8, 2, 2, seed=1)).sum().backward()
        assert scm.log_factor.grad is not None and scm.log_factor.grad != 0
        scm.log_factor.data.fill_(9)
        assert scm.relation(a, a).max().item() == pytest.approx(100, rel=1e-4)


class TestMSCRM:
    def identity(self) -> MSCRM:
        torch.manual_seed(0)
        mscrm = MSCRM(32).eval()
        mscrm.key.weight.data.copy_(torch.eye(32))
        return mscrm

    @torch.no_grad()
    def test_scales_that_moved_are_found_again(self) -> None:
        mscrm, a = self.identity(), noise(2, 4, 32, 8, 8) + noise(2, 4, 32, 1, 1, seed=1)
        order = torch.tensor([2, 0, 3, 1])
        relation = mscrm.relation(a, a[:, order])
        assert torch.equal(relation.argmax(2), order.argsort().expand(2, 4))
        assert relation.amax(2).flatten().tolist() == pytest.approx([10.0] * 8, rel=1e-4)

    @torch.no_grad()
    def test_weights_of_the_scales_sum_to_one_and_equal_maps_stay_what_they_are(self) -> None:
        mscrm, maps = self.identity(), noise(2, 3, 32, 8, 8)
        weights = mscrm.weights(maps)
        torch.testing.assert_close(weights.sum(1), torch.ones(2))
        assert weights.std(1).min() > 1e-3
        same = maps[:, :1].expand(-1, 3, -1, -1, -1)
        torch.testing.assert_close(mscrm.aggregate(same), same[:, 0])

    @torch.no_grad()
    def test_neither_order_of_the_scales_nor_of_the_patches_matters(self) -> None:
        mscrm, a, b = self.identity(), noise(2, 3, 32, 8, 8), noise(2, 3, 32, 8, 8, seed=1)
        order = torch.tensor([1, 2, 0])
        for x, y in zip(mscrm(a, b), mscrm(a[:, order], b[:, order])):
            torch.testing.assert_close(x, y)
        for x, y in zip(mscrm(a, b), reversed(mscrm(b, a))):
            torch.testing.assert_close(x, y)


class TestDIM:
    channels, sides = (8, 12, 16), (16, 8, 4)

    def head(self, **more: Any) -> MDFRNHead:
        torch.manual_seed(0)
        return MDFRNHead(self.channels, 16, **more).eval()

    def maps(self, seed: int) -> list[Tensor]:
        return [noise(2, c, s, s, seed=seed) for c, s in zip(self.channels, self.sides)]

    @torch.no_grad()
    def test_spatial_relations_go_over_scales_and_scale_relations_over_places(self) -> None:
        head = self.head()
        spatial = head.spatial(self.maps(0), self.maps(1))
        scale = head.mscrm(*head.laterals(self.maps(0), self.maps(1)))
        nothing = [tuple(torch.zeros_like(x) for x in pair) for pair in (spatial, scale)]
        ss, cs = head.exchange(spatial, scale)
        without_sp, without_sc = head.exchange(nothing[0], scale), head.exchange(spatial, nothing[1])
        for i in range(2):
            assert torch.equal(without_sc[0][i], ss[i]) and not torch.allclose(without_sc[1][i], cs[i])
            assert torch.equal(without_sp[1][i], cs[i]) and not torch.allclose(without_sp[0][i], ss[i])

    @torch.no_grad()
    def test_a_second_round_uses_the_first(self) -> None:
        head = self.head(depth=2)
        spatial = tuple(noise(2, 3, 16, 8, 8, seed=i) for i in range(2))
        scale = tuple(noise(2, 16, 8, 8, seed=i) for i in range(2, 4))
        first_ss, first_cs = head.dim_mscrm[0](*spatial), head.dim_scm[0](*scale)
        joined = [torch.cat([old, new[:, None]], 1) for old, new in zip(spatial, first_cs)]
        ss, cs = head.exchange(spatial, scale)
        for found, expected in ((ss, head.dim_mscrm[1](*joined)), (cs, head.dim_scm[1](*first_ss))):
            torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize(
        "switches, kinds",
        [
            (dict(), ["sp", "sc", "ss", "cs"]),
            (dict(depth=3), ["sp", "sc", "ss", "cs"]),
            (dict(use_dim=False), ["sp", "sc"]),
            (dict(use_dim=False, use_scm=False), ["sc"]),
            (dict(use_dim=False, use_msag=False), ["sp"]),
            (dict(use_dim=False, use_scm=False, use_msag=False), ["plain"]),
        ],
    )
    def test_what_is_switched_off_does_not_exist_and_the_rest_learns(self, switches: dict, kinds: list[str]) -> None:
        head = self.head(**switches).train()
        found = head(self.maps(0), self.maps(1))
        assert list(found) == ["main", *kinds]
        sum(x.square().sum() for x in found.values()).backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        assert (len(head.scm) > 0) == switches.get("use_scm", True)
        assert (head.mscrm is not None) == switches.get("use_msag", True)
        assert len(head.dim_scm) == len(head.dim_mscrm) == (switches.get("depth", 1) if "ss" in kinds else 0)

    def test_without_the_exchange_there_is_nothing_of_it(self) -> None:
        assert not [name for name in self.head(use_dim=False).state_dict() if "dim" in name or "ss" in name]

    def test_wrong_arguments(self) -> None:
        with pytest.raises(ConfigError, match="use_dim=False"):
            self.head(use_scm=False)
        with pytest.raises(ConfigError, match="depth=0"):
            self.head(depth=0)
        with pytest.raises(ConfigError, match="name a map"):
            MDFRNHead(())

    @torch.no_grad()
    def test_maps_of_any_sides(self) -> None:
        head = self.head()
        maps = [noise(2, c, h, w) for c, (h, w) in zip(self.channels, ((17, 5), (8, 2), (3, 1)))]
        assert head(maps, maps)["main"].isfinite().all()


@pytest.mark.parametrize("sides", [(16, 16), (8, 8), (4, 2), (17, 5), (24, 8), (16, 4), (12, 20)])
def test_maps_are_averaged_as_by_the_general_pooling(sides: tuple[int, int]) -> None:
    x = noise(2, 3, *sides)
    expected = nn.functional.adaptive_avg_pool2d(x, (min(sides[0], 8), min(sides[1], 8)))
    torch.testing.assert_close(averaged(x, 8), expected)


def test_exchanging_the_spectra_changes_the_score_unless_all_is_shared() -> None:
    visible, thermal = noise(3, 1, 64, 64), noise(3, 1, 64, 64, seed=1)
    for sharing in ("hybrid", "none", "pseudo", "siamese"):
        encoder, head = network(4, 8, dict(sharing=sharing))
        encoder.eval(), head.eval()
        with torch.no_grad():
            there, back = head.score(*encoder(visible, thermal)), head.score(*encoder(thermal, visible))
        change = (there - back).abs().max().item()
        assert change < 1e-5 if sharing == "siamese" else change > 1e-4, sharing
