"""What every neck promises, checked for each registered one."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import visionpatch.necks  # noqa: F401  (registers)
from visionpatch.errors import ConfigError
from visionpatch.registry import MODELS

CHANNELS = (8, 12, 16, 20)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "FPN": dict(in_channels=CHANNELS, out_channels=6, num_outs=5),
    "FeaturePyramidFromPlain": dict(in_channels=CHANNELS),
}
STRIDES = {"FPN": (4, 8, 16, 32), "FeaturePyramidFromPlain": (16, 16, 16, 16)}  # of the incoming maps
SIZES = {"FPN": (72, 56), "FeaturePyramidFromPlain": (64, 48)}  # (H, W) of the image
NECKS = sorted(
    name for name, member in MODELS.module_dict.items()
    if inspect.isclass(member) and member.__module__.startswith("visionpatch.necks")
)  # fmt: skip


def features(name: str, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (batch, c, *(-(-side // s) for side in SIZES[name])) for c, s in zip(CHANNELS, STRIDES[name], strict=True)
    ]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_every_registered_neck_is_in_the_table() -> None:
    assert sorted(ARGUMENTS) == NECKS


@pytest.mark.parametrize("name", NECKS)
class TestNeck:
    @pytest.fixture(autouse=True)
    def _one_thread(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)

    def build(self, name: str) -> nn.Module:
        return MODELS.build(dict(type=name, **ARGUMENTS[name]))

    def test_maps_have_the_published_channels_and_strides(self, name: str) -> None:
        neck = self.build(name)
        maps = neck(features(name))
        assert isinstance(maps, tuple)
        assert len(maps) == len(neck.out_channels) == len(neck.out_strides)
        for x, channels, stride in zip(maps, neck.out_channels, neck.out_strides, strict=True):
            assert x.shape == (2, channels, *(-(-side // stride) for side in SIZES[name]))

    def test_a_batch_of_one_equals_a_batch_of_two(self, name: str) -> None:
        neck = self.build(name).eval()
        both = neck(features(name))
        second = neck([x[1:] for x in features(name)])
        for x, y in zip(both, second, strict=True):
            torch.testing.assert_close(x[1:], y, rtol=1e-5, atol=1e-5)

    def test_every_parameter_and_input_gets_a_gradient(self, name: str) -> None:
        neck = self.build(name)
        inputs = [x.requires_grad_() for x in features(name)]
        sum(x.square().sum() for x in neck(inputs)).backward()
        for key, parameter in neck.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
        assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in inputs)

    def test_the_state_dict_round_trip(self, name: str) -> None:
        first, second = self.build(name).eval(), self.build(name).eval()
        second.load_state_dict(first.state_dict(), strict=True)
        for x, y in zip(first(features(name)), second(features(name)), strict=True):
            assert torch.equal(x, y)

    def test_an_unknown_argument_raises(self, name: str) -> None:
        with pytest.raises(TypeError, match="out_chanels"):
            MODELS.build(dict(type=name, **ARGUMENTS[name], out_chanels=3))

    def test_wrong_channels_name_what_was_given_and_expected(self, name: str) -> None:
        wrong = [x[:, :7] for x in features(name)]
        with pytest.raises(ConfigError, match=r"in_channels=\(8, 12, 16, 20\).*\(7, 7, 7, 7\)"):
            self.build(name)(wrong)
