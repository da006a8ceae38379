"""Reversed attention of DependencyViT (Ding et al., CVPR 2023, arXiv 2304.03282).

A token (child, sender, query s) sends its value to its parents (recipients, keys r) with weights that sum to 1 over
the recipients, instead of gathering values with weights that sum to 1 over the senders:

    A^F[h, s, r] = softmax over r of q_hs . k_hr / sqrt(d)
    y[h, r]      = sum over s of gate[h, s] A^F[h, s, r] v_hs          gate[h, s] = M[s] P[s, h]

That A^F is transposed after its softmax, and that a head selector P and a message controller M are imposed on it, is
in the caption of the paper's Fig. 2; their formulas are those of huggingface/pytorch-image-models#2062, made from the
paper by another author. Values marked (our choice) are stated in neither.

B batch, N tokens, S senders of a piece, C channels, h heads, d channels a head.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from visionpatch.layers.mlp import Mlp
from visionpatch.layers.precision import at_least_float32, without_autocast

Form = Literal["auto", "dense", "chunked", "fused"]
FORMS = ("auto", "dense", "chunked", "fused")
PIECE = 2**19  # scores of a piece: 2 MB, what a CPU core's cache holds
DENSE_LIMIT = 2**28  # scores in all, up to which a GPU keeps them; 1 GB


class Flow(NamedTuple):
    """What decides how much every token sends to every other: all of A^R but the values."""

    q: Tensor  # (B, h, N, d)
    k: Tensor  # (B, h, N, d)
    gate: Tensor  # (B, h, N), M[s] P[s, h]
    barred: Tensor | None  # (B, N) bool, tokens that receive nothing


class ReversedAttention(nn.Module):
    """Multi-head reversed attention with head selector and message controller.

    Args:
        dim: channels C.
        num_heads: heads h.
        tau: temperature of the head selector.
        controller_ratio: hidden channels of the message controller over C.
        controller_bias: initial bias of the controller's output; 4 lets 98 % of a message pass (our choice).
        qkv_bias: of queries, keys and values.
        direction: "forward" is attention as usual with the same parameters, for comparison.
        form, chunk_size: how `reversed_attention` computes.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        tau: float = 0.1,
        controller_ratio: float = 0.5,
        controller_bias: float = 4.0,
        qkv_bias: bool = False,
        direction: Literal["reversed", "forward"] = "reversed",
        form: Form = "auto",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.num_heads, self.tau, self.controller_bias = num_heads, tau, controller_bias
        self.direction, self.form, self.chunk_size = direction, form, chunk_size
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.head_selector = nn.Linear(dim, num_heads, bias=False)
        self.message_controller = Mlp(dim, max(1, int(dim * controller_ratio)), out_dim=1)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, message: Tensor, barred: Tensor | None = None) -> tuple[Tensor, Tensor, Flow]:
        """Normalised tokens (B, N, C) and what they still send, `message` (B, N) in 0..1.

        `barred` (B, N) bool marks tokens that are no recipients. Returns the tokens received (B, N, C), the message
        after this block's controller (B, N), and the flow.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, h, N, d)
        control, select = self.message_controller(x), self.head_selector(x)  # (B, N, 1), (B, N, h)
        with without_autocast(x):  # sums over up to N terms of one sign
            message = message * at_least_float32(control).sigmoid().squeeze(-1)
            share = (at_least_float32(select) / self.tau).softmax(-1)  # (B, N, h)
            flow = Flow(at_least_float32(q), at_least_float32(k), (share * message.unsqueeze(-1)).mT, barred)
            attend = reversed_attention if self.direction == "reversed" else forward_attention
            y = attend(flow, at_least_float32(v), self.form, self.chunk_size)
        return self.proj(y.transpose(1, 2).flatten(2).to(x.dtype)), message, flow


def reversed_attention(flow: Flow, v: Tensor, form: Form = "auto", chunk_size: int | None = None) -> Tensor:
    """What every token receives of the values v (B, h, N, d): (B, h, N, d).

    All forms give the same numbers to rounding:

    - "dense" keeps all h N^2 scores.
    - "chunked" goes through the senders in pieces: the softmax is over recipients, so a piece is complete in itself.
      `chunk_size` senders a piece; None takes as many as the cache holds.
    - "fused" keeps no scores: `scaled_dot_product_attention` with the roles of queries and keys swapped.

    "auto": in pieces on a CPU; on a GPU dense while the scores fit, fused beyond. A `chunk_size` asks for "chunked".
    """
    if form == "auto":
        form = "chunked" if chunk_size else _best_form(flow)
    if form == "fused":
        return _fused(flow, v)
    n = v.shape[2]
    senders = n if form == "dense" else chunk_size or max(1, min(n, PIECE // n))
    return _in_pieces(flow, v, senders, v.shape[0] * v.shape[1] if form == "dense" else max(1, PIECE // (senders * n)))


def forward_attention(flow: Flow, v: Tensor, form: Form = "auto", chunk_size: int | None = None) -> Tensor:
    """Attention as usual, times the gate of the token that gathers: (B, h, N, d) to the same."""
    allowed = None if flow.barred is None else ~flow.barred[:, None, None, :]
    return F.scaled_dot_product_attention(flow.q, flow.k, v, attn_mask=allowed) * flow.gate.unsqueeze(-1)


def dependency_mask(flow: Flow, chunk_size: int = 256) -> Tensor:
    """The soft dependency mask A^M (B, N, N), recipient first: sum over heads of A^R. A sender's column sums to M."""
    pieces = []
    for start in range(0, flow.q.shape[2], chunk_size):
        part = slice(start, start + chunk_size)
        scores = _scores(flow.q[:, :, part], flow.k)
        if flow.barred is not None:
            scores = scores.masked_fill(flow.barred[:, None, None, :], -torch.inf)
        pieces.append((scores.softmax(-1) * flow.gate[:, :, part, None]).sum(1))  # (B, S, N)
    return torch.cat(pieces, 1).mT


def received_mass(flow: Flow, form: Form = "auto", chunk_size: int | None = None) -> Tensor:
    """What each token receives in all, the row sums of A^M: (B, N)."""
    return reversed_attention(flow, torch.ones_like(flow.gate).unsqueeze(-1), form, chunk_size).sum((1, 3))


def _best_form(flow: Flow) -> Form:
    if flow.q.device.type != "cuda":
        return "chunked"
    return "dense" if flow.gate.numel() * flow.q.shape[2] <= DENSE_LIMIT else "fused"


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """(..., S, d), (..., N, d) to q . k / sqrt(d), (..., S, N)."""
    return (q * q.shape[-1] ** -0.5) @ k.mT


def _in_pieces(flow: Flow, v: Tensor, senders: int, rows: int) -> Tensor:
    """`rows` pairs of image and head at a time, `senders` senders of each."""
    q, k, v, gate = (x.flatten(0, 1) for x in (flow.q, flow.k, v, flow.gate))  # (B h, N, ...)
    heads, n = flow.q.shape[1], flow.q.shape[2]
    bars = None
    if flow.barred is not None:
        bars = flow.barred[:, None].expand(-1, heads, -1).flatten(0, 1)[:, None]  # (B h, 1, N)
    recompute = senders < n and torch.is_grad_enabled() and q.requires_grad  # keep no scores for the backward pass
    outs = []
    for row in range(0, len(q), rows):
        these, total = slice(row, row + rows), v.new_zeros(())
        bar = None if bars is None else bars[these]
        for start in range(0, n, senders):
            part = (these, slice(start, start + senders))
            given = (q[part], k[these], v[part], gate[part], bar)
            total = total + (checkpoint(_send, *given, use_reentrant=False) if recompute else _send(*given))
        outs.append(total)
    return torch.cat(outs).unflatten(0, (-1, heads))


def _send(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, bar: Tensor | None) -> Tensor:
    """Senders (R, S, d) with their values and gates to recipients (R, N, d): what these get, (R, N, d)."""
    scores = _scores(q, k)  # (R, S, N)
    if bar is not None:
        scores = scores.masked_fill(bar, -torch.inf)
    return scores.softmax(-1).mT @ (v * gate.unsqueeze(-1))


def _fused(flow: Flow, v: Tensor) -> Tensor:
    """Two passes of `scaled_dot_product_attention`, without any N x N tensor.

    With lse[s] = logsumexp over r of the scores, the weight of s for r is exp(k_r . q_s / sqrt(d) + b[s]), b[s] =
    log gate[s] - lse[s]: attention with recipients as queries and senders as keys, but for the division by the weights'
    sum. A null sender of score 0 is added; its weight 1 / (1 + sum) gives the sum back. The bias b is the product
    of one more channel. lse comes from a first pass in the same way (`_log_sum_exp`).
    """
    d = v.shape[-1]
    scale = flow.q.shape[-1] ** -0.5
    tiny = torch.finfo(flow.gate.dtype).tiny
    bias = (flow.gate.clamp_min(tiny).log() - _log_sum_exp(flow, scale)) / scale
    recipients = _widen(flow.k, torch.ones_like(bias))
    senders = _with_null(_widen(flow.q, bias), 0)
    values = _with_null(_widen(v, torch.zeros_like(bias)), d)
    width = max(senders.shape[-1], values.shape[-1])
    recipients, senders, values = (F.pad(x, (0, width - x.shape[-1])) for x in (recipients, senders, values))
    if flow.barred is not None:  # their scores have no upper bound
        recipients = recipients.masked_fill(flow.barred[:, None, :, None], 0.0)
    y = F.scaled_dot_product_attention(recipients, senders, values, scale=scale)
    y = y[..., :d] / y[..., d : d + 1]
    return y if flow.barred is None else y.masked_fill(flow.barred[:, None, :, None], 0.0)


def _log_sum_exp(flow: Flow, scale: float) -> Tensor:
    """Log of the sum over recipients of exp(scores), (B, h, N).

    The null recipient's score e is the mean score under the softmax, which lies within log N of the result, so that its
    weight exp(e) / (exp(e) + sum) tells the sum precisely whatever the scores' size.
    """
    k = flow.k
    bar = torch.zeros_like(flow.gate)
    if flow.barred is not None:
        bar = bar.masked_fill(flow.barred[:, None, :], -1e9)
    ones = torch.ones_like(flow.gate)
    with torch.no_grad():
        mean = F.scaled_dot_product_attention(_widen(flow.q, ones), _widen(k, bar), _widen(k, bar * 0), scale=scale)
        near = (flow.q * mean[..., : k.shape[-1]]).sum(-1) * scale  # (B, h, N)
    senders = _widen(flow.q, ones, near / scale)
    recipients = _with_null(_widen(k, bar, torch.zeros_like(bar)), k.shape[-1] + 1)
    picks = torch.zeros_like(recipients)
    picks[:, :, -1, 0] = 1.0
    null = F.scaled_dot_product_attention(senders, recipients, picks, scale=scale)[..., 0]
    return near + torch.log(1.0 / null - 1.0)


def _widen(x: Tensor, *columns: Tensor) -> Tensor:
    """(B, h, N, d) with more channels (B, h, N) behind, then zeros up to a multiple of 8, as fused kernels want."""
    short = -(x.shape[-1] + len(columns)) % 8
    return F.pad(torch.cat([x, torch.stack(columns, -1)], -1), (0, short))


def _with_null(x: Tensor, channel: int) -> Tensor:
    """(B, h, N, d) with one more token: zeros, and 1 in `channel` where that is not 0."""
    null = torch.zeros_like(x[:, :, :1])
    if channel:
        null[..., channel] = 1.0
    return torch.cat([x, null], 2)
