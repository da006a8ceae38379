"""SAG-ViT (arXiv:2411.09420): a convolutional trunk, a graph of patches of its last map, a small transformer.

Its code is github.com/shravan-18/SAG-ViT at commit dfcc64c; "published" means that code here. The paper's text was read
in its abstract and its figure only: what goes by these instead is marked "figure".

B batch, H and W height and width of the trunk's last map, h and w those of the grid of patches, N = h w nodes,
C channels, P cells of a patch, D channels of a token.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.attention import attention
from visionpatch.layers.grid_graph import GridAttention, GridConvolution, PatchGrid
from visionpatch.layers.resize import resize
from visionpatch.registry import MODELS

TRUNK = dict(type="EfficientNetV2", arch="s", out_indices=(0, 1, 2))
PUBLISHED = dict(tokens="pooled", node_order="insertion", edges="adjacency", remainder="drop", refine=False)
CHOICES = dict(
    tokens=("pooled", "nodes"),
    node_order=("raster", "insertion"),
    edges=("adjacency", "similarity"),
    remainder=("pad", "drop"),
)


@MODELS.register_module()
class SAGViT(BaseModule):
    """SAG-ViT: image (B, 3, H, W) -> the trunk's maps and, last, a map of tokens (B, D, h, w), a token a patch.

    The trunk's last map, of stride 16, is cut into patches of `patch_size` cells; a patch is a node, linked to its 8
    neighbours; graph attention, ReLU and graph convolution make D channels of each. The transformer sees these tokens
    and a learnt one, which is spread over the map in the end: so the mean of the map is the mean of all tokens, which
    the published classifier reads. Every H and W is accepted that the trunk accepts.

    ``SAGViT(out_indices=(3,), **PUBLISHED)`` is the published model, for its weights.

    Args:
        trunk: backbone, or config of one; all its maps are on offer, the graph stands on the last. EfficientNetV2-S up
            to stride 16 by default.
        patch_size: side in cells of the trunk's last map, or (rows, columns). 2 makes the strides 4, 8, 16, 32.
        gat_channels, gat_heads: of the graph attention.
        embed_dims: D.
        num_heads, num_layers, ffn_channels, dropout: of the transformer (post-norm, ReLU).
        tokens: "pooled": the mean of all nodes is the one token beside the learnt one (published), and the map repeats
            it. "nodes": each node is a token (figure); sine-cosine positions in rows and columns are added, which are
            our choice, because the published learnt position is one vector for all.
        node_order: "raster": nodes are linked as their patches lie in the map. "insertion": the published graph, where
            patches of the first two rows change places (see `insertion_cells`).
        edges: "adjacency": all links weigh the same (published). "similarity": exp(-d^2 / (2 sigma^2)) of the distance
            d of the two patches (figure; the formula is our choice, see `PatchGrid.weigh`).
        sigma: of "similarity", as a multiple of the root mean square distance of neighbours in a picture.
        remainder: what becomes of rows and columns beyond the last whole patch. "pad": zeros complete their patches,
            and a node counts in the mean by its share of the picture's cells. "drop": they are lost (published).
        refine: add the token map, through a 1x1 convolution that starts at zero and bilinear resizing, to the trunk's
            last map.
        out_indices: which maps to return, ascending; 0 is the trunk's first, the highest one the token map.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        trunk: dict | nn.Module | None = None,
        patch_size: int | Sequence[int] = 4,
        gat_channels: int = 128,
        gat_heads: int = 4,
        embed_dims: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        ffn_channels: int = 64,
        dropout: float = 0.1,
        tokens: str = "pooled",
        node_order: str = "raster",
        edges: str = "adjacency",
        sigma: float = 1.0,
        remainder: str = "pad",
        refine: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _check_choices(dict(tokens=tokens, node_order=node_order, edges=edges, remainder=remainder))
        self.trunk = trunk if isinstance(trunk, nn.Module) else MODELS.build(dict(trunk or TRUNK))
        channels, strides = _published_by(self.trunk)
        self.patch_size = _pair(patch_size)
        self.tokens, self.node_order, self.edges, self.remainder = tokens, node_order, edges, remainder
        self.sigma, self.out_indices = sigma, tuple(out_indices)
        _check_numbers(self, embed_dims, num_heads, dropout, len(channels), refine)
        self.gat = GridAttention(channels[-1] * math.prod(self.patch_size), gat_channels, gat_heads)
        self.gcn = GridConvolution(gat_channels * gat_heads, embed_dims)
        self.position = nn.Parameter(torch.randn(embed_dims))
        self.extra = nn.Parameter(torch.randn(embed_dims))
        self.encoder = nn.ModuleList(
            EncoderLayer(embed_dims, num_heads, ffn_channels, dropout) for _ in range(num_layers)
        )
        self.refine = nn.Conv2d(embed_dims, channels[-1], 1) if refine else None
        if self.refine is not None:
            nn.init.zeros_(self.refine.weight)
            nn.init.zeros_(self.refine.bias)  # type: ignore[arg-type]
        self.out_channels = tuple((*channels, embed_dims)[i] for i in self.out_indices)
        self.out_strides = tuple((*strides, strides[-1] * self.patch_size[0])[i] for i in self.out_indices)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = list(self.trunk(image))
        patches, grid, shares = self.cut(maps[-1])  # (B, N, C P)
        tokens = self.mix(self.encode(patches, grid, shares), grid)  # (B, D, h, w)
        if self.refine is not None:
            rows, columns = (n * side for n, side in zip(tokens.shape[2:], self.patch_size))
            context = resize(self.refine(tokens), (rows, columns))
            maps[-1] = maps[-1] + context[:, :, : maps[-1].shape[2], : maps[-1].shape[3]]
        maps.append(tokens)
        return tuple(maps[i] for i in self.out_indices)

    def cut(self, x: Tensor) -> tuple[Tensor, PatchGrid, Tensor]:
        """The trunk's last map (B, C, H, W) -> patches (B, N, C P) in raster order, their grid, the nodes' shares of
        the mean (N,), which sum to 1."""
        sides = zip(x.shape[2:], self.patch_size)
        height, width = (max(1, n // side) if self.remainder == "drop" else -(-n // side) for n, side in sides)
        rows, columns = self.patch_size
        x = x[:, :, : height * rows, : width * columns]
        missing = (height * rows - x.shape[2], width * columns - x.shape[3])
        known = [torch.ones(n, device=x.device, dtype=x.dtype) for n in x.shape[2:]]
        if any(missing):
            x = F.pad(x, (0, missing[1], 0, missing[0]))
            known = [F.pad(k, (0, n)) for k, n in zip(known, missing)]
        x = x.unflatten(3, (width, columns)).unflatten(2, (height, rows))  # (B, C, h, rows, w, columns)
        patches = x.permute(0, 1, 3, 5, 2, 4).flatten(4).flatten(2, 3).permute(0, 3, 1, 2)  # (B, N, C, P)
        mask = known[0].view(height, 1, rows, 1) * known[1].view(1, width, 1, columns)
        mask = mask.flatten(2).flatten(0, 1)  # (N, P)
        order = insertion_cells(height, width, x.device).argsort() if self.node_order == "insertion" else None
        mask = mask if order is None else mask[order]
        similar = self.edges == "similarity"
        grid = PatchGrid(height, width, x.device, dense=False if similar else None, order=order)
        if similar:
            grid.weigh(patches if order is None else patches[:, order], mask, self.sigma)
        return patches.flatten(2), grid, mask.sum(1) / mask.sum()

    def encode(self, patches: Tensor, grid: PatchGrid, shares: Tensor) -> Tensor:
        """The graph layers: patches (B, N, C P) -> tokens (B, N, D), both in raster order, or one token, (B, 1, D)."""
        nodes = self.gat(patches, grid).relu()  # (B, N, heads * gat_channels)
        if self.tokens == "pooled":
            return self.gcn.mean(nodes, grid, shares).unsqueeze(1)
        nodes = self.gcn(nodes, grid)
        if self.node_order == "insertion":
            nodes = nodes[:, insertion_cells(grid.height, grid.width, nodes.device)]
        return nodes + grid_positions(grid.height, grid.width, nodes.shape[2], nodes.device).to(nodes.dtype)

    def mix(self, tokens: Tensor, grid: PatchGrid) -> Tensor:
        """The transformer: tokens (B, N or 1, D) without the learnt position -> their map (B, D, h, w)."""
        number = tokens.shape[1]
        x = torch.cat([tokens + self.position, self.extra.expand(len(tokens), 1, -1)], 1)  # (B, N + 1, D)
        for layer in self.encoder:
            x = layer(x)
        x = (number * x[:, :number] + x[:, number:]) / (number + 1)  # its mean over N is that of N + 1 tokens
        cells = (grid.height, grid.width)
        return x.expand(-1, math.prod(cells), -1).transpose(1, 2).unflatten(2, cells).contiguous()


class EncoderLayer(nn.Module):
    """A layer of the first transformer (Vaswani et al., 2017): norms after the sums, ReLU, four dropouts."""

    def __init__(self, channels: int, num_heads: int, ffn_channels: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.fc1, self.fc2 = nn.Linear(channels, ffn_channels), nn.Linear(ffn_channels, channels)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads)
        y = attention(q, k, v, dropout=self.dropout.p if self.training else 0.0)
        x = self.norm1(x + self.dropout(self.proj(y.transpose(1, 2).flatten(2))))
        y = self.fc2(self.dropout(self.fc1(x).relu()))
        return self.norm2(x + self.dropout(y))


def insertion_cells(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """The cell, in raster order, at which the published graph puts the patch k of the raster, (N,) int64.

    That code numbers nodes in the order in which a growing graph first names their cells: the first two rows column by
    column, then the rest row by row.
    """
    cells = torch.arange(height * width, device=device)
    if height == 1 or width == 1:
        return cells
    return torch.where(cells < 2 * width, cells % 2 * width + cells // 2, cells)


def grid_positions(height: int, width: int, channels: int, device: torch.device | str | None = None) -> Tensor:
    """Sines and cosines of row and column, (N, channels) float32, a quarter of the channels each; any grid has them.

    The wavelengths are those of Vaswani et al., 2017, section 3.5.
    """
    rates = 10000 ** (-torch.arange(channels // 4, device=device) / (channels // 4))
    cells = torch.arange(height * width, device=device)
    angles = [place[:, None] * rates for place in (cells // width, cells % width)]  # (N, channels / 4)
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1)


def _published_by(trunk: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of the trunk's maps."""
    channels, strides = (getattr(trunk, name, None) for name in ("out_channels", "out_strides"))
    if channels is None or strides is None:
        raise ConfigError(f"SAGViT: the trunk must be a backbone, with out_channels and out_strides, not {type(trunk)}")
    return tuple(channels), tuple(strides)


def _pair(patch_size: int | Sequence[int]) -> tuple[int, int]:
    sides = (patch_size, patch_size) if isinstance(patch_size, int) else tuple(patch_size)
    if len(sides) != 2 or min(sides) < 1:
        raise ConfigError(f"SAGViT: patch_size = {patch_size}; expected a positive number or (rows, columns)")
    return sides


def _check_choices(given: dict[str, str]) -> None:
    for name, value in given.items():
        if value not in CHOICES[name]:
            raise ConfigError(f'SAGViT: {name} = "{value}"{nearest(str(value), CHOICES[name])}')


def _check_numbers(net: Any, embed_dims: int, num_heads: int, dropout: float, maps: int, refine: bool) -> None:
    if embed_dims % num_heads or (net.tokens == "nodes" and embed_dims % 4):
        raise ConfigError(
            f"SAGViT: embed_dims = {embed_dims} must be a multiple of num_heads = {num_heads}, and of 4 with "
            'tokens="nodes", for positions'
        )
    if net.sigma <= 0 or not 0 <= dropout < 1:
        raise ConfigError(f"SAGViT: sigma = {net.sigma} must be positive, dropout = {dropout} in [0, 1)")
    indices = net.out_indices
    if not indices or list(indices) != sorted(set(indices) & {*range(maps + 1)}):
        raise ConfigError(
            f"SAGViT: out_indices must ascend within 0..{maps}, not {indices}: the trunk gives maps 0..{maps - 1}, and "
            f"{maps} is the token map"
        )
    if refine and (maps - 1 not in indices or net.remainder == "drop"):
        raise ConfigError(
            f"SAGViT: refine=True changes the trunk's last map: it needs {maps - 1} in out_indices, not {indices}, and "
            f'remainder="pad", not "{net.remainder}"'
        )
