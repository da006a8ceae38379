"""Whether DependencyViT's tree finds parts that were planted in a picture, after it has learnt something else.

    OMP_NUM_THREADS=1 python benchmarks/dependency_planted.py        # a minute on one core

A picture of 6 x 6 patches is cut into four regions of one colour each; in each one patch, the hub, bears a mark, and
every other a number, as the contrast of its stripes. Learnt, by regression: at each hub the sum of its region's
numbers, elsewhere 0. Neither regions nor parents are ever told. Prints, of 256 pictures not trained on, means in
percent:
parents         of the patches other than hubs, those whose parent in the tree is the hub of their region
NMI, ARI, mIoU  the tree cut into four parts against the four regions, see `visionpatch.evaluation.PartMetric`
error           mean squared error of the sums over their variance
before and after training, with reversed attention and, to compare, with attention as usual.

Letters: B pictures, N = 36 patches, K = 4 regions, p = 4 pixels a patch.
"""

import argparse
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Generator, Tensor, nn

from visionpatch.backbones import DependencyViT
from visionpatch.evaluation.part_metric import agreement
from visionpatch.layers.dependency_tree import decode_tree, tree_parts

SIDE, PATCH, REGIONS = 6, 4, 4
NAMES = ("parents", "NMI", "ARI", "mIoU", "error")


class Scenes(NamedTuple):
    """Pictures with what was planted in them."""

    image: Tensor  # (B, 3, 24, 24)
    region: Tensor  # (B, N) in 0..K-1
    hub: Tensor  # (B, K), the patch at the heart of each region
    target: Tensor  # (B, N)


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=300, help="of 32 pictures each (default: 300)")
    p.add_argument("--seeds", type=int, default=2, help="trainings of each kind (default: 2)")
    args = p.parse_args(argv)
    table = Table("attention", "steps", "seed", *NAMES, title="planted regions, percent")
    for attention in ("reversed", "forward"):
        for steps in (0, args.steps):
            for seed in range(args.seeds):
                row = learn(attention, steps, seed)
                table.add_row(attention, str(steps), str(seed), *(f"{100 * row[name]:.1f}" for name in NAMES))
    Console().print(table)


def learn(attention: Literal["reversed", "forward"], steps: int, seed: int = 0) -> dict[str, float]:
    """Train a network of two blocks and measure it; fractions, by `NAMES`."""
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed + 1)
    net = DependencyViT(
        arch=dict(embed_dims=48, num_layers=2, num_heads=3), img_size=SIDE * PATCH, patch_size=PATCH, out_indices=-1,
        layer_scale_init=None, drop_path_rate=0.0, attention=attention,
    )  # fmt: skip
    readout = nn.Conv2d(48, 1, 1)
    optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=3e-3)
    for _ in range(steps):
        scenes = planted(32, generator)
        loss = (readout(net(scenes.image)[0]).flatten(1) - scenes.target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return measure(net, readout, planted(256, Generator().manual_seed(99)))


def planted(batch: int, generator: Generator) -> Scenes:
    """Regions are the patches nearest to K random hubs, of K different corners of the colour cube."""
    n = SIDE * SIDE
    hub = torch.rand(batch, n, generator=generator).argsort(1)[:, :REGIONS]
    place = torch.stack([torch.arange(n) // SIDE, torch.arange(n) % SIDE], 1).float()  # (N, 2)
    region = torch.cdist(place.expand(batch, -1, -1), place[hub]).argmin(2)
    corners = torch.tensor([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)]) * 2.0 - 1
    corners = corners[torch.rand(batch, 8, generator=generator).argsort(1)]  # (B, 8, 3)
    colour = corners.gather(1, region[..., None].expand(-1, -1, 3))  # (B, N, 3)
    number = torch.randn(batch, n, generator=generator).scatter(1, hub, 0.0)
    mark = torch.zeros(batch, n).scatter(1, hub, 2.0)
    sums = torch.zeros(batch, REGIONS).scatter_add(1, region, number) / 3  # a region has 9 patches on average
    target = torch.zeros(batch, n).scatter(1, hub, sums)
    lines = torch.tensor([-1.0, 1.0]).repeat(PATCH // 2)
    pattern = number[..., None, None] * lines[:, None] + mark[..., None, None] * torch.outer(lines, lines)
    pixels = colour[..., None, None] + pattern.unsqueeze(2)  # (B, N, 3, p, p)
    pixels = pixels + 0.1 * torch.randn(pixels.shape, generator=generator)
    image = pixels.unflatten(1, (SIDE, SIDE)).permute(0, 3, 1, 4, 2, 5)  # (B, 3, 6, p, 6, p)
    return Scenes(image.reshape(batch, 3, SIDE * PATCH, SIDE * PATCH), region, hub, target)


@torch.no_grad()
def measure(net: DependencyViT, readout: nn.Module, scenes: Scenes) -> dict[str, float]:
    """Fractions, by `NAMES`."""
    net.eval()
    error = (readout(net(scenes.image)[0]).flatten(1) - scenes.target).square().mean() / scenes.target.var()
    info = net.dependency(scenes.image)
    rows = []
    for total, received, region, hub in zip(info.total(), info.received(), scenes.region.numpy(), scenes.hub.numpy()):
        tree = decode_tree(total)
        others = np.setdiff1d(np.arange(len(region)), hub)
        right = (tree.parent[others] == hub[region[others]]).mean()
        rows.append((right, *agreement(tree_parts(tree, received, REGIONS), region)))
    return dict(zip(NAMES, [*np.mean(rows, 0).tolist(), error.item()]))


if __name__ == "__main__":
    main()
