"""Graph attention and graph convolution on a grid against loops over nodes and links, in both forms."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visionpatch.layers.grid_graph import SMALL, GridAttention, GridConvolution, PatchGrid

GRIDS = [(1, 1), (1, 4), (4, 1), (2, 2), (3, 3), (4, 5)]
CPU = torch.device("cpu")


def neighbours(height: int, width: int) -> list[list[int]]:
    """The nodes each node hears, itself included."""
    cells = [(row, column) for row in range(height) for column in range(width)]
    return [
        [j for j, (r, c) in enumerate(cells) if abs(r - row) <= 1 and abs(c - column) <= 1] for row, column in cells
    ]


def plain_attention(layer: GridAttention, x: Tensor, links: list[list[int]], weights: Tensor | None = None) -> Tensor:
    """(N, C) -> (N, heads * C'), link by link; `weights` (N, N) of the links."""
    found = []
    z = F.linear(x, layer.proj.weight).view(len(x), layer.heads, -1)
    for i, linked in enumerate(links):
        heads = []
        for h in range(layer.heads):
            scores = [F.leaky_relu(z[j, h] @ layer.source[h] + z[i, h] @ layer.target[h], 0.2) for j in linked]
            if weights is not None:
                scores = [score + weights[i, j].log() for score, j in zip(scores, linked)]
            share = torch.stack(scores).softmax(0)
            heads.append(sum(a * z[j, h] for a, j in zip(share, linked)))
        found.append(torch.cat(heads))
    return torch.stack(found) + layer.bias


def plain_convolution(layer: GridConvolution, x: Tensor, links: list[list[int]], weights: Tensor | None = None):
    weights = torch.ones(len(x), len(x), dtype=x.dtype) if weights is None else weights
    degree = torch.stack([sum(weights[i, j] for j in linked) for i, linked in enumerate(links)])
    y = F.linear(x, layer.proj.weight)
    rows = [
        sum(weights[i, j] * y[j] / (degree[i] * degree[j]).sqrt() for j in linked) for i, linked in enumerate(links)
    ]
    return torch.stack(rows) + layer.bias


def layers() -> tuple[GridAttention, GridConvolution]:
    torch.manual_seed(0)
    attention, convolution = GridAttention(6, 5, 3).double(), GridConvolution(15, 4).double()
    for layer in (attention, convolution):
        torch.nn.init.normal_(layer.bias)
    return attention, convolution


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("size", GRIDS)
def test_layers_equal_loops_over_links(size, dense):
    attention, convolution = layers()
    x, links = torch.randn(2, math.prod(size), 6, dtype=torch.float64), neighbours(*size)
    grid = PatchGrid(*size, CPU, dense)
    given = attention(x, grid)
    torch.testing.assert_close(given, torch.stack([plain_attention(attention, one, links) for one in x]))
    expected = torch.stack([plain_convolution(convolution, one, links) for one in given])
    torch.testing.assert_close(convolution(given, grid), expected)


@pytest.mark.parametrize("size", GRIDS)
def test_both_forms_have_the_published_number_of_links(size):
    h, w = size
    edges = 2 * (h * (w - 1) + w * (h - 1) + 2 * (h - 1) * (w - 1))
    assert [int(PatchGrid(h, w, CPU, dense).links.sum()) for dense in (True, False)] == [edges + h * w] * 2


def test_the_form_is_chosen_by_size():
    assert PatchGrid(8, 8, CPU).dense and not PatchGrid(8, 9, CPU).dense and SMALL == 64


def test_both_forms_have_equal_gradients():
    attention, convolution = layers()
    parameters, results = [*attention.parameters(), *convolution.parameters()], []
    x = torch.randn(2, 20, 6, dtype=torch.float64, requires_grad=True)
    for dense in (True, False):
        grid = PatchGrid(4, 5, CPU, dense)
        y = convolution(attention(x, grid).relu(), grid)
        results.append(torch.autograd.grad((y * torch.arange(4.0)).sum() + y.square().sum(), [x, *parameters]))
    torch.testing.assert_close(*results)


def test_gradients_at_the_border_of_a_window():
    attention, _ = layers()
    x = torch.randn(1, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: attention(x, PatchGrid(2, 3, CPU, dense=False)), (x,))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("size", GRIDS)
def test_the_mean_of_the_convolution_in_one_step(size, dense):
    _, convolution = layers()
    number = math.prod(size)
    x, shares = torch.randn(2, number, 15, dtype=torch.float64), torch.rand(number, dtype=torch.float64)
    shares, grid = shares / shares.sum(), PatchGrid(*size, CPU, dense)
    torch.testing.assert_close(
        convolution.mean(x, grid, shares), (shares[:, None] * convolution(x, grid)).sum(1), atol=1e-12, rtol=1e-12
    )


def test_convolution_by_hand():
    """Of three nodes in a row the middle one has 3 links, the others 2: 1/2, 1/sqrt(6) and 1/3."""
    layer = GridConvolution(1, 1)
    with torch.no_grad():
        layer.proj.weight.fill_(1.0)
        layer.bias.fill_(10.0)
    x = torch.tensor([[[1.0], [2.0], [4.0]]])
    root = math.sqrt(6)
    expected = [1 / 2 + 2 / root, 1 / root + 2 / 3 + 4 / root, 2 / root + 4 / 2]
    for dense in (True, False):
        given = layer(x, PatchGrid(1, 3, CPU, dense)).flatten() - 10
        assert given.tolist() == pytest.approx(expected, abs=1e-5)


def test_weights_of_links_by_hand():
    """Patches 0, 1, 3 of one cell: squared distances 1 and 4, with mean 2.5 over the four links of neighbours."""
    grid = PatchGrid(1, 3, CPU, dense=False)
    grid.weigh(torch.tensor([0.0, 1.0, 3.0]).view(1, 3, 1, 1), torch.ones(3, 1), sigma=0.5)
    weights = grid.log_weights[0, :, 0] * -2 * 0.5**2 * 2.5  # back to squared distances
    kept = [weights[i][grid.links[0, i, 0]].tolist() for i in range(3)]
    assert [pytest.approx(row, abs=1e-6) for row in ([0, 1], [1, 0, 4], [4, 0])] == kept


def test_padded_cells_do_not_count_in_a_distance():
    torch.manual_seed(0)
    x, mask = torch.randn(1, 4, 3, 4), torch.ones(4, 4)
    mask[1, 1::2] = mask[3, 1::2] = 0  # the right half of the right column's patches
    found = []
    for filling in (0.0, 5.0):
        grid = PatchGrid(2, 2, CPU, dense=False)
        grid.weigh(torch.where(mask[None, :, None] > 0, x, filling), mask, sigma=1.0)
        found.append(grid.log_weights)
    torch.testing.assert_close(*found)
    # between the patches 0 and 1: the mean over the two cells of 3 channels that both have
    distances = [((x[0, 0] - x[0, i]).square() * mask[i]).sum() / (mask[i].sum() * 3) for i in (1, 2)]
    ratio = found[0][0, 0, 0, 5] / found[0][0, 0, 0, 7]
    assert ratio.item() == pytest.approx((distances[0] / distances[1]).item(), rel=1e-5)


def test_weighted_layers_equal_loops_over_links():
    attention, convolution = layers()
    x, links = torch.randn(1, 12, 6, dtype=torch.float64), neighbours(3, 4)
    grid = PatchGrid(3, 4, CPU, dense=False)
    grid.weigh(x.unflatten(2, (3, 2)), torch.ones(12, 2), sigma=0.7)
    distances = (x[0, :, None] - x[0]).square().mean(2)
    mean = sum(distances[i, j] for i in range(12) for j in links[i] if j != i) / sum(len(n) - 1 for n in links)
    weights = (-distances / (2 * 0.7**2 * mean)).exp()
    given = attention(x, grid)
    torch.testing.assert_close(given[0], plain_attention(attention, x[0], links, weights))
    torch.testing.assert_close(convolution(given, grid)[0], plain_convolution(convolution, given[0], links, weights))
    shares = torch.full((12,), 1 / 12, dtype=torch.float64)
    torch.testing.assert_close(convolution.mean(given, grid, shares), convolution(given, grid).mean(1))


def test_equal_patches_have_equal_weights():
    grid = PatchGrid(2, 3, CPU, dense=False)
    grid.weigh(torch.ones(1, 6, 2, 4), torch.ones(6, 4), sigma=1.0)
    assert (grid.log_weights == 0).all()
