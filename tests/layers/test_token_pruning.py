"""Dropping tokens, and finding them again."""

import pytest
import torch

from visionpatch.layers.token_pruning import LiveTokens, kept_tokens, scattered, tokens_left


@pytest.mark.parametrize(
    ("total", "expected"), [(196, [196, 164, 133, 101, 70]), (100, [100, 84, 68, 52, 36]), (1, [1] * 5)]
)
def test_what_is_left_of_a_picture(total: int, expected: list[int]):
    assert [tokens_left(total, 0.16, times) for times in range(5)] == expected


def test_the_best_are_kept_in_their_order_and_the_first_of_equal_ones():
    score = torch.tensor([[0.1, 0.9, 0.5, 0.5, 0.5], [3.0, 2, 1, 0, -1]])
    assert kept_tokens(score, 3).tolist() == [[1, 2, 3], [0, 1, 2]]
    assert kept_tokens(torch.ones(1, 6), 4).tolist() == [[0, 1, 2, 3]]


def marked(batch: int = 2, total: int = 12) -> LiveTokens:
    """Tokens that hold their own number."""
    x = torch.arange(total, dtype=torch.float32).view(1, -1, 1).expand(batch, -1, 3).clone()
    return LiveTokens(x, torch.ones(batch, total), None, keep_dropped=True)


def test_every_token_returns_to_its_place():
    generator = torch.Generator().manual_seed(0)
    live = marked()
    for count in (9, 6, 2):
        live.prune(torch.rand(live.message.shape, generator=generator), count)
        assert live.x.shape == (2, count, 3) and live.index.shape == (2, count)
        assert (live.index.diff(dim=1) > 0).all()
        assert torch.equal(live.x[..., 0].long(), live.index)
        assert torch.equal(live.restored()[..., 0], torch.arange(12.0).expand(2, -1))
        assert torch.equal(live.alive().sum(1), torch.full((2,), count))


def test_a_dropped_token_keeps_its_last_value():
    live = marked(batch=1)
    live.prune(torch.arange(12.0)[None], 8)  # 0..3 go
    live.x = live.x + 100
    live.prune(torch.arange(8.0)[None], 5)  # 4..6 go
    live.x = live.x + 100
    assert live.restored()[0, :, 0].tolist() == [0, 1, 2, 3, 104, 105, 106, 207, 208, 209, 210, 211]


def test_gradients_reach_dropped_and_live_tokens():
    x = torch.randn(2, 8, 3, requires_grad=True)
    live = LiveTokens(x, torch.rand(2, 8), None, keep_dropped=True)
    live.prune(live.message, 3)
    live.x = 2 * live.x
    live.restored().sum().backward()
    assert torch.equal(x.grad, torch.ones(2, 8, 3) + live.alive().unsqueeze(-1))


def test_nothing_happens_when_all_stay():
    live = marked()
    before = live.x
    live.prune(torch.rand(2, 12), 12)
    assert live.x is before and live.index is None


def test_scattering():
    index = torch.tensor([[0, 2], [1, 2]])
    assert scattered(torch.tensor([[5.0, 6], [7, 8]]), index, 3).tolist() == [[5, 0, 6], [0, 7, 8]]
    square = scattered(torch.tensor([[[1.0, 2], [3, 4]]]), index[:1], 3)
    assert square.tolist() == [[[1, 0, 2], [0, 0, 0], [3, 0, 4]]]
