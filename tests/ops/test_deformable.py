import pytest
import torch
import torch.nn.functional as F

from visionpatch.errors import ConfigError
from visionpatch.ops import deform_conv2d, modulated_deform_conv2d, multi_scale_deformable_attn, point_sample

from .naive import at, attention, deform_conv

# stride, padding, dilation, groups, deform_groups, kernel
FORMS = [
    ((1, 1), (1, 1), (1, 1), 1, 1, (3, 3)),
    ((2, 1), (1, 0), (1, 2), 2, 4, (3, 2)),
    ((1, 2), (0, 3), (1, 1), 4, 2, (1, 1)),
    ((1, 1), (2, 2), (2, 2), 1, 2, (3, 3)),
]


def tensors(form, spread, shape=(6, 7), batch=2, dtype=torch.float64):
    stride, padding, dilation, groups, deform_groups, kernel = form
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 4, *shape, generator=generator, dtype=dtype)
    weight = torch.randn(4, 4 // groups, *kernel, generator=generator, dtype=dtype)
    size = F.conv2d(image, weight, None, stride, padding, dilation, groups).shape[2:]
    taps = kernel[0] * kernel[1] * deform_groups
    offset = torch.randn(batch, 2 * taps, *size, generator=generator, dtype=dtype) * spread
    mask = torch.rand(batch, taps, *size, generator=generator, dtype=dtype)
    return image, offset, mask, weight, torch.randn(4, generator=generator, dtype=dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_deform_conv_is_the_loop(form, spread):
    image, offset, mask, weight, bias = tensors(form, spread, batch=1)
    expected = deform_conv(image, offset, None, weight, *form[:5])
    assert torch.allclose(deform_conv2d(image, offset, weight, *form[:5]), expected, rtol=0, atol=1e-10)
    expected = deform_conv(image, offset, mask, weight, *form[:5]) + bias.view(-1, 1, 1)
    ours = modulated_deform_conv2d(image, offset, mask, weight, bias, *form[:5])
    assert torch.allclose(ours, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(6, 7), (9, 5), (3, 3)])
def test_without_offsets_it_is_a_convolution(form, shape):
    image, offset, mask, weight, bias = tensors(form, 0.0, shape)
    expected = F.conv2d(image, weight, None, *form[:4])
    assert torch.allclose(deform_conv2d(image, offset, weight, *form[:5]), expected, rtol=0, atol=1e-12)
    ours = modulated_deform_conv2d(image, offset, mask * 0 + 1, weight, bias, *form[:5])
    assert torch.allclose(ours, expected + bias.view(-1, 1, 1), rtol=0, atol=1e-12)


def test_whole_offsets_shift_the_map():
    image, offset, _, weight, _ = tensors(FORMS[0], 0.0)
    offset = offset + torch.tensor([1.0, -2.0], dtype=torch.float64).repeat(9).view(1, 18, 1, 1)
    shifted = F.pad(image, (2, 0, 0, 1))[:, :, 1:, :7]
    inside = (slice(None), slice(None), slice(1, 4), slice(1, 6))
    expected = F.conv2d(shifted, weight, padding=1)[inside]
    assert torch.allclose(deform_conv2d(image, offset, weight, 1, 1)[inside], expected, atol=1e-12)


def test_offsets_far_outside_give_zeros_without_gradient():
    image, offset, _, weight, _ = tensors(FORMS[0], 0.0)
    for value in (1e9, -1e9, float("inf"), float("nan")):
        far = torch.full_like(offset, value).requires_grad_()
        out = deform_conv2d(image, far, weight, 1, 1)
        assert torch.equal(out, torch.zeros_like(out))
        assert torch.equal(torch.autograd.grad(out.sum(), far)[0], torch.zeros_like(far))


def test_zero_offsets_get_the_gradient_towards_the_next_pixel():
    """At whole positions interpolation has a kink; a tap in the padding, a pixel outside, gets none."""
    image = torch.arange(12.0).view(1, 1, 3, 4) ** 2
    offset = torch.zeros(1, 2, 5, 6, requires_grad=True)
    deform_conv2d(image, offset, torch.ones(1, 1, 1, 1), 1, 1).sum().backward()
    padded = F.pad(image, (0, 1, 0, 1))[0, 0]
    assert torch.equal(offset.grad[0, 0, 1:4, 1:5], padded[1:, :4] - padded[:3, :4])
    assert torch.equal(offset.grad[0, 1, 1:4, 1:5], padded[:3, 1:] - padded[:3, :4])
    assert (offset.grad[0, :, 0] == 0).all() and (offset.grad[0, :, :, 0] == 0).all()


@pytest.mark.parametrize("form", FORMS[:2])
def test_gradients_of_deform_conv(form):
    inputs = [x.requires_grad_() for x in tensors(form, 1.3, shape=(3, 3), batch=1)]
    image, offset, _, weight, _ = inputs
    assert torch.autograd.gradcheck(lambda *x: deform_conv2d(*x, *form[:5]), (image, offset, weight))
    assert torch.autograd.gradcheck(lambda *x: modulated_deform_conv2d(*x, *form[:5]), inputs)


def test_an_empty_batch_of_deform_conv():
    image, offset, mask, weight, bias = tensors(FORMS[0], 1.0)
    assert deform_conv2d(image[:0], offset[:0], weight, 1, 1).shape == (0, 4, 6, 7)
    assert modulated_deform_conv2d(image[:0], offset[:0], mask[:0], weight, bias, 1, 1).shape == (0, 4, 6, 7)


WRONG_CONV = [
    (dict(input=torch.zeros(4, 5, 5)), r"input \(4, 5, 5\)"),
    (dict(offset=torch.zeros(1, 18, 5, 5)), r"offset of shape \(1, 18, 5, 5\) given; expected \(1, 18, 3, 3\)"),
    (dict(deform_groups=3), "groups=1 and deform_groups=3 for 4 channels"),
    (dict(groups=2), r"groups=2 and deform_groups=1 for 4 channels and a weight of shape \(2, 4, 3, 3\) do not fit"),
    (dict(dilation=3), r"the map \(5, 5\) is too small for the kernel \(3, 3\)"),
    (dict(bias=True), "has no bias"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_CONV)
def test_errors_of_deform_conv(change, message):
    arguments = dict(input=torch.zeros(1, 4, 5, 5), offset=torch.zeros(1, 18, 3, 3), weight=torch.zeros(2, 4, 3, 3))
    with pytest.raises(ConfigError, match=message):
        deform_conv2d(**{**arguments, **change})


def test_errors_of_the_modulated_form():
    image, offset, mask, weight, bias = tensors(FORMS[0], 1.0)
    with pytest.raises(ConfigError, match=r"modulated_deform_conv2d: mask of shape \(2, 8, 6, 7\) given"):
        modulated_deform_conv2d(image, offset, mask[:, :8], weight, bias, 1, 1)
    with pytest.raises(ConfigError, match=r"bias of shape \(3,\) given; expected \(4,\)"):
        modulated_deform_conv2d(image, offset, mask, weight, bias[:3], 1, 1)


SHAPES = torch.tensor([[3, 4], [2, 2], [1, 1]])


def attention_inputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 17, 2, 3, generator=generator, dtype=dtype)
    locations = torch.rand(2, 3, 2, 3, 2, 2, generator=generator, dtype=dtype) * 1.6 - 0.3
    weights = torch.rand(2, 3, 2, 3, 2, generator=generator, dtype=dtype)
    return value, locations, weights


def test_deformable_attention_is_the_loop():
    value, locations, weights = attention_inputs()
    ours = multi_scale_deformable_attn(value, SHAPES, locations, weights)
    assert ours.shape == (2, 3, 6)
    assert torch.allclose(ours, attention(value, SHAPES.tolist(), locations, weights), rtol=0, atol=1e-12)


def test_gradients_of_deformable_attention():
    inputs = [x.requires_grad_() for x in attention_inputs()]
    assert torch.autograd.gradcheck(lambda v, x, w: multi_scale_deformable_attn(v, SHAPES, x, w), inputs)


def test_deformable_attention_without_queries_or_images():
    value, locations, weights = attention_inputs()
    assert multi_scale_deformable_attn(value, SHAPES, locations[:, :0], weights[:, :0]).shape == (2, 0, 6)


def test_errors_of_deformable_attention():
    value, locations, weights = attention_inputs()
    with pytest.raises(ConfigError, match=r"levels of \[\(3, 4\), \(2, 2\), \(1, 1\)\] do not make 16 tokens"):
        multi_scale_deformable_attn(value[:, 1:], SHAPES, locations, weights)
    with pytest.raises(ConfigError, match="and 2 levels do not fit together"):
        multi_scale_deformable_attn(value, SHAPES[:2], locations, weights)
    with pytest.raises(ConfigError, match=r"expected \(B, N, M, d\)"):
        multi_scale_deformable_attn(value, SHAPES, locations[..., :1], weights)


@pytest.mark.parametrize("align_corners", [True, False])
def test_point_sample(align_corners):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 5, 7, generator=generator, dtype=torch.float64)
    points = torch.rand(2, 9, 2, generator=generator, dtype=torch.float64) * 1.2 - 0.1
    ours = point_sample(image, points, align_corners)
    for b, c, p in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(9)).tolist():
        x, y = points[b, p].tolist()
        position = (y * 4, x * 6) if align_corners else (y * 5 - 0.5, x * 7 - 0.5)
        assert ours[b, c, p].item() == pytest.approx(float(at(image[b, c], *position)), abs=1e-12)
    grid = point_sample(image, points.view(2, 3, 3, 2), align_corners)
    assert torch.equal(grid.flatten(2), ours)
    assert point_sample(image, points[:, :0]).shape == (2, 3, 0)


def test_gradients_and_errors_of_point_sample():
    image = torch.randn(1, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    points = torch.tensor([[[0.31, 0.42], [0.77, 0.12], [1.03, 0.5]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(point_sample, (image, points))
    border = point_sample(image, points + 5, padding_mode="border")
    assert torch.allclose(border, image[..., -1:, -1].expand(1, 2, 3))
    with pytest.raises(ConfigError, match=r"points \(2, 3, 2\) given; expected"):
        point_sample(image, points.expand(2, 3, 2))
