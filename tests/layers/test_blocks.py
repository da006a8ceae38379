"""Attention, stochastic depth and the dynamic position bias against their definitions."""

import pytest
import torch
from torch import nn

from visionpatch.layers.attention import attention
from visionpatch.layers.drop_path import DropPath
from visionpatch.layers.mlp import Mlp
from visionpatch.layers.position_bias import DynamicPositionBias


def test_attention_is_softmax_of_scores_and_bias():
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 4)
    for bias in (None, torch.randn(3, 5, 7), torch.randn(2, 1, 1, 7)):
        scores = q @ k.transpose(-2, -1) / 8**0.5 + (0 if bias is None else bias)
        torch.testing.assert_close(attention(q, k, v, bias), scores.softmax(-1) @ v)


def test_attention_gradients():
    torch.manual_seed(0)
    shapes = (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), (2, 3, 3)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(attention, inputs)


def test_position_bias_depends_on_the_offset_and_shrinks_to_its_corner():
    torch.manual_seed(0)
    bias = DynamicPositionBias(64, 2)
    for parameter in bias.parameters():
        nn.init.normal_(parameter, std=0.5)
    table = bias(3, 4)
    assert table.shape == (2, 3, 4, 3, 4)

    def value(offset):
        return bias.pos3(bias.pos2(bias.pos1(bias.pos_proj(torch.tensor(offset, dtype=torch.float32)))))

    torch.testing.assert_close(table[:, 2, 1, 0, 3], value([2, -2]))  # query (2, 1), key (0, 3)
    torch.testing.assert_close(table[:, 0, 3, 2, 1], value([-2, 2]))
    torch.testing.assert_close(table[:, :2, :3, :2, :3], bias(2, 3))


def test_drop_path_keeps_the_mean_and_whole_samples():
    torch.manual_seed(0)
    layer, x = DropPath(0.25), torch.ones(4000, 2, 3)
    out = layer(x)
    kept = out[:, 0, 0] > 0
    assert torch.equal(out, torch.where(kept[:, None, None], 1 / 0.75, 0.0).expand_as(out))
    assert kept.float().mean() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(layer.eval()(x), x)
    assert DropPath(1.0)(x).abs().sum() == 0


def test_mlp():
    layer = Mlp(2, 3)
    x = torch.randn(4, 5, 2)
    torch.testing.assert_close(layer(x), layer.fc2(nn.functional.gelu(layer.fc1(x))))
