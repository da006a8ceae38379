"""Self-calibrated cross attention of a query's and a support set's tokens (Xu et al., ICCV 2023, arXiv 2308.09294).

B queries, U support sets (several queries may share one), H, W sides of a token map, C channels, h heads, d channels a
head, n patches of a map, t tokens of a patch. Token maps are channel-last, (B, H, W, C).

The support branch does not depend on the queries, so it runs once for each support set, which may then serve queries
that come later; the keys and values of its patches are computed before patches are chosen. Both give the published
numbers with less work.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.layers.attention import attention
from visionpatch.layers.mlp import Mlp
from visionpatch.layers.precision import at_least_float32, without_autocast

MASK_EPS = 5e-4  # of the published masked means
COSINE_EPS = 1e-7  # of the published cosines


class SupportPatches(NamedTuple):
    """What queries see of U support sets at one block: normalised patches (U, n, t, C), their weights (U, n, t), unit
    keys and values of each head (U, n, h, t, d)."""

    tokens: Tensor
    weight: Tensor
    keys: Tensor
    values: Tensor


class SCCATransformer(nn.Module):
    """Blocks of self-calibrated cross attention; every second one on patches shifted by half a patch.

    The last block's support half has parameters, as in the published network, but its result is used by nothing: it is
    computed only on request and gets no gradient otherwise.

    Args:
        dim: channels C. depth: number of blocks. num_heads: heads h. patch_size: side of a patch in tokens.
        mlp_ratio: hidden channels of the perceptrons, in multiples of C.
    """

    def __init__(self, dim: int, depth: int, num_heads: int, patch_size: int, mlp_ratio: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SCCABlock(dim, num_heads, patch_size, patch_size // 2 if index % 2 else 0, mlp_ratio)
            for index in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, query: Tensor, support: Tensor, mask: Tensor, owner: Tensor, with_support: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Query tokens after the last block, normalised, and the support tokens that entered the last block.

        Args:
            query: (B, H, W, C). support: (U, H, W, C). mask: weight 0..1 of the support tokens, (U, H, W).
            owner: (B,) index of each query's support set.
            with_support: run the last block's support half as well and return its result.
        """
        patches, support = self.support_branch(support, mask, with_support)
        return self.query_branch(query, patches, owner), support

    def support_branch(
        self, support: Tensor, mask: Tensor, with_last: bool = False
    ) -> tuple[list[SupportPatches], Tensor]:
        """What queries see at each block, for `query_branch`; and the support tokens as `forward` returns them."""
        last, patches = len(self.blocks) - 1, []
        for index, block in enumerate(cast(Sequence[SCCABlock], self.blocks)):
            patches.append(block.shown(support, mask))
            if with_last or index < last:
                support = block.next_support(support, patches[-1])
        return patches, support

    def query_branch(self, query: Tensor, patches: Sequence[SupportPatches], owner: Tensor) -> Tensor:
        """Query tokens after the last block, normalised."""
        for block, shown in zip(cast(Sequence[SCCABlock], self.blocks), patches, strict=True):
            query = block(query, shown, owner)
        return self.norm(query)


class SCCABlock(nn.Module):
    """Query tokens attend to their own patch and to the support patch most like it; support tokens to their own patch.

    Args:
        shift: the patches' grid begins this many tokens before the map; 0 or half a patch.
    """

    def __init__(self, dim: int, num_heads: int, patch_size: int, shift: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.patch_size, self.shift = patch_size, shift
        self.norm1 = nn.LayerNorm(dim)
        self.query_attn = QKV(dim, num_heads)
        self.support_attn = QKV(dim, num_heads)
        self.align = PatchAlignment()
        self.norm2 = nn.LayerNorm(dim)
        self.query_mlp = Mlp(dim, hidden)
        self.support_mlp = Mlp(dim, hidden)

    def forward(self, query: Tensor, shown: SupportPatches, owner: Tensor) -> Tensor:
        """Queries (B, H, W, C) and what they see of U support sets to queries of the next block."""
        own = self._patches(self.norm1(query))  # (B, n, t, C)
        chosen = self.align(own.detach(), shown.tokens.detach(), shown.weight, owner)  # (B, n)
        attended = self._cross_attention(own, shown, chosen, owner)
        query = query + self.query_attn.proj(self._tokens(attended, query.shape[1:3]))
        return query + self.query_mlp(self.norm2(query))

    def shown(self, support: Tensor, mask: Tensor) -> SupportPatches:
        """Support sets (U, H, W, C) and their masks (U, H, W) to what the queries see of them."""
        tokens = self._patches(self.norm1(support))  # (U, n, t, C)
        keys, values = (x.unflatten(0, (len(support), -1)) for x in self.query_attn.keys_and_values(tokens))
        return SupportPatches(tokens, self._patches(mask.unsqueeze(-1)).squeeze(-1), _unit(keys), values)

    def next_support(self, support: Tensor, shown: SupportPatches) -> Tensor:
        """Support sets (U, H, W, C) of the next block."""
        attended = _heads_joined(attention(*self.support_attn(shown.tokens)), len(support))
        support = support + self.support_attn.proj(self._tokens(attended, support.shape[1:3]))
        return support + self.support_mlp(self.norm2(support))

    def _cross_attention(self, own: Tensor, shown: SupportPatches, chosen: Tensor, owner: Tensor) -> Tensor:
        """(B, n, t, C) to the same: one softmax over the own patch and the chosen one of the support.

        Scores of own tokens are scaled products q k / sqrt(d), those of support tokens cosines q k / (|q| |k|).
        """
        q, k, v = self.query_attn(own)  # (B n, h, t, d)
        far_k, far_v = (x[owner.unsqueeze(1), chosen].flatten(0, 1) for x in (shown.keys, shown.values))
        scores = q @ torch.cat([k * q.shape[-1] ** -0.5, far_k], 2).transpose(2, 3)  # (B n, h, t, 2t)
        scores[..., k.shape[2] :] /= q.norm(dim=3, keepdim=True) + COSINE_EPS
        return _heads_joined(scores.softmax(3) @ torch.cat([v, far_v], 2), len(own))

    def _patches(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to patches (B, n, t, C), row by row; zeros where a patch leaves the map.

        A shifted grid begins `shift` tokens before the map and ends as many, or the rest of a patch, behind it.
        """
        size, rows, cols = self.patch_size, *self._grid(*x.shape[1:3])
        below, right = (n * size - self.shift - side for n, side in zip((rows, cols), x.shape[1:3]))
        x = F.pad(x, (0, 0, self.shift, right, self.shift, below))
        x = x.unflatten(2, (cols, size)).unflatten(1, (rows, size))  # (B, rows, size, cols, size, C)
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _tokens(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """The inverse of `_patches`, without what left the map."""
        side, (height, width) = self.patch_size, size
        x = x.unflatten(1, self._grid(height, width)).unflatten(3, (side, side))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return x[:, self.shift : self.shift + height, self.shift : self.shift + width]

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches."""
        more = 1 if self.shift else 0
        return -(-height // self.patch_size) + more, -(-width // self.patch_size) + more


class QKV(nn.Module):
    """The linear layers of multi-head attention: `q`, `kv` (keys first) and `proj`."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, n, t, C) to three of (B n, h, t, d)."""
        q = self.q(patches).unflatten(-1, (self.num_heads, -1)).flatten(0, 1).transpose(1, 2)
        return (q, *self.keys_and_values(patches))

    def keys_and_values(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        kv = self.kv(patches).unflatten(-1, (2, self.num_heads, -1)).flatten(0, 1)  # (B n, t, 2, h, d)
        k, v = kv.transpose(1, 3).unbind(2)
        return k, v


class PatchAlignment(nn.Module):
    """Which support patch is most like a query patch. No parameters, no gradient.

    A query patch is described by the mean of its tokens, a support patch by their mean weighted with the mask. Scores
    are (cosine + 1) / 2, and 0 for a support patch without mask. Of equal scores the first patch wins, so an empty mask
    gives patch 0 everywhere.
    """

    @torch.no_grad()
    def forward(self, query: Tensor, support: Tensor, weight: Tensor, owner: Tensor) -> Tensor:
        """Patches (B, n, t, C), (U, n, t, C), weights (U, n, t), owner (B,) to indices (B, n) of support patches."""
        with without_autocast(query):  # near-ties must not depend on a short mantissa
            query, support, weight = (at_least_float32(x) for x in (query, support, weight))
            ours = query.mean(2)  # (B, n, C)
            total = weight.sum(2, keepdim=True) + MASK_EPS  # (U, n, 1)
            theirs = (weight.unsqueeze(2) @ support).squeeze(2) / total
            length = ours.norm(dim=2).unsqueeze(2) * theirs.norm(dim=2)[owner].unsqueeze(1)
            score = (ours @ theirs.transpose(1, 2)[owner] / (length + COSINE_EPS) + 1) / 2  # (B, n, n)
            return (score * (total != MASK_EPS).transpose(1, 2)[owner]).argmax(2)


def _unit(x: Tensor) -> Tensor:
    """`x` over its length along the last axis; 0 stays 0."""
    return x / (x.norm(dim=-1, keepdim=True) + COSINE_EPS)


def _heads_joined(x: Tensor, batch: int) -> Tensor:
    """(B n, h, t, d) to (B, n, t, h d)."""
    return x.transpose(1, 2).flatten(2).unflatten(0, (batch, -1))
