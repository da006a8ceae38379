"""Reversed attention: conservation, direction, reductions, equal forms, gradients, and what only it can learn."""

import math

import pytest
import torch
from torch import Tensor, nn

from visionpatch.layers.reversed_attention import (
    Flow,
    ReversedAttention,
    dependency_mask,
    received_mass,
    reversed_attention,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def flow(n: int = 19, heads: int = 3, scale: float = 1.0, barred: Tensor | None = None, batch: int = 2) -> Flow:
    """Random queries, keys and gates of `batch` images with `n` tokens."""
    q, k = (scale * torch.randn(batch, heads, n, 8) for _ in range(2))
    return Flow(q, k, torch.rand(batch, heads, n), barred)


def some_barred(n: int = 19) -> Tensor:
    barred = torch.zeros(2, n, dtype=torch.bool)
    barred[0, n - 4 :] = barred[1, n // 2] = True
    return barred


def layer(dim: int = 24, heads: int = 3, **options) -> ReversedAttention:
    made = ReversedAttention(dim, heads, **options)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


class TestConservation:
    @torch.no_grad()
    def test_a_sender_gives_its_message_and_no_more(self):
        attention = layer()
        _, message, sent = attention(torch.randn(2, 19, 24), torch.rand(2, 19))
        mask = dependency_mask(sent, chunk_size=5)
        assert (mask.sum(1) - message).abs().max() < 1e-6  # over recipients
        assert (mask.sum((1, 2)) - message.sum(1)).abs().max() < 1e-5
        assert (mask.sum(2).mean(1) - message.mean(1)).abs().max() < 1e-6
        assert (received_mass(sent) - mask.sum(2)).abs().max() < 1e-5

    @torch.no_grad()
    def test_what_is_received_is_free(self):
        """Fails with the softmax over the senders."""
        sent = flow(scale=10.0)._replace(gate=torch.full((2, 3, 19), 1 / 3))
        received = dependency_mask(sent).sum(2)
        assert received.max() / received.mean() > 1.01 and received.min() / received.mean() < 0.99


class TestDirection:
    ONE_WAY = torch.tensor([[0.0, 30, 0], [0, 0, 30], [0, 0, 30]])  # 0 -> 1 -> 2 -> 2

    def hand_case(self) -> Flow:
        """A^F = [[0, 1, 0], [0, 0, 1], [0, 0, 1]]."""
        q = math.sqrt(3) * self.ONE_WAY.view(1, 1, 3, 3)
        return Flow(q, torch.eye(3).view(1, 1, 3, 3), torch.ones(1, 1, 3), None)

    @pytest.mark.parametrize("form", ["dense", "chunked", "fused"])
    def test_values_move_from_child_to_parent(self, form: str):
        y = reversed_attention(self.hand_case(), torch.eye(3).view(1, 1, 3, 3), form)[0, 0]
        expected = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]])
        assert (y - expected).abs().max() < 1e-6

    def test_forward_attention_gathers_instead(self):
        attention = ReversedAttention(3, 1, direction="forward", tau=1.0, qkv_bias=False)
        reverse = ReversedAttention(3, 1, tau=1.0)
        weight = torch.cat([math.sqrt(3) * self.ONE_WAY.T, torch.eye(3), torch.eye(3)])
        for made in (attention, reverse):
            made.qkv.weight.data.copy_(weight)
            made.proj.weight.data.copy_(torch.eye(3))
            nn.init.zeros_(made.proj.bias)
            nn.init.zeros_(made.message_controller.fc2.weight)
            nn.init.constant_(made.message_controller.fc2.bias, 40.0)
        x, message = torch.eye(3)[None], torch.ones(1, 3)
        assert (attention(x, message)[0] - torch.eye(3)[[1, 2, 2]]).abs().max() < 1e-5
        assert (reverse(x, message)[0] - torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]])).abs().max() < 1e-5


class TestReductions:
    def test_one_head_open_gates_is_the_transpose(self):
        sent = flow(heads=1)._replace(gate=torch.ones(2, 1, 19))
        v = torch.randn(2, 1, 19, 8)
        weights = (sent.q @ sent.k.mT / math.sqrt(8)).softmax(-1)
        assert (reversed_attention(sent, v) - weights.mT @ v).abs().max() < 1e-5

    def test_equal_scores_give_everyone_the_mean(self):
        sent = flow()._replace(q=torch.zeros(2, 3, 19, 8), gate=torch.ones(2, 3, 19))
        v = torch.randn(2, 3, 19, 8)
        assert (reversed_attention(sent, v) - v.mean(2, keepdim=True)).abs().max() < 1e-6

    def test_a_permutation_moves_tokens_and_mixes_nothing(self):
        order = torch.randperm(19)
        q = 100 * torch.eye(19)[order].view(1, 1, 19, 19)  # sender s to recipient order[s]
        sent = Flow(q, torch.eye(19).view(1, 1, 19, 19), torch.ones(1, 1, 19), None)
        v = torch.randn(1, 1, 19, 4)
        assert (reversed_attention(sent, v)[:, :, order] - v).abs().max() < 1e-5

    @torch.no_grad()
    def test_a_hot_selector_shares_evenly(self):
        attention, x = layer(tau=1e6), torch.randn(1, 19, 24)
        _, message, sent = attention(x, torch.ones(1, 19))
        assert (sent.gate - message[:, None] / 3).abs().max() < 1e-6
        cold = layer(tau=1e-6)(x, torch.ones(1, 19))[2]
        assert (cold.gate.amax(1) - cold.gate.sum(1)).abs().max() < 1e-6  # one head each

    @torch.no_grad()
    def test_a_silent_token_sends_nothing_and_still_receives(self):
        message = torch.ones(1, 19)
        message[0, 4] = 0.0
        mask = dependency_mask(layer()(torch.randn(1, 19, 24), message)[2])
        assert mask[0, :, 4].abs().max() == 0.0
        assert mask[0, 4].sum() > 0.01

    @torch.no_grad()
    def test_messages_never_grow(self):
        attention, x, message = layer(), torch.randn(2, 19, 24), torch.rand(2, 19)
        after = attention(x, message)[1]
        assert (after <= message).all() and after.min() >= 0
        nn.init.constant_(attention.message_controller.fc2.bias, 1e4)
        assert torch.equal(attention(x, message)[1], message)

    @torch.no_grad()
    def test_order_of_tokens_does_not_matter(self):
        attention, x, message, order = layer(), torch.randn(2, 19, 24), torch.rand(2, 19), torch.randperm(19)
        y, _, sent = attention(x, message)
        z, _, permuted = attention(x[:, order], message[:, order])
        assert (z - y[:, order]).abs().max() < 1e-6
        assert (dependency_mask(permuted) - dependency_mask(sent)[:, order][:, :, order]).abs().max() < 1e-6


class TestForms:
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize(("form", "chunk"), [("chunked", 7), ("chunked", None), ("chunked", 100), ("fused", None)])
    @pytest.mark.parametrize("scale", [1.0, 8.0])
    def test_every_form_equals_the_dense_one(self, form: str, chunk: int | None, masked: bool, scale: float):
        sent, v = flow(scale=scale, barred=some_barred() if masked else None), torch.randn(2, 3, 19, 8)
        expected = reversed_attention(sent, v, "dense")
        given = reversed_attention(sent, v, form, chunk)
        assert (given - expected).abs().max() < 1e-5 * expected.abs().max()

    @pytest.mark.parametrize(("form", "chunk"), [("chunked", 7), ("fused", None)])
    @pytest.mark.parametrize("masked", [False, True])
    def test_gradients_are_equal(self, form: str, chunk: int | None, masked: bool):
        sent, v = flow(barred=some_barred() if masked else None), torch.randn(2, 3, 19, 8, requires_grad=True)
        leaves = [x.requires_grad_() for x in sent[:3]] + [v]
        expected = torch.autograd.grad(reversed_attention(sent, v, "dense").sin().sum(), leaves)
        given = torch.autograd.grad(reversed_attention(sent, v, form, chunk).sin().sum(), leaves)
        for x, y in zip(given, expected):
            assert (x - y).abs().max() < 1e-5 * y.abs().max()

    @pytest.mark.parametrize("form", ["dense", "chunked", "fused"])
    def test_barred_tokens_are_as_if_absent(self, form: str):
        """They receive nothing; with gates of 0 they send nothing either, and the rest is that of the shorter image."""
        barred = torch.zeros(2, 19, dtype=torch.bool)
        barred[:, 13:] = True
        sent, v = flow(barred=barred), torch.randn(2, 3, 19, 8)
        sent = sent._replace(gate=sent.gate * ~barred[:, None])
        y = reversed_attention(sent, v, form)
        assert y[:, :, 13:].abs().max() == 0
        short = Flow(sent.q[:, :, :13], sent.k[:, :, :13], sent.gate[:, :, :13], None)
        assert (y[:, :, :13] - reversed_attention(short, v[:, :, :13], "dense")).abs().max() < 1e-5
        mask = dependency_mask(sent)
        assert mask[:, 13:].abs().max() == 0 == mask[:, :, 13:].abs().max()

    @pytest.mark.parametrize("form", ["dense", "chunked", "fused"])
    def test_scores_far_apart(self, form: str):
        """Differences of hundreds between scores overflow an exponential that is not shifted."""
        sent, v = flow(scale=20.0), torch.randn(2, 3, 19, 8)
        double = reversed_attention(Flow(*(x.double() for x in sent[:3]), None), v.double(), "dense")
        assert (reversed_attention(sent, v, form) - double).abs().max() < 1e-4 * double.abs().max()

    def test_autocast_keeps_the_sums_in_float32(self):
        attention, x = layer(), torch.randn(2, 19, 24)
        expected = attention(x, torch.ones(2, 19))[0]
        with torch.autocast("cpu", torch.bfloat16):
            y, message, sent = attention(x, torch.ones(2, 19))
        assert message.dtype == sent.gate.dtype == sent.q.dtype == torch.float32
        assert y.isfinite().all() and (y - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("form", ["dense", "chunked", "fused"])
def test_gradients_by_finite_differences(form: str):
    """Through A^F, P and M at once."""
    attention = layer(dim=6, heads=2, form=form, chunk_size=2 if form == "chunked" else None).double()
    names = [name for name, _ in attention.named_parameters()]
    values = tuple(p.detach().requires_grad_() for p in attention.parameters())
    x = torch.randn(1, 5, 6, dtype=torch.float64, requires_grad=True)
    message = torch.rand(1, 5, dtype=torch.float64, requires_grad=True)

    def call(x: Tensor, message: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.functional_call(attention, dict(zip(names, parameters)), (x, message))[:2]

    assert torch.autograd.gradcheck(call, (x, message, *values), fast_mode=True)


def planted(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (B, 12, 36) that name their parent, parents (B, 12), and the sum of their children's values (B, 12, 4)."""
    n = 12
    codes = torch.nn.functional.normalize(torch.randn(batch, n, 16, generator=generator), dim=-1)
    parent = torch.randint(0, n - 1, (batch, n), generator=generator)
    parent = parent + (parent >= torch.arange(n))  # never itself
    values = torch.randn(batch, n, 4, generator=generator)
    named = codes.gather(1, parent[..., None].expand(-1, -1, 16))
    target = torch.zeros(batch, n, 4).scatter_add_(1, parent[..., None].expand(-1, -1, 4), values)
    return torch.cat([4 * codes, 4 * named, values], -1), parent, target


def learn(direction: str, steps: int) -> tuple[float, float]:
    """Mean squared error and share of parents found after training on planted dependencies."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    attention, readout = ReversedAttention(36, 3, direction=direction), nn.Linear(36, 4)
    optimizer = torch.optim.Adam([*attention.parameters(), *readout.parameters()], lr=3e-3)
    for _ in range(steps):
        x, _, target = planted(64, generator)
        loss = (readout(attention(x, torch.ones(64, 12))[0]) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        x, parent, target = planted(512, generator)
        y, _, sent = attention(x, torch.ones(512, 12))
        found = (dependency_mask(sent).argmax(1) == parent).float().mean()
        return (readout(y) - target).square().mean().item(), found.item()


def test_planted_dependencies_are_found_by_reversed_attention_only():
    """A sum over children cannot be formed by weights that sum to 1 over those a token looks at."""
    error, found = learn("reversed", 300)
    assert error < 0.03 and found > 0.98
    error, _ = learn("forward", 300)
    assert error > 0.15
