"""Multiply-accumulates against sums done by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.apis import count_macs
from visionpatch.errors import ConfigError


class Attention(nn.Module):
    """A strided convolution, a linear layer, one head of attention of width 8."""

    def __init__(self, on_meta: bool = True) -> None:
        super().__init__()
        self.conv, self.qkv, self.on_meta = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Linear(8, 24), on_meta

    def forward(self, image: Tensor) -> Tensor:
        if image.is_meta and not self.on_meta:
            raise NotImplementedError("reads values")
        tokens = self.qkv(self.conv(image).flatten(2).transpose(1, 2))
        q, k, v = tokens[:, None].chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("on_meta", [True, False])
def test_by_hand(on_meta: bool) -> None:
    """16 x 16 image, 64 tokens: conv 64*8*27, linear 64*8*24, attention 2*64*64*8; also where only the CPU will do."""
    model = Attention(on_meta)
    total, by_module = count_macs(model, (16, 16), by_module=True)
    assert total == 64 * 8 * 27 + 64 * 8 * 24 + 2 * 64 * 64 * 8
    assert by_module["conv"] == 64 * 8 * 27 and by_module["qkv"] == 64 * 8 * 24
    assert model.conv.weight.device == torch.device("cpu")


def test_grouped_convolution_and_channels() -> None:
    assert count_macs(nn.Conv2d(4, 12, 3, padding=1, groups=2), (4, 10, 10)) == 12 * 2 * 9 * 100


class Pieces(nn.Module):
    """Calls the parts of `head`, never the head itself, and `tail` as a whole."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)])
        self.head = nn.ModuleDict({"layers": layers, "last": nn.Conv2d(2, 1, 1)})
        self.tail = nn.Sequential(nn.Conv2d(1, 5, 1))

    def forward(self, image: Tensor) -> Tensor:
        first, second = self.head["layers"]
        return self.tail(self.head["last"](second(first(image))))


def test_a_module_called_by_parts_counts_as_its_parts() -> None:
    total, by_module = count_macs(Pieces(), (1, 10), by_module=True)
    assert total == 10 * (12 + 8 + 2 + 5)
    assert by_module["head.layers"] == 10 * 20 and by_module["head"] == 10 * 22 and by_module["tail"] == 10 * 5


def test_shape() -> None:
    with pytest.raises(ConfigError, match=r"shape = \(0, 4\), expected \(H, W\)"):
        count_macs(nn.Identity(), (0, 4))
