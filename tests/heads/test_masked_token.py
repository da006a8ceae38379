"""The masked-token transformer against MaskGIT's forward pass written out, and what it promises with several codes."""

import math

import pytest
import torch
from torch import Tensor

from visionpatch.errors import ConfigError, DataError
from visionpatch.heads import MaskedTokenTransformer
from visionpatch.registry import MODELS

GENERATIVE = {"MaskedTokenTransformer"}  # heads whose contract is checked here
SMALL = dict(codebook_size=11, map_size=(3, 2), channels=16, depth=2, num_heads=4, mlp_channels=24)


def transformer(**kwargs) -> MaskedTokenTransformer:
    torch.manual_seed(0)
    net = MODELS.build(dict(type="MaskedTokenTransformer") | SMALL | kwargs).eval()
    for parameter in net.parameters():  # nothing at a neutral value
        parameter.data += 0.3 * torch.randn_like(parameter)
    return net


def some_codes(batch: int = 2, channels: int = 1, rows: int = 3, high: int = 12) -> Tensor:
    codes = torch.randint(high, (batch, rows, 2, channels), generator=torch.Generator().manual_seed(3))
    codes[:, 1, 1, -1] = high - 1  # with high = 12, hidden
    return codes


def layer_norm(x: Tensor, weights: dict, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def dense(x: Tensor, weights: dict, name: str) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def maskgit(w: dict, table: Tensor, ids: Tensor, depth: int, heads: int) -> Tensor:
    """MaskGIT's network: token ids (B, N) of one table (V, C) -> h E^T (B, N, V), the bias of the vocabulary aside."""
    x = layer_norm(table[ids] + w["positions"], w, "norm")
    batch, tokens, width = x.shape
    for i in range(depth):
        name = f"blocks.{i}"
        q, k, v = (
            part.view(batch, tokens, heads, width // heads).transpose(1, 2)
            for part in dense(x, w, f"{name}.qkv").split(width, -1)
        )
        share = (q @ k.transpose(2, 3) / math.sqrt(width // heads)).softmax(-1)
        mixed = (share @ v).transpose(1, 2).reshape(batch, tokens, width)
        x = layer_norm(x + dense(mixed, w, f"{name}.proj"), w, f"{name}.norm1")
        inner = dense(gelu(dense(x, w, f"{name}.mlp.fc1")), w, f"{name}.mlp.fc2")
        x = layer_norm(x + inner, w, f"{name}.norm2")
    return layer_norm(gelu(dense(x, w, "out_dense")), w, "out_norm") @ table.T


@pytest.mark.parametrize("num_classes", [0, 5])
def test_with_one_code_a_point_it_is_maskgit(num_classes):
    net = transformer(num_classes=num_classes).double()
    codes, w = some_codes(), net.state_dict()
    table, ids = w["tokens.weight"][:11], codes.flatten(1)  # rows of codes, then of classes, the mask the last one
    labels = torch.tensor([4, 1]) if num_classes else None
    if num_classes:
        table = torch.cat([table, w["classes.weight"][:num_classes]])
        ids = torch.where(ids == 11, 11 + num_classes, ids)
        ids = torch.cat([11 + labels[:, None], ids], 1)
    table = torch.cat([table, w["tokens.weight"][11:]])
    expected = maskgit(w, table, ids, 2, 4)[:, num_classes > 0 :, :11] + w["out_bias"]
    assert (codes == 11).any() and len(table) == 12 + num_classes
    assert w["positions"].shape[0] == 6 + (num_classes > 0)
    torch.testing.assert_close(net(codes, labels).flatten(1, 3), expected, rtol=1e-9, atol=1e-9)


def test_several_codes_share_a_table_and_a_token():
    net = transformer(code_channels=4, map_size=(4, 2)).double()
    codes, w = some_codes(channels=4, rows=4), net.state_dict()
    assert w["tokens.weight"].shape == (12, 4) and w["out_bias"].shape == (4, 11)
    # as one code a point whose vector is the four put together: tables of the vectors that occur, scored part by part
    joined = w["tokens.weight"][codes].reshape(2 * 8, 16)
    plain = maskgit(w, joined, torch.arange(16).view(2, 8), 2, 4) @ joined.pinverse().T  # back to what was compared
    expected = torch.einsum("bncd,kd->bnck", plain.view(2, 8, 4, 4), w["tokens.weight"][:11]) + w["out_bias"]
    assert torch.linalg.matrix_rank(joined) == 16
    torch.testing.assert_close(net(codes).flatten(1, 2), expected, rtol=1e-7, atol=1e-7)
    assert net(codes).shape == (2, 4, 2, 4, 11)


def test_every_token_sees_every_other_and_a_batch_is_its_parts():
    net, codes = transformer(code_channels=2), some_codes(channels=2)
    torch.testing.assert_close(net(codes)[1:], net(codes[1:]), rtol=1e-5, atol=1e-6)
    changed = codes.clone()
    changed[0, 2, 1, 1] = (changed[0, 2, 1, 1] + 1) % 12
    difference = (net(changed) - net(codes)).abs().amax(-1)
    assert (difference[0] > 1e-6).all() and (difference[1] < 1e-5).all()


def test_no_class_is_a_class_of_its_own():
    net, codes = transformer(num_classes=3), some_codes()
    assert torch.equal(net(codes), net(codes, torch.tensor([3, 3])))
    logits = [net(codes, torch.full((2,), label)) for label in range(4)]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(logits) for b in logits[:i])


def test_the_weights_at_the_start():
    net = MaskedTokenTransformer(codebook_size=500, map_size=(16, 16), channels=64, depth=1, num_heads=4, num_classes=9)
    for name, parameter in net.named_parameters():
        if "norm" in name and name.endswith("weight"):
            assert (parameter == 1).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:  # a normal distribution cut at two deviations keeps 0.8796 of its deviation
            assert parameter.abs().max() <= 0.04, name
            assert parameter.std().item() == pytest.approx(0.02 * 0.8796, rel=0.1), name
            assert abs(parameter.mean().item()) < 0.004, name


def test_the_published_shape_counts_its_parameters():
    with torch.device("meta"):
        net = MaskedTokenTransformer(codebook_size=1024, map_size=(16, 16), num_classes=1000)
    block = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 768 + 3072 + 4 * 768
    rows = 1024 + 1 + 1000 + 1 + 257  # one row, no class, is ours
    expected = 24 * block + rows * 768 + 2 * 768 + 768 * 768 + 768 + 2 * 768 + 1024
    assert sum(p.numel() for p in net.parameters()) == expected == 172_456_960


def test_the_loss_counts_hidden_codes_only_and_smooths():
    net, codes = transformer(code_channels=2, num_classes=2), some_codes(channels=2, high=11)
    labels = torch.tensor([1, 0])
    hidden = torch.zeros_like(codes, dtype=torch.bool)
    hidden[0, 1, 0, 1] = hidden[1, 2, 1, 0] = hidden[1, 0, 0, 0] = True
    shown = torch.where(hidden, 11, codes)
    log_p = net(shown, labels)[hidden].log_softmax(-1)  # (3, 11)
    target = codes[hidden]
    weights = torch.full((3, 11), 0.1 / 11).scatter_add(1, target[:, None], torch.full((3, 1), 0.9))
    found = net.loss(codes, hidden, labels, label_smoothing=0.1)
    torch.testing.assert_close(found["loss_token"], -(weights * log_p).sum(1).mean())
    assert found["accuracy"].item() == pytest.approx((log_p.argmax(1) == target).float().mean().item())
    other = torch.where(hidden, (codes + 1) % 11, codes)  # the network never sees the hidden codes
    assert torch.equal(other == codes, ~hidden)
    plain = net.loss(codes, hidden, labels, 0.0)["loss_token"]
    torch.testing.assert_close(plain, -log_p.gather(1, target[:, None]).mean())


def test_gradients_reach_every_parameter():
    net = transformer(code_channels=2, num_classes=2).train()
    codes, hidden = some_codes(channels=2, high=11), torch.rand(2, 3, 2, 2) < 0.6
    net.loss(codes, hidden, torch.tensor([0, 2]))["loss_token"].backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_dropout_acts_in_training_only():
    net, codes = transformer(dropout=0.5), some_codes()
    assert torch.equal(net(codes), net(codes))
    net.train()
    assert not torch.equal(net(codes), net(codes))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (dict(map_size=(3,)), "map_size = .3,.; expected rows and columns"),
        (dict(map_size=(3, 0)), "expected rows and columns"),
        (dict(code_channels=3), "channels = 16; expected a multiple of code_channels = 3"),
        (dict(num_heads=5), "num_heads = 5"),
        (dict(depth=0), "sizes must be positive"),
        (dict(num_classes=-1), "num_classes 0 or more"),
        (dict(dropout=1.0), "dropout = 1.0; expected 0 to below 1"),
    ],
)
def test_arguments_out_of_range(wrong, text):
    with pytest.raises(ConfigError, match=text):
        transformer(**wrong)


def test_inputs_that_do_not_fit():
    net, plain, codes = transformer(num_classes=3), transformer(), some_codes()
    for wrong in (12, -1):
        bad = codes.clone()
        bad[1, 2, 0, 0] = wrong
        with pytest.raises(DataError, match=rf"code {wrong} at .* = \(1, 2, 0, 0\) .*; codes run from 0 to 10"):
            net(bad)
    for bad in (codes.float(), codes[..., 0], codes.expand(-1, -1, -1, 2)):
        with pytest.raises(DataError, match=r"expected integers, shape \(B, h, w, 1\)"):
            net(bad)
    with pytest.raises(DataError, match=r"maps of 2 x 2 codes .* map_size = \(3, 2\)"):
        net(codes[:, :2])
    for label in (4, -1):
        with pytest.raises(DataError, match=f"label {label}; classes run from 0 to 2"):
            net(codes, torch.tensor([0, label]))
    for bad in (torch.tensor([0]), torch.tensor([0.0, 1.0])):
        with pytest.raises(DataError, match=r"expected int64, shape \(2,\)"):
            net(codes, bad)
    with pytest.raises(DataError, match="num_classes = 0; leave them out"):
        plain(codes, torch.tensor([0, 1]))
