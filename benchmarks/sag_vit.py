"""SAG-ViT against a plain form of the published code: the graph stage, and the whole forward pass.

    OMP_NUM_THREADS=1 python benchmarks/sag_vit.py                 # some minutes
    OMP_NUM_THREADS=1 python benchmarks/sag_vit.py --rounds 3 --sides 224

The plain form is written from the description of the published code: for each picture a graph of each patch and its
neighbours is merged into a growing graph (networkx), the result becomes a list of edges, graph attention and graph
convolution gather and scatter along that list; convolution, batch norm and SiLU of the trunk are one step each, and the
transformer is torch's. Both forms hold the same weights; their graphs must be the same, their outputs agree to 1e-4 of
the largest. Without networkx (pip install networkx) the plain graph cannot be measured, and the benchmark says so.

Prints medians of alternating measurements, wall clock / processor, and how much faster ours is by each:
construction  of the graph alone, for one picture
graph stage   of one picture: construction, graph attention, graph convolution, mean over nodes
forward       of a batch: with patches of 4 up to 448 pixels, and of 2, a grid of 32 x 32 at 1024 pixels, from there on
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.backbones.efficientnet_v2 import ConvNorm, FusedMBConv, MBConv
from visionpatch.backbones.sag_vit import PUBLISHED, SAGViT, insertion_cells
from visionpatch.layers.grid_graph import PatchGrid

try:
    import networkx
except ImportError:
    networkx = None

STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5, help="measurements of each kind (default: 5)")
    p.add_argument("--grids", type=int, nargs="+", default=[3, 16, 32], help="sides of grids (default: 3 16 32)")
    p.add_argument("--sides", type=int, nargs="+", default=[224, 1024], help="of pictures (default: 224 1024)")
    p.add_argument("--batch", type=int, default=1, help="pictures of a forward pass (default: 1)")
    args = p.parse_args(argv)
    if networkx is None:
        sys.exit("networkx is missing, with which the published code builds its graph: pip install networkx")
    torch.manual_seed(0)
    table = Table("what", "plain", "ours", "wall", "processor", title=f"{torch.get_num_threads()} threads")
    with torch.inference_mode():
        for side in args.grids:
            measure_graph(table, side, args.rounds)
        for side in args.sides:
            measure_forward(table, side, args.batch, args.rounds)
    Console().print(table)


def build(patch: int) -> SAGViT:
    """A model whose batch norms have statistics, so that features stay in range."""
    net = SAGViT(patch_size=patch, out_indices=(3,), **PUBLISHED).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 1.0, 2.0)
            nn.init.normal_(module.running_mean, std=0.1)
    return net


def measure_graph(table: Table, side: int, rounds: int) -> None:
    """A grid of side x side patches of 2 x 2 cells."""
    net, feature = build(2), torch.randn(1, 160, 2 * side, 2 * side)
    construct = (lambda: plain_graph(side, side), lambda: PatchGrid(side, side, feature.device))
    edges, order = construct[0]()
    if not torch.equal(order, insertion_cells(side, side)) or edges.shape[1] != int(construct[1]().links.sum()):
        raise SystemExit("the two forms build different graphs")
    add_row(table, f"construction, {side} x {side}", *measured(construct, rounds))
    stage = (lambda: plain_stage(net, feature), lambda: net.encode(*net.cut(feature)))
    compare(stage)
    add_row(table, f"graph stage, {side} x {side}", *measured(stage, rounds))


def measure_forward(table: Table, side: int, batch: int, rounds: int) -> None:
    net, image = build(4 if side <= 448 else 2), torch.randn(batch, 3, side, side)
    plain = Plain(net)
    runs = (lambda: plain(image), lambda: net(image)[0].mean((2, 3)))
    compare(runs)
    add_row(table, f"forward, {batch} x {side} px, patch {net.patch_size[0]}", *measured(runs, rounds))


def compare(runs: Sequence[Callable[[], Tensor]]) -> None:
    expected, given = (run().flatten() for run in runs)
    error = ((given - expected).abs().max() / expected.abs().max()).item()
    if error > 1e-4:
        raise SystemExit(f"the two forms differ by {error:.1e} of the largest value")


def measured(runs: Sequence[Callable], rounds: int) -> list[list[float]]:
    """Median [wall, processor] seconds of each."""
    times: list[list[tuple[float, float]]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, found in zip(runs, times):
            wall, processor = time.perf_counter(), time.process_time()
            run()
            found.append((time.perf_counter() - wall, time.process_time() - processor))
    return [[statistics.median(column) for column in zip(*found)] for found in times]


def add_row(table: Table, name: str, plain: list[float], ours: list[float]) -> None:
    shown = [f"{1e3 * wall:.2f} / {1e3 * processor:.2f} ms" for wall, processor in (plain, ours)]
    table.add_row(name, *shown, *(f"{a / b:.2f}" for a, b in zip(plain, ours)))


def plain_graph(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Directed edges (2, E) with self loops, and the cell of each node."""
    whole = networkx.Graph()
    for row in range(height):
        for column in range(width):
            part = networkx.Graph()
            part.add_node((row, column))
            for down, right in STEPS:
                other = (row + down, column + right)
                if 0 <= other[0] < height and 0 <= other[1] < width:
                    part.add_edge((row, column), other)
            whole = networkx.compose(whole, part)
    number = {cell: k for k, cell in enumerate(whole.nodes)}
    edges = [(number[a], number[b]) for a, b in whole.to_directed().edges] + [(k, k) for k in number.values()]
    order = torch.tensor([row * width + column for row, column in number])
    return torch.tensor(edges).T.contiguous(), order


def plain_stage(net: SAGViT, feature: Tensor) -> Tensor:
    """The trunk's map to the mean node (B, D), picture by picture."""
    rows, columns = net.patch_size
    h, w = feature.shape[2] // rows, feature.shape[3] // columns
    cut = feature[:, :, : h * rows, : w * columns].unfold(2, rows, rows).unfold(3, columns, columns)
    nodes = cut.permute(0, 2, 3, 1, 4, 5).reshape(len(feature), h * w, -1)
    pooled = []
    for x in nodes:
        edges, _ = plain_graph(h, w)
        pooled.append(plain_convolution(net.gcn, plain_attention(net.gat, x, edges).relu(), edges).mean(0))
    return torch.stack(pooled)


def plain_attention(layer: nn.Module, x: Tensor, edges: Tensor) -> Tensor:
    source, target = edges
    z = layer.proj(x).view(len(x), layer.heads, -1)
    scores = (z * layer.source).sum(2)[source] + (z * layer.target).sum(2)[target]  # (E, heads)
    scores = F.leaky_relu(scores, 0.2)
    index = target[:, None].expand_as(scores)
    top = torch.full_like(z[..., 0], -torch.inf).scatter_reduce(0, index, scores, "amax")
    weights = (scores - top[target]).exp()
    total = torch.zeros_like(z[..., 0]).index_add(0, target, weights)
    messages = (weights / total[target]).unsqueeze(2) * z[source]  # (E, heads, C)
    return torch.zeros_like(z).index_add(0, target, messages).flatten(1) + layer.bias


def plain_convolution(layer: nn.Module, x: Tensor, edges: Tensor) -> Tensor:
    source, target = edges
    y = layer.proj(x)
    scale = torch.zeros(len(x)).index_add(0, target, torch.ones(len(target))).rsqrt()
    messages = (scale[source] * scale[target]).unsqueeze(1) * y[source]
    return torch.zeros_like(y).index_add(0, target, messages) + layer.bias


class Plain:
    """The whole network in the manner of the published code, with the weights of `net`; gives the mean token (B, D)."""

    def __init__(self, net: SAGViT) -> None:
        self.net = net
        ours = net.encoder[0]
        layer = nn.TransformerEncoderLayer(len(net.position), ours.num_heads, ours.fc1.out_features, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, len(net.encoder), enable_nested_tensor=False).eval()
        names = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "proj.", "linear": "fc"}
        for theirs, mine in zip(self.encoder.layers, net.encoder):
            for name, parameter in theirs.named_parameters():
                found = next((name.replace(a, b) for a, b in names.items() if name.startswith(a)), name)
                parameter.data = mine.get_parameter(found).data

    def __call__(self, image: Tensor) -> Tensor:
        net = self.net
        x = step(net.trunk.stem, image)
        for stage in net.trunk.stages:
            for block in stage:
                x = plain_block(block, x)
        tokens = plain_stage(net, x)[:, None] + net.position
        return self.encoder(torch.cat([tokens, net.extra.expand(len(x), 1, -1)], 1)).mean(1)


def plain_block(block: FusedMBConv | MBConv, x: Tensor) -> Tensor:
    y = step(block.expand, x)
    if isinstance(block, MBConv):
        y = step(block.depthwise, y)
        y = block.excite(y)
    y = y if block.project is None else step(block.project, y)
    return x + y if block.shortcut else y


def step(layer: ConvNorm, x: Tensor) -> Tensor:
    x = layer.norm(layer.conv(x))
    return F.silu(x, inplace=True) if layer.act else x


if __name__ == "__main__":
    main()
