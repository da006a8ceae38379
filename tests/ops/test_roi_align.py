import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.ops import roi_align

from .naive import roi_align as naive_roi_align

ROIS = torch.tensor(
    [
        [0, 4.0, 6, 60, 40],  # inside
        [1, -30, -20, 25, 90],  # over three borders
        [1, 300, 10, 340, 30],  # wholly outside
        [0, 20, 20, 20, 20],  # no area
        [0, 33.2, 12.1, 33.9, 12.6],  # below a pixel
        [1, 0, 0, 88, 52],  # the whole map
    ],
    dtype=torch.float64,
)


def random_map(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("size", [(2, 2), (3, 5)])
def test_the_definition(mode, ratio, aligned, size):
    image = random_map(2, 2, 13, 22)
    ours = roi_align(image, ROIS, size, 0.25, ratio, mode, aligned)
    expected = naive_roi_align(image, ROIS, size, 0.25, ratio, mode, aligned)
    assert (expected[2, ..., 0, 0] == 0).all()
    assert torch.allclose(ours, expected, rtol=0, atol=1e-9)
    single = roi_align(image.float(), ROIS.float(), size, 0.25, ratio, mode, aligned)
    assert torch.allclose(single.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_linear_map_gives_the_centres_of_the_bins():
    y, x = torch.arange(40.0)[:, None], torch.arange(50.0)[None]
    image = torch.stack([y.expand(40, 50), x.expand(40, 50)])[None]
    rois = torch.tensor([[0.0, 5.0, 6.0, 26.0, 20.0]])
    for ratio in (0, 1, 4):
        out = roi_align(image, rois, 7, 1.0, ratio)
        assert torch.allclose(out[0, 0, :, 0], 6 + 14 / 7 * (torch.arange(7) + 0.5) - 0.5, atol=1e-5)
        assert torch.allclose(out[0, 1, 0], 5 + 21 / 7 * (torch.arange(7) + 0.5) - 0.5, atol=1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_a_map_of_one_pixel(mode):
    out = roi_align(torch.full((1, 1, 1, 1), 3.0), torch.tensor([[0.0, 0, 0, 1, 1]]), (2, 2), 1.0, 0, mode)
    assert torch.equal(out, torch.full((1, 1, 2, 2), 3.0))


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_a_roi_far_larger_than_the_map(mode, ratio):
    """As many points fall into each pixel of the map; only they count, and none is stored for the rest."""
    image = random_map(1, 2, 6, 7)
    rois = torch.tensor([[0, -300.0, -200, 400, 260]], dtype=torch.float64)
    expected = naive_roi_align(image, rois, (3, 2), 1.0, ratio, mode, True)
    assert torch.allclose(roi_align(image, rois, (3, 2), 1.0, ratio, mode), expected, rtol=0, atol=1e-9)
    huge = roi_align(image.float(), torch.tensor([[0, -1e8, -1e8, 1e8, 1e8]]), (3, 2), 1.0, ratio, mode)
    assert huge.isfinite().all() and huge.abs().max() <= image.abs().max()
    for value in (float("inf"), float("nan")):
        broken = roi_align(image.float(), torch.tensor([[0, 0.0, 0, value, 5]]), (3, 2), 1.0, ratio)
        assert torch.equal(broken, torch.zeros(1, 2, 3, 2))


def test_a_roi_turned_inside_out_is_empty():
    out = roi_align(random_map(1, 2, 6, 7), torch.tensor([[0, 5.0, 5, 2, 2]]), 3)
    assert torch.equal(out, torch.zeros_like(out))


def test_no_rois():
    image = random_map(2, 3, 8, 9).requires_grad_()
    out = roi_align(image, torch.zeros(0, 5), (7, 7))
    assert out.shape == (0, 3, 7, 7)
    out.sum().backward()
    assert torch.equal(image.grad, torch.zeros_like(image))


def test_a_roi_does_not_depend_on_the_others():
    image = random_map(2, 3, 13, 22)
    together = roi_align(image, ROIS, 4, 0.25)
    alone = torch.cat([roi_align(image, roi[None], 4, 0.25) for roi in ROIS])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_gradients(mode, ratio):
    image = random_map(2, 1, 5, 6).requires_grad_()
    rois = ROIS / torch.tensor([1, 15, 10, 15, 10])
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, (2, 3), 1.0, ratio, mode), (image,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    image = random_map(2, 3, 13, 22).to(dtype)
    ours = roi_align(image, ROIS.float(), 4, 0.25)
    assert ours.dtype == dtype
    assert torch.equal(ours, roi_align(image.float(), ROIS.float(), 4, 0.25).to(dtype))


WRONG = [
    (dict(input=torch.zeros(3, 4, 5)), r"input \(3, 4, 5\) and rois \(1, 5\) given; expected \(B, C, H, W\) and"),
    (dict(rois=torch.zeros(2, 4)), r"rois \(2, 4\)"),
    (dict(rois=torch.tensor([[2.0, 0, 0, 1, 1]])), "a roi of image 2 in a batch of 2"),
    (dict(rois=torch.tensor([[-1.0, 0, 0, 1, 1]])), "a roi of image -1 in a batch of 2"),
    (dict(output_size=0), r"output_size \(0, 0\) given"),
    (dict(pool_mode="mean"), 'unknown pool_mode "mean"; valid: avg, max'),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_errors(change, message):
    arguments = dict(input=torch.zeros(2, 1, 4, 4), rois=torch.zeros(1, 5), output_size=2)
    with pytest.raises(ConfigError, match=message):
        roi_align(**{**arguments, **change})
