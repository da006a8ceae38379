"""EfficientNetV2: published sizes and operations, padding, stochastic depth, freezing, recomputation."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from visionpatch.apis.flops import count_macs
from visionpatch.backbones.efficientnet_v2 import EfficientNetV2, SqueezeExcite
from visionpatch.errors import ConfigError
from visionpatch.layers.drop_path import DropPath

FC = 1280 * 1000 + 1000
# parameters of the children 0..5 of torchvision's features
CHILDREN = (696, 10_464, 303_552, 589_184, 917_680, 3_463_840)


def test_sizes_are_the_published_ones():
    with torch.device("meta"):
        whole, trunk = EfficientNetV2(with_head_conv=True), EfficientNetV2(out_indices=(0, 1, 2))
    assert sum(p.numel() for p in whole.parameters()) + FC == 21_458_488
    assert whole.out_channels == (48, 64, 160, 1280) and trunk.out_channels == (48, 64, 160)
    assert trunk.out_strides == (4, 8, 16)
    parts = [
        trunk.stem, trunk.stages[0][:2], trunk.stages[0][2:], trunk.stages[1], trunk.stages[2][:6], trunk.stages[2][6:]
    ]  # fmt: skip
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == CHILDREN


def test_operations_are_the_published_ones():
    """8.366 billion multiply-accumulates at 384 x 384 in torchvision's table of weights."""
    with torch.device("meta"):
        macs = count_macs(EfficientNetV2(with_head_conv=True), (384, 384)) + 1280 * 1000
    assert macs / 1e9 == pytest.approx(8.366, abs=5e-4)


@pytest.mark.parametrize("size", [(1, 1), (33, 64), (225, 31)])
def test_sides_are_rounded_up(size):
    maps = EfficientNetV2(out_indices=(0, 1, 2)).eval()(torch.zeros(1, 3, *size))
    for x, stride in zip(maps, (4, 8, 16), strict=True):
        assert x.shape[2:] == tuple(math.ceil(side / stride) for side in size)


def test_padding_is_symmetric():
    """A stem of ones that looks at the top left pixel alone: even padding shows it to the first output only."""
    net = EfficientNetV2(out_indices=(0,)).eval()
    nn.init.zeros_(net.stem.conv.weight)
    with torch.no_grad():
        net.stem.conv.weight[:, :, 1, 1] = 1.0
    image = torch.zeros(1, 3, 8, 8)
    image[:, :, 0, 0] = 1.0
    y = net.stem(image)[0, 0]
    assert y[0, 0].item() == pytest.approx(F.silu(torch.tensor(3 / math.sqrt(1 + 1e-3))).item(), rel=1e-6)
    assert y.count_nonzero() == 1


def test_squeeze_and_excitation_by_hand():
    layer = SqueezeExcite(2, 1)
    for parameter, values in zip(layer.parameters(), ([1.0, 0.5], [0.25], [2.0, -1.0], [0.0, 1.0]), strict=True):
        parameter.data = torch.tensor(values).view(parameter.shape)
    x = torch.tensor([1.0, 3.0, 2.0, 2.0]).view(1, 2, 1, 2)  # means 2 and 2
    squeezed = F.silu(torch.tensor(2 + 1 + 0.25)).item()
    gates = [1 / (1 + math.exp(-2 * squeezed)), 1 / (1 + math.exp(squeezed - 1))]
    expected = [1 * gates[0], 3 * gates[0], 2 * gates[1], 2 * gates[1]]
    assert layer(x).flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_stochastic_depth_counts_the_blocks_of_the_whole_network():
    net = EfficientNetV2(out_indices=(0, 1, 2), drop_path_rate=0.2)
    rates = [m.rate for m in net.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.005 * i for i in range(25)]) and rates[-1] == pytest.approx(0.12)


@pytest.mark.parametrize("frozen", [-1, 0, 2])
def test_frozen_stages(frozen):
    net = EfficientNetV2(out_indices=(0, 1), frozen_stages=frozen).train()
    for place, part in enumerate([net.stem, *net.stages]):
        assert all(module.training is (place > frozen) for module in part.modules())
        assert all(parameter.requires_grad is (place > frozen) for parameter in part.parameters())


def test_recomputation_changes_nothing():
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        net = EfficientNetV2(out_indices=(0,), drop_path_rate=0.0, with_cp=with_cp).train()
        x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
        net(x)[0].square().sum().backward()
        results.append((x.grad, net.stages[0][3].expand.norm.running_mean, net.stages[0][3].project.conv.weight.grad))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(arch="xl"), 'no arch "xl"; valid: s'),
        (dict(out_indices=(2, 1)), "out_indices must ascend"),
        (dict(out_indices=(0, 1), with_head_conv=True), "needs 3 in out_indices"),
        (dict(drop_path_rate=1.0), r"drop_path_rate must be in \[0, 1\), not 1.0"),
        (dict(out_indices=(0,), frozen_stages=2), r"frozen_stages must be in -1\.\.1, not 2"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        EfficientNetV2(**arguments)
