"""Graph attention and graph convolution on a grid of patches, where each node is linked to itself and its 8 neighbours.

The links of a node are the cells of a 3x3 window, so no list of edges is kept: a weight for each link is a tensor
(B, N, heads, K), where K is the 9 cells of the window, or all N nodes (`dense`), which is quicker on small grids.

B batch, N = h w nodes in raster order, C channels, K links of a node.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALL = 64  # nodes up to which the dense form is the quicker one on a CPU


class GridAttention(nn.Module):
    """Graph attention (Velickovic et al., ICLR 2018, arXiv:1710.10903, equations 1 to 5), heads concatenated.

    z = proj(x); e_ij = LeakyReLU_0.2(<z_j, source> + <z_i, target>), to which the logarithm of the link's weight is
    added; y_i = sum_j softmax_j(e_ij) z_j + bias.

    Args:
        in_channels: of a node.
        channels: of each head.
        heads: number of heads.
    """

    def __init__(self, in_channels: int, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.proj = nn.Linear(in_channels, heads * channels, bias=False)
        self.source = nn.Parameter(torch.empty(heads, channels))
        self.target = nn.Parameter(torch.empty(heads, channels))
        self.bias = nn.Parameter(torch.zeros(heads * channels))
        for weight in (self.proj.weight, self.source, self.target):
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor, grid: "PatchGrid") -> Tensor:
        """Patches (B, N, in_channels) in raster order -> nodes (B, N, heads * channels) of `grid`."""
        z = grid.ordered(self.proj(x)).unflatten(2, (self.heads, -1))  # (B, N, heads, C)
        given, taken = (z * self.source).sum(3), (z * self.target).sum(3)  # (B, N, heads)
        scores = F.leaky_relu(grid.linked(given) + taken.unsqueeze(3), 0.2)  # (B, N, heads, K)
        if grid.log_weights is not None:
            scores = scores + grid.log_weights.to(scores.dtype)
        weights = scores.masked_fill(~grid.links, -torch.inf).softmax(3)
        return grid.sum(weights, z).flatten(2) + self.bias


class GridConvolution(nn.Module):
    """Graph convolution (Kipf and Welling, ICLR 2017, arXiv:1609.02907, equation 2): y = A x W^T + bias.

    A = D^-1/2 (links) D^-1/2, where D holds the sums of the links' weights, that of a node to itself being 1.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.proj.weight)

    def forward(self, x: Tensor, grid: "PatchGrid") -> Tensor:
        """Nodes (B, N, in_channels) of `grid` -> (B, N, out_channels)."""
        y = self.proj(x).unsqueeze(2)  # (B, N, 1, C)
        return grid.sum(grid.spread(y.dtype), y).squeeze(2) + self.bias

    def mean(self, x: Tensor, grid: "PatchGrid", shares: Tensor) -> Tensor:
        """sum_i shares_i y_i of the nodes, (B, out_channels), where `shares` (N,) sum to 1.

        A is symmetric, so this is one weighted mean of `x`, with weights A shares, and one row through the layer.
        """
        weights = grid.sum(grid.spread(x.dtype), shares.to(x.dtype).view(1, -1, 1, 1)).squeeze(2)  # (1 or B, N, 1)
        return self.proj((weights.transpose(1, 2) @ x).squeeze(1)) + self.bias


class PatchGrid:
    """The links of an h x w grid, and what flows along them.

    Args:
        height, width: of the grid, h and w.
        device: of the tensors it is used with.
        dense: K = N links, those that are none masked, instead of the K = 9 of the window; None: where N <= 64.
        order: (N,), the patch in raster order that is the node at each cell; None: its own.

    Attributes:
        links: (1, N, 1, K), False where a cell of the window is outside of the grid, or a node is no neighbour.
        log_weights: (B, N, 1, K), logarithm of each link's weight, set by `weigh`; None: all weights are 1.
    """

    def __init__(
        self, height: int, width: int, device: torch.device, dense: bool | None = None, order: Tensor | None = None
    ) -> None:
        self.height, self.width, self.order = height, width, order
        self.dense = height * width <= SMALL if dense is None else dense
        self.log_weights: Tensor | None = None
        if self.dense:
            cell = torch.arange(height * width, device=device)
            near = [(i[:, None] - i).abs() <= 1 for i in (cell // width, cell % width)]
            self.links = (near[0] & near[1])[None, :, None]
        else:
            inside = torch.ones(1, height * width, 1, dtype=torch.bool, device=device)
            self.links = self.linked(inside)

    def ordered(self, x: Tensor) -> Tensor:
        """Patches (B, N, C) in raster order -> nodes; this moves less after a layer that makes C smaller."""
        return x if self.order is None else x[:, self.order]

    def linked(self, x: Tensor) -> Tensor:
        """(B, N, heads) -> (B, N or 1, heads, K), the value of the node at the other end of each link; 0 outside."""
        if self.dense:
            return x.transpose(1, 2).unsqueeze(1)
        return torch.stack([shifted.flatten(1, 2) for shifted in self._windows(x)], -1)

    def sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """sum_k weights_ik values_k, of (B, N, heads, K) and (B, N, heads, C); in either, B or heads may be 1."""
        if self.dense:
            return (weights.transpose(1, 2) @ values.transpose(1, 2)).transpose(1, 2)
        weights = weights.unflatten(1, (self.height, self.width)).unsqueeze(-1)  # (B, h, w, heads, 9, 1)
        total: Tensor | None = None
        for k, shifted in enumerate(self._windows(values)):
            weight = weights[..., k, :]
            total = weight * shifted if total is None else torch.addcmul(total, weight, shifted)
        assert total is not None
        return total.flatten(1, 2)

    def spread(self, dtype: torch.dtype) -> Tensor:
        """A of the graph convolution, (1 or B, N, 1, K)."""
        weights = self.links.to(dtype)
        if self.log_weights is not None:
            weights = weights * self.log_weights.to(dtype).exp()
        scale = weights.sum(3).rsqrt()  # (1 or B, N, 1), the diagonal of D^-1/2
        return weights * scale.unsqueeze(3) * self.linked(scale)

    def weigh(self, x: Tensor, mask: Tensor, sigma: float) -> None:
        """Give each link of a grid that is not dense the weight exp(-d^2 / (2 sigma^2)).

        d^2 is the mean squared difference of two patches over the cells that both have, as a multiple of its mean over
        all links between neighbours: so `sigma` has no unit, and what counts is how alike two patches are in this
        picture. It is 0 between a node and itself.

        Args:
            x: patches (B, N, C, P) of C channels and P cells.
            mask: (N, P), 1 where a cell belongs to the picture, 0 where it was padded.
            sigma: positive.
        """
        assert not self.dense
        known = mask[None, :, None].to(x.dtype)  # (1, N, 1, P)
        distances = []
        for other, other_known in zip(self._windows(x), self._windows(known)):
            common = known * other_known.flatten(1, 2)
            squares = (other.flatten(1, 2) - x).square().sum(2, keepdim=True)  # (B, N, 1, P)
            distances.append((squares * common).sum(3) / (common.sum(3) * x.shape[2]).clamp(min=1))
        distance = torch.stack(distances, 3)  # (B, N, 1, 9), 0 outside of the grid
        number = (self.links.sum() - self.links.shape[1]).clamp(min=1)  # of links between neighbours
        mean = distance.sum((1, 3), keepdim=True) / number
        self.log_weights = -distance / (2 * sigma**2 * mean.clamp(min=torch.finfo(mean.dtype).tiny))

    def _windows(self, x: Tensor) -> Iterator[Tensor]:
        """Of nodes (B, N, ...), the nine maps (B, h, w, ...) of the node's neighbours; 0 outside of the grid."""
        x = x.unflatten(1, (self.height, self.width))
        x = F.pad(x, (0, 0) * (x.ndim - 3) + (1, 1, 1, 1))
        for row in range(3):
            for column in range(3):
                yield x[:, row : row + self.height, column : column + self.width]
