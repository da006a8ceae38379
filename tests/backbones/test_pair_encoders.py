"""Encoders of pairs: what all promise, which weights they share, and the published sizes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionpatch.backbones import FourBranchEncoder, PairEncoder, PatchEncoder
from visionpatch.backbones.pair_encoder import PairBackbone
from visionpatch.backbones.patch_encoder import ResponseNorm
from visionpatch.errors import ConfigError
from visionpatch.registry import MODELS

MICRO = dict(type="CrossFormer", arch=dict(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)))
LITE = dict(type="EfficientNetLite", out_indices=(0, 1, 2))
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "four branches": ("FourBranchEncoder", dict(width=4)),
    "four branches, unshared": ("FourBranchEncoder", dict(width=4, sharing="none")),
    "four branches, siamese": ("FourBranchEncoder", dict(width=4, sharing="siamese", num_scales=1)),
    "four branches, pseudo": ("FourBranchEncoder", dict(width=4, sharing="pseudo", num_scales=4)),
    "siamese": ("PatchEncoder", dict(arch="aguilera", shared=True)),
    "hardnet": ("PatchEncoder", dict(arch="hardnet", shared=True, width=4)),
    "sosnet": ("PatchEncoder", dict(arch="sosnet", shared=True, width=4)),
    "hynet": ("PatchEncoder", dict(arch="hynet", shared=True, width=4)),
    "afd_net": ("PatchEncoder", dict(arch="afd_net", shared=False, width=4)),
    "fil_net": ("PatchEncoder", dict(arch="fil_net", shared=False, width=4)),
    "EfficientNet-Lite0": ("PairEncoder", dict(visible=LITE)),
    "CrossFormer": ("PairEncoder", dict(visible=MICRO, thermal=MICRO)),
}


def noise(batch: int, side: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(batch, 1, side, side, generator=torch.Generator().manual_seed(seed))


def build(case: str) -> PairBackbone:
    torch.manual_seed(0)
    name, arguments = CASES[case]
    return MODELS.build(dict(type=name, **arguments))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_every_registered_pair_encoder_is_tested() -> None:
    found = {k for k, v in MODELS.module_dict.items() if isinstance(v, type) and issubclass(v, PairBackbone)}
    assert found == {name for name, _ in CASES.values()}


@pytest.mark.parametrize("case", CASES)
class TestPairBackbone:
    @torch.no_grad()
    def test_maps_are_what_is_published(self, case: str) -> None:
        encoder = build(case).eval()
        for maps in encoder(noise(2), noise(2, seed=1)):
            assert tuple(x.shape[1] for x in maps) == encoder.out_channels
            assert all(a.shape[2] >= b.shape[2] for a, b in zip(maps, maps[1:]))
            assert len(encoder.out_strides) == len(maps)
            for x, stride in zip(maps, encoder.out_strides):
                assert x.shape[2] == x.shape[3] and x.isfinite().all() and x.std() > 0
                if not encoder.exact_windows:
                    assert x.shape[2] == 64 // stride

    @torch.no_grad()
    def test_one_spectrum_alone_gives_the_same(self, case: str) -> None:
        encoder, visible, thermal = build(case).eval(), noise(3), noise(3, seed=1)
        both = encoder(visible, thermal)
        for maps, image, spectrum in zip(both, (visible, thermal), ("visible", "thermal")):
            for x, y in zip(encoder.encode(image, spectrum), maps, strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
            for x, y in zip(encoder.encode(image[1:2], spectrum), maps, strict=True):
                torch.testing.assert_close(x, y[1:2], rtol=1e-4, atol=1e-4)

    def test_every_parameter_gets_a_gradient(self, case: str) -> None:
        encoder = build(case).train()
        maps = encoder(noise(2), noise(2, seed=1))
        sum(x.square().mean() for side in maps for x in side).backward()
        for name, parameter in encoder.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name

    def test_an_unknown_argument_and_an_unknown_spectrum(self, case: str) -> None:
        name, arguments = CASES[case]
        with pytest.raises(TypeError, match="no_such"):
            MODELS.build(dict(type=name, **arguments, no_such=1))
        with pytest.raises(ConfigError, match='spectrum = "thermel"; did you mean "thermal"'):
            build(case).encode(noise(1), "thermel")


class TestFourBranchEncoder:
    def test_there_are_exactly_three_encoders(self) -> None:
        encoder = FourBranchEncoder(32)
        assert encoder.out_channels == (64, 128, 256) and encoder.out_strides == (4, 8, 16)
        one = count(encoder.shared)
        assert one == 1_172_832
        assert count(encoder) == 3 * one + count(encoder.fuse)
        assert count(FourBranchEncoder(32, "none")) == 4 * one + count(encoder.fuse)

    def test_the_shared_branch_learns_from_both_spectra_and_the_own_ones_from_one(self) -> None:
        encoder = build("four branches")
        for index, (own, other) in enumerate((("visible", "thermal"), ("thermal", "visible"))):
            encoder.zero_grad(set_to_none=True)
            maps = [noise(2), noise(2, seed=1)]
            encoder.encode(maps[index], own)[-1].square().sum().backward()
            assert all(p.grad is not None for p in encoder.shared.parameters())
            assert all(p.grad is not None for p in encoder.own[own].parameters())
            assert all(p.grad is None for p in encoder.own[other].parameters())

    @torch.no_grad()
    def test_of_equal_pictures_the_shared_features_agree_and_the_own_do_not(self) -> None:
        encoder = build("four branches").eval()
        shared, own = encoder._branch_maps(noise(2), noise(2))
        for x in shared:
            assert torch.equal(*x.chunk(2))
        for x in own:
            assert not torch.allclose(*x.chunk(2))

    @torch.no_grad()
    def test_the_shared_branch_forgets_contrast_per_picture(self) -> None:
        """By its instance norms: the coarse features of a picture with another gain are the same."""
        encoder = build("four branches, siamese").eval()
        a, b = encoder.encode(noise(1), "visible")[0], encoder.encode(3 * noise(1), "visible")[0]
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)

    @torch.no_grad()
    def test_any_sides_from_16_on(self) -> None:
        encoder = FourBranchEncoder(4).eval()
        maps = encoder.encode(torch.randn(1, 1, 75, 130), "visible")
        assert [tuple(x.shape[2:]) for x in maps] == [(18, 32), (9, 16), (4, 8)]
        with pytest.raises(ConfigError, match="at least 16 x 16"):
            encoder.encode(torch.randn(1, 1, 64, 15), "visible")

    def test_wrong_arguments(self) -> None:
        with pytest.raises(ConfigError, match='sharing = "hybird"; did you mean "hybrid"'):
            FourBranchEncoder(sharing="hybird")
        with pytest.raises(ConfigError, match=r"num_scales=5 in 1\.\.4"):
            FourBranchEncoder(num_scales=5)


class TestPatchEncoder:
    @pytest.mark.parametrize(
        "arch, shared, parameters",
        [
            ("aguilera", True, 908_416),
            ("aguilera", False, 2 * 908_416),
            ("hardnet", True, 1_334_560),
            ("sosnet", True, 1_334_560),
            ("hynet", True, 1_334_560 + 448 + 3 * (1 + 448)),
            ("afd_net", False, 2 * 1_172_832),
            ("fil_net", False, 2_468_480),
        ],
    )
    def test_parameters(self, arch: str, shared: bool, parameters: int) -> None:
        assert count(PatchEncoder(arch, shared)) == parameters

    @torch.no_grad()
    @pytest.mark.parametrize("arch", ["afd_net", "fil_net"])
    def test_maps_of_the_pyramids(self, arch: str) -> None:
        encoder = PatchEncoder(arch, True).eval()
        assert encoder.out_channels == (32, 32, 64, 128, 256)
        assert [x.shape[2] for x in encoder.encode(noise(1), "visible")] == [64, 32, 16, 8, 4]

    @torch.no_grad()
    def test_a_picture_of_the_unpadded_trunk_holds_its_windows(self) -> None:
        encoder, picture = PatchEncoder("aguilera", True).eval(), noise(1, 64 + 24)
        found = encoder.encode(picture, "visible")[0]
        assert found.shape == (1, 256, 3, 3)
        for i, j in ((0, 0), (1, 2), (2, 1)):
            window = picture[:, :, 12 * i : 12 * i + 64, 12 * j : 12 * j + 64]
            torch.testing.assert_close(encoder.encode(window, "visible")[0][..., 0, 0], found[..., i, j])

    @torch.no_grad()
    def test_a_descriptor_forgets_brightness_and_contrast(self) -> None:
        encoder, patch = build("hardnet").eval(), noise(2)
        torch.testing.assert_close(
            encoder.encode(patch, "visible")[0], encoder.encode(5 + 2 * patch, "visible")[0], rtol=1e-3, atol=1e-4
        )

    def test_responses_are_divided_by_their_root_mean_square_and_cut_at_a_learnt_value(self) -> None:
        norm = ResponseNorm(2)
        x = torch.tensor([[[[3.0, -4.0]], [[0.5, 0.5]]]])  # root mean squares sqrt(12.5) and 0.5
        norm.weight.data[0], norm.bias.data[1], norm.threshold.data[0] = 2, 0.25, -1
        expected = torch.tensor([[[[6 / 12.5**0.5, -1.0]], [[1.25, 1.25]]]])
        torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-5)

    def test_wrong_arguments_and_sizes(self) -> None:
        with pytest.raises(ConfigError, match='arch = "hardnt"; did you mean "hardnet"'):
            PatchEncoder("hardnt", True)
        with pytest.raises(ConfigError, match="width=8"):
            PatchEncoder("aguilera", True, width=8)
        with pytest.raises(ConfigError, match=r"at least \(64, 64\)"):
            PatchEncoder("aguilera", True).encode(noise(1, 63), "visible")
        with pytest.raises(ConfigError, match="64 x 64 patches"):
            PatchEncoder("hardnet", True).encode(noise(1, 65), "visible")


class TestPairEncoder:
    @torch.no_grad()
    def test_grey_is_what_the_backbone_sees_in_each_channel(self) -> None:
        encoder = build("EfficientNet-Lite0").eval()
        image = noise(2)
        expected = encoder.visible.backbone(image.repeat(1, 3, 1, 1))
        for x, y in zip(encoder.encode(image, "thermal"), expected):
            assert torch.equal(x, y)
        assert math.isclose(count(encoder), count(encoder.visible.backbone))

    def test_backbones_of_different_maps_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="out_channels of visible"):
            PairEncoder(LITE, MICRO)
