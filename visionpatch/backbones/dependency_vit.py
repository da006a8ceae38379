"""DependencyViT (Ding et al., CVPR 2023, arXiv 2304.03282) and its pruned form DependencyViT-Lite.

The body of the paper and its code were not at hand. Each piece below is marked:
[paper] its abstract and the caption of its Fig. 2; [timm] the draft huggingface/pytorch-image-models#2062, which
another author made from the paper; [ours] stated in neither. Nothing here claims the published accuracies.

A plain (not hierarchical) pre-norm vision transformer without class token [timm], whose attention is reversed [paper].

B batch, H W sides of the image, h w rows and columns of tokens, N = h w, n tokens still computed, C channels.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.dependency import DependencyInfo
from visionpatch.layers.dependency_tree import decode_tree
from visionpatch.layers.drop_path import DropPath
from visionpatch.layers.mlp import Mlp
from visionpatch.layers.precision import at_least_float32
from visionpatch.layers.reversed_attention import FORMS, Flow, Form, ReversedAttention, dependency_mask, received_mass
from visionpatch.layers.token_pruning import LiveTokens, tokens_left
from visionpatch.registry import MODELS

# width, depth and heads [timm]
ARCHS = {
    "tiny": dict(embed_dims=192, num_layers=12, num_heads=12),
    "small": dict(embed_dims=384, num_layers=12, num_heads=12),
}
# DependencyViT-Lite: blocks counted from 1 and share of the tokens at the start [timm], the rest [ours]
LITE = dict(blocks=(2, 5, 8, 11), ratio=0.16, score="message", at="entry", restore="last")
CHOICES = dict(
    attention=("reversed", "forward"), attention_form=FORMS, stem=("linear", "conv"),
    pool=("message", "mean", "root", None), score=("message", "received"), at=("entry", "attention", "block"),
    restore=("last", "parent", "zero"),
)  # fmt: skip


@MODELS.register_module()
class DependencyViT(BaseModule):
    """Image (B, in_channels, H, W) to one map (B, C, ceil(H / patch_size), ceil(W / patch_size)) for each of
    `out_indices`, or with `pool` to one vector as a map (B, C, 1, 1).

    Every map goes through its own LayerNorm. Sides that the patch does not divide are padded at the bottom and right;
    every token covers at least one pixel of the image.

    Args:
        arch: "tiny", "small", or a dict with `embed_dims`, `num_layers` and `num_heads`.
        img_size: side of the training images, on whose grid positions are learnt; others are interpolated.
        patch_size: stride of the tokens.
        in_channels: of the image.
        out_indices: blocks, counted from 0, whose tokens are returned as maps; later blocks are not built. With `pool`
            the last one of them is where the network ends. -1 stands for the last block.
        pool: None gives maps. "message": mean of the last tokens weighted by what they still send; "mean"; "root": the
            token that received most in all blocks. (Which one the paper takes is not known; [ours].)
        tau: temperature of the head selector [timm].
        controller_ratio: hidden width of the message controller over C; 0.5 [timm], 1 fits the parameter counts one
            remembers of the paper.
        controller_bias: initial bias of the controller [ours].
        qkv_bias: a bias for queries, keys and values.
        layer_scale_init: initial LayerScale; None leaves it out [timm].
        drop_path_rate: stochastic depth of the last block, growing linearly from 0.
        stem: "linear" is one convolution of size and stride `patch_size` [timm]; "conv" one 3 x 3 convolution of
            stride 2 for each factor 2 of `patch_size` [ours].
        prune: None, or a dict of the keys of `LITE`, of which those left out keep their value there (`prune=dict()` is
            DependencyViT-Lite): `blocks`, counted from 1, at each of which `ratio` of the tokens at the start go;
            `score`: what the tokens that stay have most of, "message" or "received"; `at`: the block's "entry", after
            its "attention" or after the "block"; `restore`: what stands for dropped tokens in maps, their "last"
            feature, that of their nearest kept ancestor in the tree ("parent", slow: a tree is decoded for each image)
            or "zero".
        attention: "forward" is attention as usual with the same parameters, for comparison.
        attention_form, chunk_size: see `visionpatch.layers.reversed_attention.reversed_attention`.

    Attributes:
        out_channels, out_strides: one entry a map; the stride of a pooled vector is that of the tokens.

    Raises:
        ConfigError: an unknown word or key, a number out of range.
    """

    def __init__(
        self,
        arch: str | dict = "small",
        img_size: int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (3, 5, 7, 11),
        pool: Literal["message", "mean", "root"] | None = None,
        tau: float = 0.1,
        controller_ratio: float = 0.5,
        controller_bias: float = 4.0,
        qkv_bias: bool = False,
        layer_scale_init: float | None = 1e-6,
        drop_path_rate: float = 0.1,
        stem: Literal["linear", "conv"] = "linear",
        prune: dict | None = None,
        attention: Literal["reversed", "forward"] = "reversed",
        attention_form: Form = "auto",
        chunk_size: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        plan = _resolve_arch(arch)
        dim, depth = plan["embed_dims"], plan["num_layers"]
        self.out_indices = _resolve_indices(out_indices, depth)
        for name, word in (
            ("pool", pool),
            ("stem", stem),
            ("attention", attention),
            ("attention_form", attention_form),
        ):
            _check_word(name, word, CHOICES[name])
        _check_numbers(
            img_size=img_size, patch_size=patch_size, in_channels=in_channels, tau=tau, chunk=chunk_size or 1
        )
        self.patch_size, self.pool = patch_size, pool
        self.prune = None if prune is None else _resolve_prune(prune, depth)
        self.out_channels = (dim,) if pool else (dim,) * len(self.out_indices)
        self.out_strides = (patch_size,) * len(self.out_channels)

        self.patch_embed = PatchEmbedding(in_channels, dim, patch_size, stem)
        self.grid = (math.ceil(img_size / patch_size),) * 2
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], dim))
        step = drop_path_rate / max(depth - 1, 1)
        options = dict(
            tau=tau, controller_ratio=controller_ratio, controller_bias=controller_bias, qkv_bias=qkv_bias,
            direction=attention, form=attention_form, chunk_size=chunk_size,
        )  # fmt: skip
        self.blocks = nn.ModuleList(
            Block(dim, plan["num_heads"], step * index, layer_scale_init, options)
            for index in range(max(self.out_indices) + 1)
        )
        for index in self.out_indices[:-1] if pool is None else ():
            self.add_module(f"norm{index}", nn.LayerNorm(dim, eps=1e-6))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(_initialise)

    def forward(self, image: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> tuple[Tensor, ...]:
        """Maps (B, C, h, w), or one pooled vector (B, C, 1, 1).

        `sizes`, (H, W) of each image inside the batch: tokens wholly in the padding receive and send nothing.
        """
        return self._run(image, sizes, None)

    def dependency(self, image: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> DependencyInfo:
        """The soft dependency masks and messages of all blocks for images (B, in_channels, H, W)."""
        info = DependencyInfo(self._grid_of(image))
        self._run(image, sizes, info)
        return info

    def _run(self, image: Tensor, sizes: Any, info: DependencyInfo | None) -> tuple[Tensor, ...]:
        live = self._start(image, sizes)
        grid, rule, maps = self._grid_of(image), self.prune, []
        if info is None and rule and rule["restore"] == "parent" and not self.pool:
            info = DependencyInfo(grid)
        wants_received = self.pool == "root" or (rule is not None and rule["score"] == "received")
        received, total = live.message, torch.zeros_like(live.message)  # of the last block, of all
        for index, block in enumerate(cast("list[Block]", self.blocks)):
            self._prune(live, index, "entry", received)
            old = live.index
            flow = block.attend(live)
            if wants_received:
                received = received_mass(flow)
                places = live.index if live.index is not None else torch.arange(live.total, device=image.device)
                total = total.scatter_add(1, places.expand_as(received), received)
            if info is not None:
                info.masks.append(dependency_mask(flow))
                info.messages.append(live.message)
                info.index.append(old)
            self._prune(live, index, "attention", received)
            block.feed(live)
            self._prune(live, index, "block", received)
            if index in self.out_indices and not self.pool:
                maps.append(self._map(live, index, grid, info))
        return tuple(maps) if not self.pool else (self._pooled(live, total)[..., None, None],)

    def _start(self, image: Tensor, sizes: Any) -> LiveTokens:
        x = self.patch_embed(image)  # (B, h, w, C)
        batch, height, width = x.shape[:3]
        pos: Tensor = self.pos_embed
        if (height, width) != self.grid:
            pos = pos.unflatten(1, self.grid).permute(0, 3, 1, 2)
            pos = F.interpolate(pos, (height, width), mode="bicubic").permute(0, 2, 3, 1).flatten(1, 2)
        x = x.flatten(1, 2) + pos
        message = at_least_float32(x.new_ones(batch, height * width))
        barred = None if sizes is None else self._outside(sizes, (height, width), batch).to(x.device)
        if barred is not None:
            message = message.masked_fill(barred, 0.0)
        return LiveTokens(x, message, barred, keep_dropped=self.pool is None)

    def _outside(self, sizes: Sequence[tuple[int, int]], grid: tuple[int, int], batch: int) -> Tensor:
        """(B, N) bool: tokens without a pixel of their image."""
        if len(sizes) != batch or any(min(size) < 1 for size in sizes):
            raise ConfigError(f"DependencyViT: sizes = {sizes}, expected (H, W) for each of {batch} images")
        ends = torch.tensor([[math.ceil(side / self.patch_size) for side in size] for size in sizes])  # (B, 2)
        below = torch.arange(grid[0]) >= ends[:, :1]  # (B, h)
        right = torch.arange(grid[1]) >= ends[:, 1:]
        return (below[:, :, None] | right[:, None, :]).flatten(1)

    def _prune(self, live: LiveTokens, index: int, place: str, received: Tensor) -> None:
        """Drop tokens if it is due at this place of block `index`."""
        rule = self.prune
        if rule is None or rule["at"] != place or index + 1 not in rule["blocks"]:
            return
        count = tokens_left(live.total, rule["ratio"], 1 + rule["blocks"].index(index + 1))
        live.prune(live.message if rule["score"] == "message" else received, count)

    def _map(self, live: LiveTokens, index: int, grid: tuple[int, int], info: DependencyInfo | None) -> Tensor:
        """All tokens, those dropped restored, normalised, as a map (B, C, h, w)."""
        last = index == self.out_indices[-1]
        x = live.restored()
        if live.index is not None and self.prune and self.prune["restore"] == "parent" and info is not None:
            places = _kept_ancestors(info, live.alive()).to(x.device)
            x = x.gather(1, places.unsqueeze(-1).expand_as(x))
        x = (self.norm if last else getattr(self, f"norm{index}"))(x)
        if live.index is not None and self.prune and self.prune["restore"] == "zero":
            x = x * live.alive().unsqueeze(-1)
        return x.transpose(1, 2).unflatten(2, grid)

    def _pooled(self, live: LiveTokens, total: Tensor) -> Tensor:
        """(B, C)."""
        x = self.norm(live.x)
        if self.pool == "root":
            mass = total if live.index is None else total.gather(1, live.index)
            return x[torch.arange(len(x), device=x.device), mass.argmax(1)]
        real = torch.ones_like(live.message) if live.barred is None else (~live.barred).to(live.message)
        weight = live.message if self.pool == "message" else real
        share = weight / (weight.sum(1, keepdim=True) + 1e-6)
        return (at_least_float32(x) * share.unsqueeze(-1)).sum(1).to(x.dtype)

    def _grid_of(self, image: Tensor) -> tuple[int, int]:
        return math.ceil(image.shape[2] / self.patch_size), math.ceil(image.shape[3] / self.patch_size)


class PatchEmbedding(nn.Module):
    """Image (B, in_channels, H, W) to tokens (B, ceil(H / p), ceil(W / p), C)."""

    def __init__(self, in_channels: int, dim: int, patch_size: int, stem: str) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.stem = nn.Sequential()
        width = patch_size if stem == "linear" else 1
        if stem == "conv":
            steps = int(math.log2(patch_size))
            if 2**steps != patch_size or steps < 1:
                raise ConfigError(f'DependencyViT: stem="conv" needs a power of 2 as patch_size, not {patch_size}')
            for step in reversed(range(steps)):
                out = max(8, dim // 2**step)
                self.stem.append(nn.Conv2d(in_channels, out, 3, 2, 1, bias=False))
                self.stem.extend([nn.BatchNorm2d(out), nn.ReLU(inplace=True)])
                in_channels = out
        self.proj = nn.Conv2d(in_channels, dim, width, width)

    def forward(self, image: Tensor) -> Tensor:
        right, below = -image.shape[3] % self.patch_size, -image.shape[2] % self.patch_size
        image = F.pad(image, (0, right, 0, below)) if right or below else image
        return self.proj(self.stem(image)).permute(0, 2, 3, 1)


class Block(nn.Module):
    """Reversed attention and a perceptron, each normalised before, scaled after, and residual."""

    def __init__(self, dim: int, num_heads: int, drop_path_rate: float, scale: float | None, options: dict) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = ReversedAttention(dim, num_heads, **options)
        self.ls1 = LayerScale(dim, scale) if scale is not None else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)
        self.ls2 = LayerScale(dim, scale) if scale is not None else nn.Identity()
        self.drop_path = DropPath(drop_path_rate)

    def attend(self, live: LiveTokens) -> Flow:
        """Update the tokens and their messages."""
        y, live.message, flow = self.attn(self.norm1(live.x), live.message, live.barred)
        live.x = live.x + self.drop_path(self.ls1(y))
        return flow

    def feed(self, live: LiveTokens) -> None:
        """Update the tokens."""
        live.x = live.x + self.drop_path(self.ls2(self.mlp(self.norm2(live.x))))


class LayerScale(nn.Module):
    """A factor for each channel."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


@torch._dynamo.disable
def _kept_ancestors(info: DependencyInfo, alive: Tensor) -> Tensor:
    """Of every token itself if alive, else its nearest living ancestor in the tree of the blocks so far: (B, N)."""
    totals, wanted = info.total().detach().cpu(), alive.cpu().numpy()
    found = [decode_tree(total).nearest_ancestor(kept) for total, kept in zip(totals, wanted)]
    return torch.stack([torch.from_numpy(places) for places in found])


def _initialise(module: nn.Module) -> None:
    """Linear layers truncated normal 0.02 and bias 0, the controller's last bias as told; the rest torch's own."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, ReversedAttention):  # after its parts
        nn.init.constant_(module.message_controller.fc2.bias, module.controller_bias)


def _resolve_arch(arch: str | dict) -> dict:
    keys = ARCHS["small"]
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ConfigError(f'DependencyViT: unknown arch "{arch}"{nearest(arch, ARCHS)}')
        return ARCHS[arch]
    for key in arch:
        if key not in keys:
            raise ConfigError(f'DependencyViT: arch has no key "{key}"{nearest(str(key), keys)}')
    plan = {**keys, **arch}
    if min(plan.values()) < 1 or plan["embed_dims"] % plan["num_heads"]:
        raise ConfigError(
            f"DependencyViT: arch = {plan}; expected positive numbers, with embed_dims a multiple of num_heads"
        )
    return plan


def _resolve_indices(given: int | Sequence[int], depth: int) -> tuple[int, ...]:
    indices = [given] if isinstance(given, int) else list(given)
    indices = [index + depth if index < 0 else index for index in indices]
    if not indices or indices != sorted(set(indices) & set(range(depth))):
        raise ConfigError(f"DependencyViT: out_indices = {given}; expected increasing blocks within 0..{depth - 1}")
    return tuple(indices)


def _resolve_prune(given: dict, depth: int) -> dict:
    for key in given:
        if key not in LITE:
            raise ConfigError(f'DependencyViT: prune has no key "{key}"{nearest(str(key), LITE)}')
    rule: dict[str, Any] = {**LITE, **given}
    for key in ("score", "at", "restore"):
        _check_word(f"prune.{key}", rule[key], CHOICES[key])
    rule["blocks"] = blocks = tuple(rule["blocks"])
    if list(blocks) != sorted(set(blocks) & set(range(1, depth + 1))):
        raise ConfigError(f"DependencyViT: prune.blocks = {blocks}; expected increasing blocks within 1..{depth}")
    if not 0 <= rule["ratio"] * len(blocks) < 1:
        raise ConfigError(f"DependencyViT: prune.ratio = {rule['ratio']} at {len(blocks)} blocks leaves no token")
    return rule


def _check_word(name: str, given: Any, known: Sequence) -> None:
    if given not in known:
        raise ConfigError(f'DependencyViT: {name} = "{given}"{nearest(str(given), [k for k in known if k])}')


def _check_numbers(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number > 0:
            raise ConfigError(f"DependencyViT: {name} = {number}; expected a positive number")
