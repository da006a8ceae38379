"""What SCCAN costs here, against the same network computed in the manner of the published code.

    OMP_NUM_THREADS=2 python benchmarks/sccan.py              # ResNet-50, 473 x 473; some minutes
    OMP_NUM_THREADS=1 python benchmarks/sccan.py --rounds 3 --shots 1

The plain form is written from the description of the network: query and supports go through the backbone one by one,
batch norms multiply and add, patches are aligned by unfold, gather and fold, the two halves of the cross attention are
two products, shots are a loop, and the whole support branch runs for every query. Both forms hold the same weights;
their logits must agree to 1e-4 of the largest.

Prints medians of alternating measurements in seconds, wall clock / processor, and how much faster ours is by each:
forward             one query with its support set
N queries, reused   of one support set that is encoded once: the time of encoding and N times that of a query, against N
                    times the plain forward, and N times our own
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.backbones.resnet import Bottleneck, ResNet
from visionpatch.heads.sccan import SCCANHead
from visionpatch.layers.scca import COSINE_EPS, MASK_EPS, QKV, SCCABlock
from visionpatch.models import FewShotSegmentor

DILATED = dict(deep_stem=True, stem_channels=128, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True)


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5, help="measurements of each kind (default: 5)")
    p.add_argument("--shots", type=int, nargs="+", default=[1, 5], help="support pictures (default: 1 5)")
    p.add_argument("--size", type=int, default=473, help="side of the pictures (default: 473)")
    p.add_argument("--queries", type=int, default=10, help="of one support set (default: 10)")
    p.add_argument("--depth", type=int, default=50, choices=(50, 101), help="of the backbone (default: 50)")
    args = p.parse_args(argv)
    torch.manual_seed(0)
    model = build(args.depth)
    table = Table("what", "slow", "fast", "wall", "processor", title=f"{torch.get_num_threads()} threads")
    with torch.inference_mode():
        for shots in args.shots:
            plain, ours, encode, query = measured(model, shots, args.size, args.rounds)
            many = [e + args.queries * q for e, q in zip(encode, query)]
            add_row(table, f"{shots}-shot forward, plain / ours", plain, ours)
            for name, one in (("plain", plain), ("ours", ours)):
                title = f"{shots}-shot {args.queries} queries, {name} / reused"
                add_row(table, title, [args.queries * seconds for seconds in one], many)
    Console().print(table)


def build(depth: int) -> FewShotSegmentor:
    """A model whose batch norms have statistics, so that features stay in range."""
    model = FewShotSegmentor(ResNet(depth, out_indices=(1, 2, 3), frozen_stages=4, **DILATED), SCCANHead()).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 1.0, 2.0)
            nn.init.normal_(module.running_mean, std=0.1)
    return model


def measured(model: FewShotSegmentor, shots: int, size: int, rounds: int) -> list[list[float]]:
    """Median (wall, processor) seconds of the plain forward, ours, encoding a set, and a query of an encoded set."""
    coarse = torch.randn(1 + shots, 3, size // 20 + 1, size // 20 + 1)
    images = F.interpolate(coarse, (size, size)) + 0.3 * torch.randn(1 + shots, 3, size, size)
    query, support = images[:1], images[1:]
    masks = torch.zeros(shots, size, size, dtype=torch.uint8)
    masks[:, size // 4 : size // 2, size // 3 : 4 * size // 5] = 1
    head, plain = model.decode_head, Plain(model)

    def forward() -> Tensor:
        """Query and supports in one call of the backbone, as in training and evaluation."""
        maps = model.extract_features(images.contiguous(memory_format=torch.channels_last))
        found = head.encode_support(tuple(x[1:] for x in maps), masks)
        return head(tuple(x[:1] for x in maps), [found], (size, size))

    def encode() -> Mapping[str, Any]:
        return head.prepare(model.encode_support(support, masks))

    encoded = encode()

    def reused() -> Tensor:
        maps = model.extract_features(query.contiguous(memory_format=torch.channels_last))
        return head(maps, [encoded], (size, size))

    runs = (lambda: plain(query, support, masks), forward, encode, reused)
    expected = runs[0]()
    for run in (forward, reused):
        error = ((run() - expected).abs().max() / expected.abs().max()).item()
        if error > 1e-4:
            raise SystemExit(f"the two forms differ by {error:.1e} of the largest logit")
    times: list[list[tuple[float, float]]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, found in zip(runs, times):
            wall, processor = time.perf_counter(), time.process_time()
            run()
            found.append((time.perf_counter() - wall, time.process_time() - processor))
    return [[statistics.median(column) for column in zip(*found)] for found in times]


def add_row(table: Table, name: str, slow: list[float], fast: list[float]) -> None:
    shown = [f"{wall:.2f} / {processor:.2f} s" for wall, processor in (slow, fast)]
    table.add_row(name, *shown, *(f"{a / b:.2f}" for a, b in zip(slow, fast)))


class Plain:
    """The network in the manner of the published code, with the weights of `model`."""

    def __init__(self, model: FewShotSegmentor) -> None:
        self.backbone, self.head = model.backbone, model.decode_head

    def __call__(self, query: Tensor, support: Tensor, masks: Tensor) -> Tensor:
        head, side = self.head, self.head.map_size
        features = self.maps(query)
        mid = up(conv(torch.cat(features[:2], 1), head.reduce_query).relu(), side)
        supports, prototypes, soft, priors = [], [], [], []
        for image, mask in zip(support, masks):
            maps = self.maps(image[None])
            weight = up((mask == 1).float()[None, None], side)
            reduced = up(conv(torch.cat(maps[:2], 1), head.reduce_support).relu(), side) * weight
            supports.append(reduced)
            soft.append(weight)
            prototypes.append(reduced.sum((2, 3), keepdim=True) / (weight.sum((2, 3), keepdim=True) + MASK_EPS))
            priors.append(up(prior(features[2], up(maps[2], side), weight), side))
        mean, weight = torch.stack(supports).mean(0), torch.stack(soft).mean(0)
        prototype = torch.stack(prototypes).mean(0).expand(-1, -1, *side)
        q = conv(torch.cat([mid, prototype, torch.stack(priors).mean(0)], 1), head.merge_query)
        s = conv(torch.cat([mean, prototype, weight], 1), head.merge_support)
        q, s = (x.flatten(2).transpose(1, 2) for x in (q, s))  # (B, H W, C)
        for block in head.transformer.blocks:
            q, s = self.block(block, q, s, weight, side)
        x = head.transformer.norm(q).transpose(1, 2).unflatten(2, side)
        return up(self.decoder(x.contiguous()), query.shape[-2:])

    def maps(self, x: Tensor) -> list[Tensor]:
        net = self.backbone
        for i in (0, 3, 6):
            x = frozen(net.stem[i](x), net.stem[i + 1]).relu()
        x, found = F.max_pool2d(x, 3, 2, 1), []
        for stage in net.stages:
            for block in stage:
                x = self.bottleneck(block, x)
            found.append(x)
        return found[1:]

    @staticmethod
    def bottleneck(block: Bottleneck, x: Tensor) -> Tensor:
        y = frozen(block.conv1(x), block.bn1).relu()
        y = frozen(block.conv2(y), block.bn2).relu()
        y = frozen(block.conv3(y), block.bn3)
        return (y + (x if block.downsample is None else frozen(block.downsample[0](x), block.downsample[1]))).relu()

    def block(self, b: SCCABlock, q: Tensor, s: Tensor, mask: Tensor, side: Sequence[int]) -> tuple[Tensor, Tensor]:
        size, pad = b.patch_size, (b.shift, b.patch_size - b.shift if b.shift else 0)
        maps = [b.norm1(x).transpose(1, 2).unflatten(2, tuple(side)) for x in (q, s)]
        own, other, weight = (F.pad(x, (*pad, *pad)) for x in (*maps, mask))  # (B, C, H', W')
        aligned = align(own, other, weight, size)
        whole = own.shape[-2:]
        own, other, aligned = (windows(x.permute(0, 2, 3, 1), size) for x in (own, other, aligned))
        attended = [cross(b.query_attn, own, aligned), itself(b.support_attn, other)]
        result = []
        for x, y, mlp in zip((q, s), attended, (b.query_mlp, b.support_mlp)):
            y = merged(y, size, whole)[:, pad[0] : pad[0] + side[0], pad[0] : pad[0] + side[1]]
            x = x + y.flatten(1, 2)
            result.append(x + mlp(b.norm2(x)))
        return result[0], result[1]

    def decoder(self, x: Tensor) -> Tensor:
        d, x = self.head.decoder, x.relu()
        pooled = d.aspp[0](F.adaptive_avg_pool2d(x, 1)).relu().expand_as(x)
        x = d.fuse(torch.cat([pooled, *(branch(x).relu() for branch in d.aspp[1:])], 1)).relu()
        return d.classify(x + d.residual(x))


def frozen(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    scale = norm.weight.view(1, -1, 1, 1) * (norm.running_var.view(1, -1, 1, 1) + norm.eps).rsqrt()
    return x * scale + (norm.bias.view(1, -1, 1, 1) - norm.running_mean.view(1, -1, 1, 1) * scale)


def conv(x: Tensor, kernel: nn.Module) -> Tensor:
    return F.conv2d(x, kernel.weight)


def up(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def prior(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    q, s = query.flatten(2), support.flatten(2).transpose(1, 2).contiguous()  # (B, C, P), (B, P, C)
    lengths = torch.bmm(s.norm(dim=2, keepdim=True), q.norm(dim=1, keepdim=True))
    similar = torch.bmm(s, q) / (lengths + COSINE_EPS)  # support by query, as published
    values = torch.bmm(similar.transpose(1, 2).softmax(2), mask.flatten(2).transpose(1, 2)).squeeze(2)
    low, top = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    return ((values - low) / (top - low + 1e-7)).view(len(q), 1, *query.shape[-2:])


def align(own: Tensor, other: Tensor, mask: Tensor, size: int) -> Tensor:
    """The support map (B, C, H, W) with its patches in the order in which the query's want them."""
    total = F.avg_pool2d(mask, size) * size * size + MASK_EPS
    q = F.avg_pool2d(own, size).flatten(2)  # (B, C, n)
    s = (F.avg_pool2d(other * mask, size) * size * size / total).flatten(2).transpose(1, 2)
    lengths = torch.bmm(s.norm(dim=2, keepdim=True), q.norm(dim=1, keepdim=True)) + COSINE_EPS
    score = (torch.bmm(s, q) / lengths + 1) / 2 * (total != MASK_EPS).flatten(2).transpose(1, 2)
    index = score.argmax(1)  # (B, n) of support patches
    patches = F.unfold(other, size, stride=size)  # (B, C t, n)
    return F.fold(patches.gather(2, index.unsqueeze(1).expand_as(patches)), other.shape[-2:], size, stride=size)


def windows(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) to (B n, t, C)."""
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size)).permute(0, 1, 3, 2, 4, 5).contiguous()
    return x.view(-1, size * size, x.shape[-1])


def merged(x: Tensor, size: int, whole: Sequence[int]) -> Tensor:
    x = x.view(-1, whole[0] // size, whole[1] // size, size, size, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, *whole, x.shape[-1])


def cross(layer: QKV, own: Tensor, aligned: Tensor) -> Tensor:
    heads, tokens = layer.num_heads, own.shape[1]
    q = layer.q(own).unflatten(2, (heads, -1)).permute(0, 2, 1, 3)
    k, v = layer.kv(torch.cat([own, aligned], 1)).unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    near, far = k[:, :, :tokens], k[:, :, tokens:]
    scores = q * q.shape[-1] ** -0.5 @ near.transpose(2, 3)
    lengths = q.norm(dim=3, keepdim=True) @ far.norm(dim=3, keepdim=True).transpose(2, 3)
    cosines = q @ far.transpose(2, 3) / (lengths + COSINE_EPS)
    attended = torch.cat([scores, cosines], 3).softmax(3) @ v
    return layer.proj(attended.transpose(1, 2).flatten(2))


def itself(layer: QKV, own: Tensor) -> Tensor:
    q = layer.q(own).unflatten(2, (layer.num_heads, -1)).permute(0, 2, 1, 3)
    k, v = layer.kv(own).unflatten(2, (2, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    attended = (q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)).softmax(3) @ v
    return layer.proj(attended.transpose(1, 2).flatten(2))


if __name__ == "__main__":
    main()
