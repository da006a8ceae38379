"""What every backbone must do. `test_contract.py` runs it over all registered ones."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

SIZES = ((64, 64), (33, 47), (97, 61), (96, 160))  # (H, W)


class BackboneContract:
    """Tests against the fixture `build`: a function of no or some keyword arguments that gives a small backbone."""

    @pytest.fixture(autouse=True)
    def _seed(self):
        torch.manual_seed(0)

    @pytest.mark.parametrize("size", SIZES)
    def test_maps_are_what_is_published(self, build: Callable[..., nn.Module], size: tuple[int, int]):
        net = build().eval()
        maps = net(images(2, *size))
        assert isinstance(maps, tuple)
        assert isinstance(net.out_channels, tuple)
        assert isinstance(net.out_strides, tuple)
        assert len(maps) == len(net.out_channels) == len(net.out_strides)
        assert sorted(net.out_strides) == list(net.out_strides)
        for x, channels, stride in zip(maps, net.out_channels, net.out_strides):
            assert x.shape[:2] == (2, channels)
            for side, given in zip(x.shape[2:], size):
                assert side in {given // stride, math.ceil(given / stride)}
            assert x.isfinite().all()
            assert x.std() > 0

    @pytest.mark.parametrize("size", SIZES[:2])
    def test_a_batch_of_one_equals_a_batch_of_n(self, build: Callable[..., nn.Module], size: tuple[int, int]):
        net, batch = build().eval(), images(3, *size)
        whole = net(batch)
        for i in range(3):
            same(net(batch[i : i + 1]), tuple(x[i : i + 1] for x in whole), 1e-5)

    @torch.no_grad()
    def test_a_call_leaves_nothing_behind(self, build: Callable[..., nn.Module]):
        net, image = build().eval(), images(1, 64, 64)
        state = {key: value.clone() for key, value in net.state_dict().items()}
        first = net(image)
        same(net(image), first, 0)
        net(images(2, 97, 61))
        same(net(image), first, 0)
        assert list(net.state_dict()) == list(state)
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())

    @torch.no_grad()
    def test_memory_format_does_not_matter(self, build: Callable[..., nn.Module]):
        net, image = build().eval(), images(2, 64, 48)
        expected = net(image)
        same(net.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last)), expected, 1e-5)

    def test_every_parameter_gets_a_gradient(self, build: Callable[..., nn.Module]):
        net = build().train()
        sum(x.square().mean() for x in net(images(2, 97, 61))).backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    @torch.no_grad()
    def test_double_precision(self, build: Callable[..., nn.Module]):
        net, image = build().eval(), images(1, 64, 48)
        single = net(image)
        double = net.double()(image.double())
        assert {x.dtype for x in double} == {torch.float64}
        same(tuple(x.float() for x in double), single, 1e-4)

    @torch.no_grad()
    def test_state_dict_round_trip(self, build: Callable[..., nn.Module]):
        net, image = build().eval(), images(1, 64, 48)
        torch.manual_seed(1)
        other = build().eval()
        assert not all(torch.equal(a, b) for a, b in zip(net(image), other(image)))
        other.load_state_dict(net.state_dict(), strict=True)
        same(other(image), net(image), 0)

    def test_an_unknown_argument_raises(self, build: Callable[..., nn.Module]):
        with pytest.raises(TypeError, match="no_such_argument"):
            build(no_such_argument=1)

    @torch.no_grad()
    def test_compiles_without_a_graph_break(self, build: Callable[..., nn.Module]):
        net, image = build().eval(), images(1, 64, 64)
        torch._dynamo.reset()
        same(torch.compile(net, fullgraph=True, backend="eager")(image), net(image), 1e-5)


def images(batch: int, height: int, width: int) -> Tensor:
    """Normal noise (B, 3, H, W), the same for the same arguments."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(7))


def same(given: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float) -> None:
    """Every map within `tolerance` times the largest magnitude of the expected one."""
    assert len(given) == len(expected)
    for x, y in zip(given, expected):
        assert x.shape == y.shape
        assert (x - y).abs().max().item() <= tolerance * y.abs().max().item()
