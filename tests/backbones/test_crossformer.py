"""CrossFormer against a slow rendering of its definition, the published tables, and itself."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from visionpatch.apis.flops import count_macs
from visionpatch.backbones.crossformer import (
    ARCHS,
    CrossFormer,
    GroupAttention,
    GroupRule,
    merge_axis,
    split_axis,
)
from visionpatch.errors import ConfigError
from visionpatch.layers.patch_embed import CrossScaleEmbedding

# published parameters of the dense form and of the classification form with 1000 classes; tensors in the state dict
PUBLISHED = {
    "tiny": (27_262_770, 27_776_794, 444),
    "small": (29_886_858, 30_657_394, 340),
    "base": (51_201_018, 51_971_554, 652),
    "large": (90_944_136, 91_971_184, 652),
    "pp-small": (22_811_316, 23_325_340, 672),
    "pp-base": (51_224_058, 51_994_594, 672),
    "pp-large": (90_974_856, 92_001_904, 672),
    "pp-huge": (94_935_896, 95_962_944, 888),
}
TINY = dict(embed_dims=32, depths=(2, 2, 4, 2), num_heads=(1, 2, 4, 8))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("arch", ARCHS)
def test_published_parameter_counts(arch):
    with torch.device("meta"):
        dense = CrossFormer(arch)
        normed = CrossFormer(arch, out_indices=(3,), out_norm=True)
        head = nn.Linear(normed.out_channels[-1], 1000)
    assert (count(dense), count(normed) + count(head), len(dense.state_dict())) == PUBLISHED[arch]
    assert set(PUBLISHED) == set(ARCHS)


# multiply-accumulates (billions) of the classification form at 224 x 224 by the published counter, without padding
MACS = {"tiny": 2.86, "small": 4.91, "base": 9.16, "large": 16.11}
MACS |= {"pp-small": 4.39, "pp-base": 9.50, "pp-large": 16.57, "pp-huge": 21.59}


@pytest.mark.parametrize("arch", ARCHS)
def test_published_multiply_accumulates(arch):
    with torch.device("meta"):
        backbone = CrossFormer(arch, out_indices=(3,), out_norm=True)
    assert count_macs(backbone, (224, 224)) / 1e9 == pytest.approx(MACS[arch], abs=0.02)


def reference_attention(layer: GroupAttention, x: torch.Tensor) -> torch.Tensor:
    """Group attention token by token: two tokens meet when tile and offset agree on both axes."""
    batch, height, width, channels = x.shape
    g_h, g_w, i = layer.rule.plan(height, width)
    heads = layer.num_heads
    qkv = layer.qkv(x).view(batch, height, width, 3, heads, channels // heads)
    out = torch.zeros(batch, height, width, heads, channels // heads)
    tokens = list(itertools.product(range(height), range(width)))

    def key(y, x_):
        return y // (g_h * i), y % i, x_ // (g_w * i), x_ % i

    for y, x_ in tokens:
        group = [(v, u) for v, u in tokens if key(v, u) == key(y, x_)]
        scores = []
        for v, u in group:
            offset = torch.tensor(
                [(y % (g_h * i)) // i - (v % (g_h * i)) // i, (x_ % (g_w * i)) // i - (u % (g_w * i)) // i]
            )
            pos = layer.pos
            bias = pos.pos3(pos.pos2(pos.pos1(pos.pos_proj(offset.float()))))
            product = (qkv[:, y, x_, 0] * qkv[:, v, u, 1]).sum(-1) / math.sqrt(channels // heads)
            scores.append(product + bias)
        weights = torch.stack(scores, -1).softmax(-1)  # (B, heads, group)
        values = torch.stack([qkv[:, v, u, 2] for v, u in group], -1)  # (B, heads, d, group)
        out[:, y, x_] = (weights[:, :, None] * values).sum(-1)
    return layer.proj(out.flatten(3))


@pytest.mark.parametrize("lda", ["tiled", "global"])
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("size", [(4, 4), (7, 9), (3, 10), (12, 5), (8, 13)])
def test_group_attention_is_its_definition(lda, far, size):
    torch.manual_seed(0)
    layer = GroupAttention(32, 2, GroupRule(3, 2, far, lda))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, *size, 32)
    torch.testing.assert_close(layer(x), reference_attention(layer, x), rtol=1e-4, atol=1e-5)


def test_plan_of_small_maps():
    assert GroupRule(7, 8, True, "tiled").plan(5, 9) == (5, 9, 1)  # one 9 x 9 group, of which 5 rows exist
    assert GroupRule(7, 8, True, "global").plan(5, 9) == (5, 5, 1)
    assert GroupRule(7, 8, True, "tiled").plan(56, 80) == (7, 7, 8)
    assert GroupRule(7, 8, True, "global").plan(56, 81) == (7, 11, 8)
    assert GroupRule(7, 8, False, "global").plan(56, 81) == (7, 7, 1)
    assert GroupRule(7, "adaptive", True, "tiled").plan(40, 72) == (4, 7, 11)  # 40 rows 11 apart: 4 of 7 exist
    assert GroupRule(7, 1, True, "global").plan(14, 14) == (14, 14, 1)


@pytest.mark.parametrize(
    ("n", "g", "i"), [(12, 3, 2), (13, 3, 2), (11, 7, 4), (5, 7, 1), (3, 2, 5), (29, 3, 4), (1, 1, 1)]
)
def test_split_axis_is_undone_by_merge(n, g, i):
    x = torch.arange(2 * n * 3).view(2, n, 3)
    parts = split_axis(x, 1, g, i)
    assert torch.equal(merge_axis(parts, 1, n, g, i), x)
    assert sum(part[0, ..., 0].numel() for part in parts) == n
    places = torch.cat(
        [part[0, :, :, :, 0].permute(0, 2, 1).reshape(-1, part.shape[2])[:, :1].flatten() for part in parts]
    )
    assert len(places.unique()) == len(places)  # every group starts at a token of its own


@pytest.mark.parametrize("size", [(64, 64), (61, 47), (35, 32), (36, 70)])
def test_space_to_depth_embedding_equals_plain_convolutions(size):
    torch.manual_seed(0)
    embed = CrossScaleEmbedding(3, 32, (4, 8, 16, 32), 4)
    x = torch.randn(2, 3, *size)
    plain = torch.cat([F.conv2d(x, c.weight, c.bias, c.stride, c.padding) for c in embed], 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(embed(x), plain, rtol=1e-4, atol=1e-5)
    assert [c.out_channels for c in embed] == [16, 8, 4, 4]


def test_forward_is_stateless_and_sizes_are_free():
    torch.manual_seed(0)
    model = CrossFormer(TINY).eval()
    large, small = torch.randn(1, 3, 224, 200), torch.randn(1, 3, 40, 33)
    with torch.no_grad():
        before = model(large)
        shapes = [tuple(x.shape[1:]) for x in model(small)]
        after = model(large)
    assert shapes == [(32, 10, 8), (64, 5, 4), (128, 2, 2), (256, 1, 1)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_group_sizes_change_without_touching_weights():
    torch.manual_seed(0)
    trained = CrossFormer(TINY, group_sizes=(7, 7, 7, 7), intervals=(8, 4, 2, 1))
    wide = CrossFormer(TINY, group_sizes=(8, 8, 14, 28), intervals=(16, 8, 4, 1), lda="global")
    wide.load_state_dict(trained.state_dict(), strict=True)
    image = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        a, b = trained.eval()(image), wide.eval()(image)
    assert all(x.shape == y.shape and not torch.allclose(x, y) for x, y in zip(a[:3], b[:3], strict=True))


def test_checkpointing_and_freezing():
    torch.manual_seed(0)
    plain = CrossFormer(TINY, drop_path_rate=0.0)
    saving = CrossFormer(TINY, drop_path_rate=0.0, with_cp=True, frozen_stages=1)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 64)
    for model in (plain, saving):
        sum(x.sum() for x in model.train()(image)).backward()
    frozen = [name for name, parameter in saving.named_parameters() if parameter.grad is None]
    assert frozen and all(name.startswith(("patch_embed.", "layers.0.")) for name in frozen)
    grads = dict(plain.named_parameters())
    for name, parameter in saving.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, grads[name].grad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(arch="smal"), 'unknown arch "smal"; did you mean "small"'),
        (dict(arch=dict(embed_dim=32)), 'no key "embed_dim"; did you mean "embed_dims"'),
        (dict(group_sizes=(7, 7)), r"group_sizes = \(7, 7\) has 2 entries for 4 stages"),
        (
            dict(group_sizes=(7, 7, (7, 7), 7)),
            r"group_sizes\[2\] = \[7, 7\]; expected one positive side for each of 6 blocks",
        ),
        (dict(arch=dict(embed_dims=64)), r"num_heads\[0\] = 3 does not divide embed_dims \* 2\^0 = 64"),
        (dict(lda="tile"), 'lda = "tile"; did you mean "tiled"'),
        (dict(out_indices=(0, 4)), r"out_indices = \(0, 4\); expected increasing stages within 0..3"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        CrossFormer(**arguments)
