"""CrossFormer (Wang et al., ICLR 2022, arXiv 2108.00154) and CrossFormer++ (TPAMI 2023, arXiv 2303.06908).

B batch, H W sides of a token map, C channels, h heads, d channels a head, G groups,
t tiles of an axis, g tokens of a group along it, i interval, o offsets (i of them in a whole tile).
Feature maps stay channel-last, (B, H, W, C), from the embedding to the output.

The published code pads token maps to whole groups and masks the padding. Attention over a group then equals attention
over its real tokens, so here nothing is padded: each axis is cut into whole tiles and a remainder (`split_axis`).
"""

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.attention import attention
from visionpatch.layers.drop_path import DropPath
from visionpatch.layers.mlp import Mlp
from visionpatch.layers.patch_embed import CrossScaleEmbedding
from visionpatch.layers.position_bias import DynamicPositionBias
from visionpatch.registry import MODELS

Interval = int | Literal["adaptive"]


def _arch(dim: int, depths: tuple, drop_path_rate: float, plus: bool = False) -> dict:
    """One row of table 1 of the papers; `plus` is CrossFormer++: growing groups and cooling layers."""
    return dict(
        embed_dims=dim,
        depths=depths,
        num_heads=tuple(dim // 32 * 2**stage for stage in range(4)),
        group_sizes=(4, 4, 14, 7) if plus else (7, 7, 7, 7),
        intervals=(4, 2, 1, 1) if plus else (8, 4, 2, 1),
        cooling=plus,
        drop_path_rate=drop_path_rate,
    )


ARCHS = {
    "tiny": _arch(64, (1, 1, 8, 6), 0.1),
    "small": _arch(96, (2, 2, 6, 2), 0.2),
    "base": _arch(96, (2, 2, 18, 2), 0.3),
    "large": _arch(128, (2, 2, 18, 2), 0.5),
    "pp-small": _arch(64, (2, 2, 18, 2), 0.2, plus=True),
    "pp-base": _arch(96, (2, 2, 18, 2), 0.3, plus=True),
    "pp-large": _arch(128, (2, 2, 18, 2), 0.5, plus=True),
    "pp-huge": _arch(128, (6, 6, 18, 2), 0.5, plus=True),
}


@MODELS.register_module()
class CrossFormer(BaseModule):
    """Image (B, in_channels, H, W) to maps (B, C_s, H / 4 / 2^s, W / 4 / 2^s), sides rounded down, for s in
    `out_indices`.

    Blocks alternate short distance attention (groups of neighbours) and long distance attention (tokens `interval`
    apart).
    Weights depend on neither `group_sizes`, `intervals` nor `lda`: all three may change at test time.

    Args:
        arch: a name in `ARCHS`, or a dict with `embed_dims`, `depths`, `num_heads` and, if wanted, its other keys.
        in_channels: of the image.
        group_sizes: side of a group, one a stage or one tuple a stage with one side a block; None: the arch's own.
        intervals: distance between the tokens of a long distance group, one a stage; "adaptive" spans the whole map
            with one tile; None: the arch's own.
        lda: rule of long distance groups on maps larger than a group. "tiled": group_size x group_size tokens inside
            tiles of side group_size * interval (the published classification and later dense code). "global": all
            tokens of the map that are `interval` apart (the release that the published detection and segmentation
            results belong to).
        cooling: amplitude cooling layers after every third block of a stage but its last (CrossFormer++, section 3.3).
        drop_path_rate: stochastic depth of the last block, growing linearly from 0.
        patch_sizes: kernels of the first embedding; the first one is its stride.
        merge_sizes: kernels of the embeddings between stages, stride 2.
        mlp_ratio: hidden width of a block's perceptron over its channels.
        out_indices: stages whose maps are returned.
        out_norm: LayerNorm on the last stage's map, as before the published classifier.
        with_cp: recompute activations of each block in the backward pass.
        frozen_stages: number of leading stages, with the first embedding, that do not train; 0: the embedding; -1:
            none.

    Raises:
        ConfigError: an unknown arch or an argument of the wrong length.
    """

    def __init__(
        self,
        arch: str | dict = "small",
        in_channels: int = 3,
        group_sizes: Sequence[int | Sequence[int]] | None = None,
        intervals: Sequence[Interval] | Literal["adaptive"] | None = None,
        lda: Literal["tiled", "global"] = "tiled",
        cooling: bool | None = None,
        drop_path_rate: float | None = None,
        patch_sizes: Sequence[int] = (4, 8, 16, 32),
        merge_sizes: Sequence[int] = (2, 4),
        mlp_ratio: float = 4,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: bool = False,
        with_cp: bool = False,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        given = dict(group_sizes=group_sizes, intervals=intervals, cooling=cooling, drop_path_rate=drop_path_rate)
        plan = _resolve(arch, given)
        if lda not in ("tiled", "global"):
            raise ConfigError(f'CrossFormer: lda = "{lda}"{nearest(str(lda), ("tiled", "global"))}')
        depths, dims = plan["depths"], [plan["embed_dims"] * 2**stage for stage in range(len(plan["depths"]))]
        _check_stages("out_indices", out_indices, len(depths))
        self.out_indices, self.with_cp, self.frozen_stages = tuple(out_indices), with_cp, frozen_stages
        self.out_channels = tuple(dims[stage] for stage in self.out_indices)
        self.out_strides = tuple(patch_sizes[0] * 2**stage for stage in self.out_indices)

        self.patch_embed = PatchEmbedding(in_channels, dims[0], tuple(patch_sizes))
        step = plan["drop_path_rate"] / max(sum(depths) - 1, 1)  # 0 in the first block, the full rate in the last
        self.layers = nn.ModuleList(
            Stage(
                dim,
                plan["num_heads"][stage],
                _per_block(plan["group_sizes"], stage, depths[stage]),
                plan["intervals"][stage],
                lda,
                plan["cooling"],
                [step * (sum(depths[:stage]) + block) for block in range(depths[stage])],
                mlp_ratio,
                tuple(merge_sizes) if stage < len(depths) - 1 else None,
            )
            for stage, dim in enumerate(dims)
        )
        self.norm = nn.LayerNorm(dims[-1]) if out_norm else nn.Identity()
        self.apply(_initialise)
        self._freeze()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.patch_embed(image)  # (B, H, W, C)
        outs = []
        for index, stage in enumerate(cast("list[Stage]", self.layers)):
            for block in stage.blocks:
                x = checkpoint(block, x, use_reentrant=False) if self.with_cp and self.training else block(x)
            if index in self.out_indices:
                last = index == len(self.layers) - 1
                outs.append((self.norm(x) if last else x).permute(0, 3, 1, 2))
            if index < max(self.out_indices) and stage.downsample is not None:
                x = stage.downsample(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> "CrossFormer":
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for module in (self.patch_embed, *self.layers[: self.frozen_stages]):
            module.eval().requires_grad_(False)


class PatchEmbedding(nn.Module):
    """Image (B, C, H, W) to normalised tokens (B, H / 4, W / 4, dim)."""

    def __init__(self, in_channels: int, dim: int, kernel_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.projs = CrossScaleEmbedding(in_channels, dim, kernel_sizes, stride=kernel_sizes[0])
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.projs(image.contiguous(memory_format=torch.channels_last)))


class PatchMerging(nn.Module):
    """Tokens (B, H, W, C) to (B, H / 2, W / 2, 2C); normalised before, not after."""

    def __init__(self, dim: int, kernel_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.reductions = CrossScaleEmbedding(dim, 2 * dim, kernel_sizes, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.reductions(self.norm(x).permute(0, 3, 1, 2))


class Stage(nn.Module):
    """The blocks of one stage and the embedding that leads to the next (None after the last)."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        group_sizes: Sequence[int],
        interval: Interval,
        lda: str,
        cooling: bool,
        drop_path_rates: list[float],
        mlp_ratio: float,
        merge_sizes: tuple[int, ...] | None,
    ) -> None:
        super().__init__()
        depth = len(group_sizes)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                num_heads,
                GroupRule(size, interval, long_distance=index % 2 == 1, lda=lda),
                drop_path_rates[index],
                mlp_ratio,
                cooling and (index + 1) % 3 == 0 and index < depth - 1,
            )
            for index, size in enumerate(group_sizes)
        )
        self.downsample = PatchMerging(dim, merge_sizes) if merge_sizes else None


class Block(nn.Module):
    """Grouped attention and a perceptron, both residual; then, where `cooling`, LN(depthwise conv(x)), which is not."""

    def __init__(
        self, dim: int, num_heads: int, rule: "GroupRule", drop_path_rate: float, mlp_ratio: float, cooling: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = GroupAttention(dim, num_heads, rule)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)
        self.cooling = cooling
        if cooling:
            self.ex_conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
            self.ex_ln = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.cooling:
            x = self.ex_ln(self.ex_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x


class GroupAttention(nn.Module):
    """Multi-head attention inside groups of the tokens (B, H, W, C), with a dynamic position bias."""

    def __init__(self, dim: int, num_heads: int, rule: "GroupRule") -> None:
        super().__init__()
        self.num_heads, self.rule = num_heads, rule
        self.pos = DynamicPositionBias(dim, num_heads)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        g_h, g_w, i = self.rule.plan(height, width)
        bias = self.pos(g_h, g_w)
        rows = []
        for band in split_axis(self.qkv(x), 1, g_h, i):  # (B, t, g, o, W, 3C)
            cells = [self._attend(cell, bias) for cell in split_axis(band, 4, g_w, i)]
            rows.append(merge_axis(cells, 4, width, g_w, i))  # (B, t, g, o, W, C)
        return self.proj(merge_axis(rows, 1, height, g_h, i))

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """(B, t_h, g_h, o_h, t_w, g_w, o_w, 3C) to the same with C: attention over the g_h x g_w tokens."""
        g_h, g_w = qkv.shape[2], qkv.shape[5]
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(7, 0, 1, 3, 4, 6, 8, 2, 5, 9)
        lead = qkv.shape[1:6]  # B, t_h, o_h, t_w, o_w
        q, k, v = qkv.flatten(6 + 1, 8).flatten(1, 5).unbind()  # each (G, h, g_h * g_w, d)
        bias = bias[:, :g_h, :g_w, :g_h, :g_w].reshape(-1, g_h * g_w, g_h * g_w)
        out = attention(q, k, v, bias).unflatten(2, (g_h, g_w)).unflatten(0, lead)
        return out.permute(0, 1, 6, 2, 3, 7, 4, 5, 8).flatten(-2)


class GroupRule:
    """How the tokens of a map form groups; see `CrossFormer` for the arguments."""

    def __init__(self, group_size: int, interval: Interval, long_distance: bool, lda: str) -> None:
        self.group_size, self.interval, self.long_distance, self.lda = group_size, interval, long_distance, lda

    def plan(self, height: int, width: int) -> tuple[int, int, int]:
        """Group sides and interval (g_h, g_w, i) for a map: row y is in tile y // (g i) at offset y % i."""
        size, far = self.group_size, self.long_distance
        if min(height, width) <= size:  # one group; the published dense codes differ on its side
            size, far = (max if self.lda == "tiled" else min)(height, width), False
        interval = math.ceil(max(height, width) / size) if self.interval == "adaptive" else self.interval
        i = interval if far else 1
        g_h, g_w = math.ceil(height / i), math.ceil(width / i)  # the whole map
        return (g_h, g_w, i) if far and self.lda == "global" else (min(g_h, size), min(g_w, size), i)


def split_axis(x: Tensor, dim: int, g: int, i: int) -> list[Tensor]:
    """Axis `dim` of n tokens as three axes (t, g', o), in up to three parts of one group length g' each.

    Whole tiles of g * i tokens come first; of the remainder, q * i + s tokens, the first s offsets hold q + 1 tokens a
    group and the others q.
    """
    tiles, q, s = _remainder(x.shape[dim], g, i)
    whole, body, tail = x.split([tiles * g * i, q * i, s], dim)
    parts = [whole.unflatten(dim, (tiles, g, i))] if tiles else []
    body, tail = body.unflatten(dim, (1, q, i)), tail.unflatten(dim, (1, 1, s))
    if s:
        parts.append(torch.cat([body.narrow(dim + 2, 0, s), tail], dim + 1))
    if q:
        parts.append(body.narrow(dim + 2, s, i - s))
    return parts


def merge_axis(parts: list[Tensor], dim: int, n: int, g: int, i: int) -> Tensor:
    """The inverse of `split_axis` for an axis of n tokens."""
    tiles, q, s = _remainder(n, g, i)
    rest = parts[1 if tiles else 0 :]
    pieces = parts[:1] if tiles else []
    if q:
        pieces.append(torch.cat([rest[0].narrow(dim + 1, 0, q), rest[1]], dim + 2) if s else rest[0])
    if s:
        pieces.append(rest[0].narrow(dim + 1, q, 1))
    pieces = [piece.flatten(dim, dim + 2) for piece in pieces]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


def _remainder(n: int, g: int, i: int) -> tuple[int, int, int]:
    """(tiles, q, s) with n = tiles * g * i + q * i + s."""
    tiles, rest = divmod(n, g * i)
    return (tiles, *divmod(rest, i))


def _resolve(arch: str | dict, given: dict) -> dict:
    """The arch as a complete dict, with the constructor's own values where given."""
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ConfigError(f'CrossFormer: unknown arch "{arch}"{nearest(arch, ARCHS)}')
        plan = dict(ARCHS[arch])
    else:
        plan = {**ARCHS["small"], **arch}
        wrong = sorted(set(arch) - set(ARCHS["small"]))
        if wrong:
            raise ConfigError(f'CrossFormer: arch has no key "{wrong[0]}"{nearest(wrong[0], ARCHS["small"])}')
    plan.update({key: value for key, value in given.items() if value is not None})
    if plan["intervals"] == "adaptive":
        plan["intervals"] = ("adaptive",) * len(plan["depths"])
    for stage, heads in enumerate(plan["num_heads"]):
        if plan["embed_dims"] * 2**stage % heads or plan["embed_dims"] < 16:
            raise ConfigError(
                f"CrossFormer: num_heads[{stage}] = {heads} does not divide embed_dims * 2^{stage} = "
                f"{plan['embed_dims'] * 2**stage}, or embed_dims is below 16"
            )
    for key in ("num_heads", "group_sizes", "intervals"):
        if len(plan[key]) != len(plan["depths"]):
            raise ConfigError(
                f"CrossFormer: {key} = {plan[key]} has {len(plan[key])} entries for {len(plan['depths'])} stages"
            )
    return plan


def _per_block(group_sizes: Sequence, stage: int, depth: int) -> list[int]:
    sizes = group_sizes[stage]
    sizes = [sizes] * depth if isinstance(sizes, int) else list(sizes)
    if len(sizes) != depth or min(sizes) < 1:
        raise ConfigError(
            f"CrossFormer: group_sizes[{stage}] = {sizes}; expected one positive side for each of {depth} blocks"
        )
    return sizes


def _check_stages(name: str, given: Sequence[int], stages: int) -> None:
    if not given or sorted(set(given)) != list(given) or not all(0 <= stage < stages for stage in given):
        raise ConfigError(f"CrossFormer: {name} = {tuple(given)}; expected increasing stages within 0..{stages - 1}")


def _initialise(module: nn.Module) -> None:
    """Published initial values: linear layers truncated normal 0.02 and bias 0; norms and convolutions keep torch's."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
