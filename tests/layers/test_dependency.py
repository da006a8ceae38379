"""Sums and maps of soft dependency masks."""

import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.layers.dependency import DependencyInfo


def info() -> DependencyInfo:
    """Three blocks over a grid of 1 x 3; the last has lost token 1."""
    masks = [torch.full((1, 3, 3), 1.0), torch.full((1, 3, 3), 2.0), torch.full((1, 2, 2), 4.0)]
    messages = [torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[0.8, 0.2, 0.6]]), torch.tensor([[0.4, 0.6]])]
    return DependencyInfo((1, 3), masks, messages, [None, None, torch.tensor([[0, 2]])])


def test_totals_count_pruned_tokens_as_nothing():
    whole = torch.tensor([[[7.0, 3, 7], [3, 3, 3], [7, 3, 7]]])
    assert torch.equal(info().total(), whole)
    assert torch.allclose(info().total("mean"), whole / 3)
    assert torch.equal(info().total("last"), whole - 3)
    assert torch.equal(info().total([0]), torch.ones(1, 3, 3))
    assert torch.equal(info().received(), whole.sum(2))


def test_saliency_is_the_message_of_late_blocks():
    assert torch.allclose(info().message_map(), torch.tensor([[0.6, 0.1, 0.6]]))  # of the last two of three
    assert torch.allclose(info().saliency(), torch.tensor([[[1.0, 0.0, 1.0]]]))
    assert torch.allclose(info().saliency(by="received"), torch.tensor([[[1.0, 0.0, 1.0]]]))
    large = info().saliency((4, 12))
    assert large.shape == (1, 4, 12) and large.min() >= 0 and large.max() <= 1


def test_a_constant_map_is_zero():
    flat = DependencyInfo((1, 2), [torch.ones(1, 2, 2)], [torch.ones(1, 2)], [None])
    assert torch.equal(flat.saliency(), torch.zeros(1, 1, 2))


def test_wrong_words():
    with pytest.raises(ConfigError, match='did you mean "sum"'):
        info().total("sun")
    with pytest.raises(ConfigError, match=r"there are the blocks 0..2"):
        info().total([3])
    with pytest.raises(ConfigError, match='did you mean "message"'):
        info().saliency(by="messages")
