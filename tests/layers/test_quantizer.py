"""Choosing codes, learning them, counting them."""

import pytest
import torch
from torch import Tensor

from visionpatch.errors import ConfigError, DataError
from visionpatch.layers.quantizer import SCORES, VectorQuantizer, codebook_usage, nearest_codes


def published(rows: Tensor, codebook: Tensor) -> Tensor:
    """The nearest codes by the published formula."""
    distance = rows.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * rows @ codebook.T
    return distance.argmin(1)


def quantizer(size: int = 16, channels: int = 8, code_channels: int = 1, **kwargs) -> VectorQuantizer:
    torch.manual_seed(0)
    model = VectorQuantizer(size, channels, code_channels, **kwargs)
    model.embedding.weight.data.copy_(torch.randn_like(model.embedding.weight))
    return model


@pytest.mark.parametrize(
    ("number", "size", "width"), [(300, 37, 4), (3, 5, 1), (0, 5, 2), (40, SCORES["cpu"] // 16, 2)]
)
def test_the_nearest_code(number, size, width):
    rows, codebook = torch.randn(number, width).double(), torch.randn(size, width).double()
    assert torch.equal(nearest_codes(rows, codebook), published(rows, codebook))


def test_the_least_of_equally_near_codes():
    codebook = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    rows = torch.tensor([[0.0, 0.0], [0.5, 0.5], [2.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
    assert nearest_codes(rows, codebook).tolist() == [1, 1, 0, 1, 0]
    many = codebook.repeat(1000, 1)
    assert nearest_codes(rows.repeat(100, 1), many).tolist() == [1, 1, 0, 1, 0] * 100


def test_values_short_of_float32_are_compared_in_it():
    rows, codebook = torch.randn(50, 4).bfloat16(), torch.randn(9, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_codes(rows, codebook), published(rows.float(), codebook))


def test_losses_and_gradients_by_hand():
    model = VectorQuantizer(2, 2)
    model.embedding.weight.data.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0]]))
    z = torch.tensor([3.0, 1.0]).view(1, 2, 1, 1).requires_grad_()
    quant, codes, loss = model(z)
    assert codes.tolist() == [[[[1]]]] and quant.flatten().tolist() == [4.0, 0.0]
    assert loss.item() == pytest.approx(1.25)  # mean of 1, 1, once and a quarter
    quant.backward(torch.tensor([5.0, 7.0]).view_as(quant), retain_graph=True)
    assert z.grad.flatten().tolist() == [5.0, 7.0] and model.embedding.weight.grad is None
    z.grad = None
    loss.backward()
    assert z.grad.flatten().tolist() == pytest.approx([-1.0, 1.0])  # commitment, weight 1
    assert model.embedding.weight.grad[1].tolist() == pytest.approx([0.25, -0.25])  # codebook, weight 0.25
    meant = VectorQuantizer(2, 2, legacy=False)
    meant.load_state_dict(model.state_dict())
    z.grad = None
    meant(z)[2].backward()
    assert z.grad.flatten().tolist() == pytest.approx([-0.25, 0.25])
    assert meant.embedding.weight.grad[1].tolist() == pytest.approx([1.0, -1.0])


def test_four_codes_a_point_are_four_searches_in_one_codebook():
    model, z = quantizer(16, 8, 4), torch.randn(2, 8, 3, 5)
    quant, codes, loss = model(z)
    assert codes.shape == (2, 3, 5, 4)
    for c, part in enumerate(z.split(2, 1)):
        rows = part.permute(0, 2, 3, 1).reshape(-1, 2)
        assert torch.equal(codes[..., c].flatten(), published(rows, model.embedding.weight))
    torch.testing.assert_close(quant, model.decode(codes))
    assert loss.item() == pytest.approx(1.25 * (quant - z).square().mean().item(), rel=1e-5)


def test_decode_is_the_table():
    model = quantizer(16, 6, 3)
    codes = torch.randint(16, (2, 4, 5, 3))
    found = model.decode(codes)
    assert found.shape == (2, 6, 4, 5)
    assert torch.equal(found[1, 2:4, 3, 2], model.embedding.weight[codes[1, 3, 2, 1]])
    assert torch.equal(model.encode(found), codes)


@pytest.mark.parametrize(
    ("codes", "text"),
    [
        (torch.full((1, 2, 2, 1), 16), r"code 16 at .* = \(0, 0, 0, 0\) .* 0 to 15"),
        (torch.tensor([0, 3, -1, 2]).view(1, 2, 2, 1), r"code -1 at .* = \(0, 1, 0, 0\)"),
        (torch.zeros(1, 2, 2, dtype=torch.int64), r"expected integers, shape \(B, h, w, 1\)"),
        (torch.zeros(1, 2, 2, 4, dtype=torch.int64), r"shape \(1, 2, 2, 4\)"),
        (torch.zeros(1, 2, 2, 1), "type float32"),
    ],
)
def test_codes_that_are_none(codes, text):
    with pytest.raises(DataError, match=text):
        quantizer().decode(codes)


def test_moving_averages_follow_the_formula():
    model = quantizer(3, 2, ema_decay=0.9).train()
    before, sums = model.embedding.weight.clone(), model.ema_sum.clone()
    z = torch.randn(2, 2, 4, 4)
    quant, codes, loss = model(z)
    rows, chosen = model.rows(z), codes.flatten()
    count = 0.9 + 0.1 * torch.bincount(chosen, minlength=3)
    for k in range(3):
        total = 0.9 * sums[k] + 0.1 * rows[chosen == k].sum(0)
        smoothed = (count[k] + 1e-5) / (count.sum() + 3e-5) * count.sum()
        torch.testing.assert_close(model.embedding.weight[k], total / smoothed)
    torch.testing.assert_close(model.ema_count, count)
    assert loss.item() == pytest.approx((before[chosen] - rows).square().mean().item(), rel=1e-5)  # commitment alone
    assert not list(model.parameters())
    kept = model.embedding.weight.clone()
    model.eval()(z)
    assert torch.equal(model.embedding.weight, kept)


def test_codes_that_nobody_chooses_come_back():
    for decay in (None, 0.5):
        model = quantizer(4, 2, ema_decay=decay, revive_below=0.5).train()
        model.embedding.weight.data.copy_(torch.tensor([[0.0, 0.0], [9.0, 9.0], [99.0, 99.0], [-99.0, 0.0]]))
        if decay:
            model.ema_sum.copy_(model.embedding.weight)
        z = torch.rand(1, 2, 8, 8)
        for _ in range(70):
            model(z)
        assert (model.embedding.weight[2:].abs() <= 1).all()  # vectors of the batch
        assert len(model(z)[1].unique()) > 1


@pytest.mark.parametrize(
    "wrong",
    [dict(code_channels=3), dict(codebook_size=0), dict(ema_decay=1.0), dict(revive_below=-1), dict(code_channels=0)],
)
def test_arguments_out_of_range(wrong):
    with pytest.raises(ConfigError):
        VectorQuantizer(**(dict(codebook_size=4, channels=4) | wrong))
    with pytest.raises(DataError, match="a map of 6 channels"):
        quantizer()(torch.zeros(1, 6, 2, 2))


def test_usage_and_perplexity():
    usage, perplexity = codebook_usage(torch.tensor([5, 0, 5, 0, 5, 5, 0, 0]))
    assert usage.item() == 0.5 and perplexity.item() == pytest.approx(4.0)
    usage, perplexity = codebook_usage(torch.tensor([3, 1]))
    assert usage.item() == 1.0 and perplexity.item() == pytest.approx((4 / 3) ** 0.75 * 4**0.25)
    usage, perplexity = codebook_usage(torch.zeros(4))
    assert (usage.item(), perplexity.item()) == (0.0, 1.0)
