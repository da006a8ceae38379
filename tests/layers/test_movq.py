"""Modulated norms, and the encoder and the decoder of MoVQ."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visionpatch.errors import ConfigError
from visionpatch.layers.movq import MoVQDecoder, MoVQEncoder, Upsample
from visionpatch.layers.spatial_norm import PlainGroupNorm, SpatialNorm

# the published counts: channels, residual blocks, encoder, decoder
COUNTS = [(128, 2, 27_397_764, 40_369_155), (128, 4, 44_260_484, 57_288_195), (256, 2, 109_485_316, 161_118_211)]


def full_form(layer: SpatialNorm, x: Tensor, code: Tensor) -> Tensor:
    """The published form: the code map at full size first."""
    code = F.interpolate(code, x.shape[-2:], mode="nearest")
    code = code if layer.conv is None else layer.conv(code)
    return layer.norm_layer(x) * layer.conv_y(code) + layer.conv_b(code)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("add_conv", [True, False])
@pytest.mark.parametrize(
    ("size", "latent"), [((12, 20), (3, 5)), ((9, 10), (3, 5)), ((7, 5), (4, 3)), ((3, 4), (3, 8))]
)
def test_the_broadcast_form_is_the_full_one(size, latent, affine, add_conv):
    torch.manual_seed(0)
    layer = SpatialNorm(8, 3, num_groups=4, affine=affine, add_conv=add_conv).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x, code = torch.randn(2, 8, *size).double().requires_grad_(), torch.randn(2, 3, *latent).double().requires_grad_()
    ours, theirs = layer(x, code), full_form(layer, x, code)
    torch.testing.assert_close(ours, theirs)
    weights, places = torch.randn_like(ours), [x, code, *layer.parameters()]
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), places) for y in (ours, theirs))):
        torch.testing.assert_close(a, b)


def test_gamma_one_and_beta_zero_is_the_plain_norm():
    layer, plain = SpatialNorm(32, 4), PlainGroupNorm(32)
    for conv, bias in ((layer.conv_y, 1.0), (layer.conv_b, 0.0)):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.constant_(conv.bias, bias)
    x, code = torch.randn(2, 32, 8, 8), torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(layer(x, code), plain(x, code))
    torch.testing.assert_close(plain(x), F.group_norm(x, 32, eps=1e-6))


def test_no_larger_map_than_the_picture_is_kept_for_gamma_and_beta():
    layer, x, code = SpatialNorm(32, 4), torch.randn(1, 32, 64, 64, requires_grad=True), torch.randn(1, 4, 8, 8)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        layer(x, code)
    assert sum(size >= x.numel() for size in sizes) == 2  # the map before and after its norm


@pytest.mark.parametrize(("channels", "depth", "encoder", "decoder"), COUNTS)
def test_numbers_of_parameters(channels, depth, encoder, decoder):
    with torch.device("meta"):
        parts = (
            MoVQEncoder(channels=channels, num_res_blocks=depth),
            MoVQDecoder(channels=channels, num_res_blocks=depth),
        )
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == (encoder, decoder)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (23, 17), (8, 15)])
def test_sides_are_halved_rounding_down_and_doubled(height, width):
    small = dict(channels=8, channel_mult=(1, 2, 2, 4), num_res_blocks=1, num_groups=4, z_channels=3)
    encoder, decoder = MoVQEncoder(**small), MoVQDecoder(code_channels=5, **small)
    latent = encoder(torch.randn(1, 3, height, width))
    rows, columns = height // 8, width // 8
    assert latent.shape == (1, 3, rows, columns)
    assert decoder(latent, torch.randn(1, 5, rows, columns)).shape == (1, 3, 8 * rows, 8 * columns)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 2)])
def test_upsampling_without_the_doubled_map(size):
    torch.manual_seed(0)
    layer, x = Upsample(6).double(), torch.randn(2, 6, *size).double()
    plain = layer(x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain)
    assert plain.shape == (2, 6, 2 * size[0], 2 * size[1])


def test_attention_is_where_it_is_asked_for():
    part = MoVQDecoder(channels=4, channel_mult=(1, 1, 2), num_res_blocks=1, attn_levels=(0, 2), num_groups=2)
    assert [len(level.attn) for level in part.up] == [2, 0, 2]
    assert [level.upsample is None for level in part.up] == [True, False, False]
    assert part.mid.attn_1.q.in_channels == 8


def test_a_batch_is_its_pictures_one_by_one():
    torch.manual_seed(0)
    encoder = MoVQEncoder(channels=8, channel_mult=(1, 2), num_res_blocks=1, attn_levels=(1,), num_groups=4)
    image = torch.randn(3, 3, 12, 8)
    torch.testing.assert_close(encoder(image), torch.cat([encoder(one[None]) for one in image]), rtol=1e-4, atol=1e-5)


def test_groups_that_do_not_fit():
    with pytest.raises(ConfigError, match="a norm of 40 channels in 32 groups"):
        SpatialNorm(40, 4)
    with pytest.raises(ConfigError, match="channels must be a multiple"):
        MoVQEncoder(channels=24)
