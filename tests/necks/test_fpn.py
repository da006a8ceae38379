"""FPN: levels, strides, extra maps, errors, initial values."""

from typing import Any

import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.necks import FPN

CHANNELS = (2, 3, 4, 5)


def identity_neck(**arguments: Any) -> FPN:
    """One channel everywhere; laterals and outputs pass values on unchanged (extra convolutions too: centre tap 1)."""
    neck = FPN((1, 1, 1), 1, **arguments).eval()
    for conv in [*neck.lateral_convs, *neck.fpn_convs]:
        torch.nn.init.dirac_(conv.conv.weight)
    return neck


def constant_maps() -> list[torch.Tensor]:
    return [torch.full((1, 1, 8, 8), 1.0), torch.full((1, 1, 4, 4), 10.0), torch.full((1, 1, 2, 2), -100.0)]


def values(neck: FPN) -> list[float]:
    return [x.flatten()[0].item() for x in neck(constant_maps())]


def test_top_down_sums_and_plain_extra_levels() -> None:
    assert values(identity_neck(num_outs=4)) == [-89.0, -90.0, -100.0, -100.0]


@pytest.mark.parametrize(
    ("source", "expected"),
    [("on_input", -100.0), ("on_lateral", -100.0), ("on_output", -50.0)],
)
def test_extra_convolutions_read_their_source(source: Any, expected: float) -> None:
    neck = identity_neck(num_outs=4, add_extra_convs=source)
    with torch.no_grad():
        neck.fpn_convs[2].conv.weight.mul_(0.5)  # makes the last output differ from its lateral
    assert values(neck)[2:] == [-50.0, expected]


def test_relu_comes_before_all_extra_convolutions_but_the_first() -> None:
    neck = identity_neck(num_outs=5, add_extra_convs=True, relu_before_extra_convs=True)
    assert values(neck)[3:] == [-100.0, 0.0]


def test_levels_and_strides() -> None:
    neck = FPN(CHANNELS, 6, num_outs=2, start_level=1, end_level=2)
    assert neck.out_channels == (6, 6)
    assert neck.out_strides == (8, 16)
    assert [conv.conv.in_channels for conv in neck.lateral_convs] == [3, 4]
    assert FPN(CHANNELS, 6, num_outs=5, start_level=1).out_strides == (8, 16, 32, 64, 128)


def test_odd_sizes_follow_the_finer_map() -> None:
    maps = [torch.randn(1, c, h, w) for c, h, w in ((2, 25, 31), (3, 13, 16), (4, 7, 8), (5, 4, 4))]
    assert [x.shape[2:] for x in FPN(CHANNELS, 6, num_outs=5)(maps)] == [(25, 31), (13, 16), (7, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (dict(num_outs=3), "num_outs=3, but 4 maps are used"),
        (dict(num_outs=2, start_level=4), "start_level=4"),
        (dict(num_outs=3, end_level=1), "num_outs must be 2, not 3"),
        (dict(num_outs=1, end_level=7), r"end_level=7 must lie in \[0, 3\]"),
        (dict(num_outs=5, add_extra_convs="on_inputs"), 'did you mean "on_input"'),
        (dict(num_outs=4, in_strides=(4, 8)), "in_strides"),
    ],
)
def test_contradictions_are_explained(arguments: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        FPN(CHANNELS, 6, **arguments)


def test_initial_values_are_xavier_uniform() -> None:
    conv = FPN((64,), 64, num_outs=1).fpn_convs[0].conv
    bound = (6 / (2 * 64 * 9)) ** 0.5
    assert 0.98 * bound < conv.weight.abs().max().item() <= bound
    assert conv.bias.abs().max() == 0
