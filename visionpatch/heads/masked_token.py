"""MaskedTokenTransformer: the distribution of each code of a picture, given those codes that are shown.

Letters: B pictures, h, w, c sides of a map of codes and codes at a point, K codebook size, C channels, d = C / c,
N = h*w tokens, one more with a class.
"""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError, DataError
from visionpatch.layers.attention import attention
from visionpatch.layers.mlp import Mlp
from visionpatch.layers.quantizer import check_codes
from visionpatch.registry import MODELS

EPS = 1e-12  # of every norm, as published


@MODELS.register_module()
class MaskedTokenTransformer(BaseModule):
    """A bidirectional transformer over the points of a map of codes, some of which are hidden.

    With c = 1 it is that of MaskGIT (arXiv:2202.04200): a token is the vector of its code plus that of its place,
    normalised; blocks with the norm after the addition; a layer at the end whose result is compared with the same
    vectors of codes. With c > 1 the vectors of a point's codes, of one table for all channels, are put end to end, and
    the last layer gives c vectors; any of the c codes may be hidden (MoVQ's section 3.3, whose exact form was not
    published). A class is one token before all others.

    The published network scores its class tokens and the mask too, in training; here the K codes alone are scored.

    Args:
        codebook_size: K.
        map_size: (h, w).
        code_channels: c, which divides `channels`.
        channels: C.
        depth, num_heads, mlp_channels: of the blocks.
        num_classes: of pictures; 0: none is given.
        dropout: of attention, of what is added in blocks and of the tokens at the start.

    Raises:
        ConfigError: an argument out of its range.
    """

    def __init__(
        self,
        codebook_size: int,
        map_size: Sequence[int],
        code_channels: int = 1,
        channels: int = 768,
        depth: int = 24,
        num_heads: int = 16,
        mlp_channels: int = 3072,
        num_classes: int = 0,
        dropout: float = 0.1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(map_size) != 2 or min(map_size) < 1:
            raise ConfigError(f"map_size = {tuple(map_size)}; expected rows and columns of the map of codes")
        if min(codebook_size, code_channels, channels, depth, num_heads, mlp_channels, num_classes + 1) < 1:
            raise ConfigError("MaskedTokenTransformer: sizes must be positive, num_classes 0 or more")
        if channels % code_channels or channels % num_heads:
            raise ConfigError(
                f"channels = {channels}; expected a multiple of code_channels = {code_channels} and of "
                f"num_heads = {num_heads}"
            )
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout = {dropout}; expected 0 to below 1")
        self.codebook_size, self.code_channels, self.num_classes = codebook_size, code_channels, num_classes
        self.map_size = (map_size[0], map_size[1])
        places = map_size[0] * map_size[1] + (num_classes > 0)

        self.tokens = nn.Embedding(codebook_size + 1, channels // code_channels)  # the last one: a hidden code
        self.classes = nn.Embedding(num_classes + 1, channels) if num_classes else None  # the last one: no class
        self.positions = nn.Parameter(torch.zeros(places, channels))
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(PostNormBlock(channels, num_heads, mlp_channels, dropout) for _ in range(depth))
        self.out_dense = nn.Linear(channels, channels)
        self.out_norm = nn.LayerNorm(channels, eps=EPS)
        self.out_bias = nn.Parameter(torch.zeros(code_channels, codebook_size))
        self.apply(_initialise)
        nn.init.trunc_normal_(self.positions, std=0.02, a=-0.04, b=0.04)

    @property
    def hidden(self) -> int:
        """The number that stands for a code which is not shown, K."""
        return self.codebook_size

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (B, h, w, c, K) of every code, shown or not.

        Args:
            codes: (B, h, w, c) integers from 0 to K - 1, and K where a code is hidden.
            labels: classes (B,) int64, `num_classes` standing for no class; None: no class for any.

        Raises:
            DataError: another shape or type, a map of another size, a code or a label out of its range.
        """
        self._check(codes)
        x = self.tokens(codes).flatten(3).flatten(1, 2)  # (B, h*w, C)
        if self.classes is not None or labels is not None:
            x = torch.cat([self._class_token(labels, len(codes)), x], 1)  # (B, N, C)
        x = self.dropout(self.norm(x + self.positions))
        for block in self.blocks:
            x = block(x)
        x = x[:, -self.map_size[0] * self.map_size[1] :]
        x = self.out_norm(F.gelu(self.out_dense(x), approximate="tanh"))
        x = x.view(*codes.shape, -1)  # (B, h, w, c, d)
        return x @ self.tokens.weight[: self.codebook_size].T + self.out_bias

    def loss(
        self, codes: Tensor, hidden: Tensor, labels: Tensor | None = None, label_smoothing: float = 0.1
    ) -> dict[str, Tensor]:
        """Of the codes (B, h, w, c) that are `hidden`, bool of that shape: ``loss_token``, the mean cross entropy with
        this share of the target spread evenly over the K codes, and ``accuracy``, the share that has the largest
        logit. Not finite where none is hidden."""
        logits = self(codes.masked_fill(hidden, self.hidden), labels)[hidden].float()  # (number hidden, K)
        target = codes[hidden]
        return dict(
            loss_token=F.cross_entropy(logits, target, label_smoothing=label_smoothing),
            accuracy=(logits.argmax(-1) == target).float().mean(),
        )

    def _check(self, codes: Tensor) -> None:
        check_codes(codes.masked_fill(codes == self.hidden, 0), self.codebook_size, self.code_channels)
        if tuple(codes.shape[1:3]) != self.map_size:
            raise DataError(
                f"maps of {codes.shape[1]} x {codes.shape[2]} codes (rows x columns); the transformer has learnt "
                f"positions for map_size = {self.map_size}"
            )

    def _class_token(self, labels: Tensor | None, batch: int) -> Tensor:
        """(B, 1, C)."""
        if self.classes is None:
            raise DataError("labels are given, but the transformer has num_classes = 0; leave them out, or set it")
        if labels is None:
            return self.classes.weight[-1:].expand(batch, 1, -1)
        if labels.shape != (batch,) or labels.dtype != torch.int64:
            kind = str(labels.dtype).removeprefix("torch.")
            raise DataError(f"labels of shape {tuple(labels.shape)} and type {kind}; expected int64, shape ({batch},)")
        if not labels.is_meta and (labels.min() < 0 or labels.max() > self.num_classes):
            wrong = labels[(labels < 0) | (labels > self.num_classes)][0].item()
            raise DataError(f"label {wrong}; classes run from 0 to {self.num_classes - 1}")
        return self.classes(labels).unsqueeze(1)


class PostNormBlock(nn.Module):
    """Attention over all tokens (B, N, C) and a perceptron, each added to its input and normalised after that."""

    def __init__(self, dim: int, num_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim, hidden_dim, approximate="tanh")
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, C / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, C / heads)
        mixed = attention(q, k, v, dropout=self.dropout.p if self.training else 0.0)
        x = self.norm1(x + self.dropout(self.proj(mixed.transpose(1, 2).flatten(2))))
        return self.norm2(x + self.dropout(self.mlp(x)))


def _initialise(module: nn.Module) -> None:
    """Normal numbers of deviation 0.02, cut at twice that; no bias."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
