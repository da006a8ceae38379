"""The conv block and the bilinear resize."""

import pytest
import torch
from torch import nn

from visionpatch.errors import ConfigError
from visionpatch.layers.conv_module import ConvModule, build_norm
from visionpatch.layers.resize import resize


def test_children_and_bias() -> None:
    assert {name for name, _ in ConvModule(2, 4, 3).named_parameters()} == {"conv.weight", "conv.bias"}
    for kind in ("BN", "SyncBN"):
        block = ConvModule(2, 4, 3, norm_cfg=dict(type=kind))
        assert {name for name, _ in block.named_parameters()} == {"conv.weight", "bn.weight", "bn.bias"}
    assert "gn.weight" in ConvModule(2, 4, 3, norm_cfg=dict(type="GN", num_groups=2)).state_dict()


def test_the_order_is_convolution_norm_relu() -> None:
    block = ConvModule(1, 1, 1, norm_cfg=dict(type="BN")).eval()
    nn.init.constant_(block.conv.weight, 2.0)
    nn.init.constant_(block.bn.running_mean, 3.0)
    x = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    assert block(x).flatten().tolist() == pytest.approx([0.0, 1 / (1 + 1e-5) ** 0.5])
    block.act = False
    assert block(x).flatten()[0].item() == pytest.approx(-1 / (1 + 1e-5) ** 0.5)


def test_norm_arguments() -> None:
    norm = build_norm(dict(type="BN", requires_grad=False, momentum=0.01, eps=1e-3), 4)
    assert (norm.momentum, norm.eps) == (0.01, 1e-3)
    assert not any(p.requires_grad for p in norm.parameters())
    with pytest.raises(ConfigError, match='unknown type "BatchNorm".*BN'):
        build_norm(dict(type="BatchNorm"), 4)
    with pytest.raises(ConfigError, match='BN takes no argument "momentun"; did you mean "momentum"'):
        build_norm(dict(type="BN", momentun=0.1), 4)
    with pytest.raises(ConfigError, match="num_groups dividing the 4 channels, got 3"):
        build_norm(dict(type="GN", num_groups=3), 4)


def test_resize() -> None:
    x = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    assert resize(x, (1, 4)).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]
    assert resize(x, (1, 4), align_corners=True).flatten().tolist() == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0])
    assert resize(x, (1, 2)) is x
