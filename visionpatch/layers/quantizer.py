"""Vector quantisation of a latent map, with one or several codes at each point.

Letters: B batch, h, w sides of the map, c codes of a point, d values of a code vector, K codebook size, N = B*h*w*c.
"""

import torch
from mmengine.dist import all_reduce, broadcast
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError, DataError
from visionpatch.layers.precision import at_least_float32, without_autocast

SCORES = {"cpu": 1 << 17, "cuda": 1 << 22}  # distances held at a time: on a CPU so many that a cache keeps them
EPS = 1e-5  # of the smoothing of counts


class VectorQuantizer(nn.Module):
    """Replaces each of the `code_channels` parts of every vector of a map by the nearest vector of one codebook.

    With one code a point it is the quantiser of VQGAN and SBER-MoVQGAN, with several that of MoVQ (section 3.2): the
    channels are cut into c parts in their order.

    Args:
        codebook_size: K.
        channels: of the map, c * d.
        code_channels: c, which divides `channels`.
        beta: weight in the loss, see `forward`.
        legacy: `beta` weighs the codebook's term, as in the published code; False: the commitment's, as meant.
        ema_decay: the codebook follows a moving average of the vectors that chose each code, and is not learnt by
            gradient; e.g. 0.99. None: by gradient.
        revive_below: in training, codes whose moving average of choices a batch falls below this become vectors of the
            batch, drawn at random (of the first process, where there are several). 0: none does.

    Raises:
        ConfigError: an argument out of its range.
    """

    ema_sum: Tensor
    ema_count: Tensor

    def __init__(
        self,
        codebook_size: int,
        channels: int,
        code_channels: int = 1,
        beta: float = 0.25,
        legacy: bool = True,
        ema_decay: float | None = None,
        revive_below: float = 0.0,
    ) -> None:
        super().__init__()
        if codebook_size < 1 or code_channels < 1 or channels < 1 or channels % code_channels:
            raise ConfigError(
                f"a codebook of {codebook_size} vectors, {code_channels} for each {channels} channels; expected "
                "positive numbers, the channels a multiple of the codes at a point"
            )
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise ConfigError(f"ema_decay = {ema_decay}; expected 0 to below 1, or None")
        if revive_below < 0:
            raise ConfigError(f"revive_below = {revive_below}; expected 0 or more")
        self.codebook_size, self.code_channels = codebook_size, code_channels
        self.beta, self.legacy, self.ema_decay, self.revive_below = beta, legacy, ema_decay, revive_below
        weight = torch.empty(codebook_size, channels // code_channels).uniform_(-1 / codebook_size, 1 / codebook_size)
        self.embedding = nn.Embedding(codebook_size, channels // code_channels, _weight=weight)
        if ema_decay is not None:  # a buffer: no optimiser, no gradient
            del self.embedding.weight
            self.embedding.register_buffer("weight", weight)
            self.register_buffer("ema_sum", weight.clone())
        if self.counted:
            self.register_buffer("ema_count", torch.ones(codebook_size))

    @property
    def counted(self) -> bool:
        return self.ema_decay is not None or self.revive_below > 0

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, c*d, h, w) -> quantised map of that shape, codes (B, h, w, c) int64, loss ().

        The gradient of the quantised map passes to `z` unchanged. The loss is
        mean((e - sg(z))^2) * beta + mean((sg(e) - z)^2), with `beta` at the other term unless `legacy`; of a codebook
        that follows moving averages, the second term alone. In training, these averages are brought up to date.
        """
        codes = self.encode(z)
        e = self.decode(codes).to(z.dtype)
        commitment = F.mse_loss(z, e.detach())
        first, second = (self.beta, 1.0) if self.legacy else (1.0, self.beta)
        loss = second * commitment
        if self.ema_decay is None:
            loss = first * F.mse_loss(e, z.detach()) + loss
        if self.training and self.counted:
            self._follow(self.rows(z.detach()), codes.flatten())
        return z + (e - z).detach(), codes, loss

    @torch.no_grad()
    def encode(self, z: Tensor) -> Tensor:
        """Map (B, c*d, h, w) -> codes (B, h, w, c), int64."""
        batch, _, height, width = z.shape
        codes = nearest_codes(self.rows(z), self.embedding.weight)
        return codes.view(batch, height, width, self.code_channels)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w, c) -> map (B, c*d, h, w).

        Raises:
            DataError: another shape or type, or a code outside of 0..K-1.
        """
        check_codes(codes, self.codebook_size, self.code_channels)
        return F.embedding(codes.long(), self.embedding.weight).flatten(3).permute(0, 3, 1, 2)

    def rows(self, z: Tensor) -> Tensor:
        """(B, c*d, h, w) -> (N, d), in the order of flattened codes (B, h, w, c)."""
        width = self.embedding.embedding_dim
        if z.shape[1] != width * self.code_channels:
            raise DataError(
                f"a map of {z.shape[1]} channels; the quantiser takes {self.code_channels} x {width}, as its codebook"
            )
        return z.permute(0, 2, 3, 1).reshape(-1, width)

    @torch.no_grad()
    def _follow(self, rows: Tensor, codes: Tensor) -> None:
        """Bring the moving averages up to date, over all processes, and replace codes that are not chosen."""
        rows, weight = rows.to(self.embedding.weight.dtype), self.embedding.weight
        count = torch.bincount(codes, minlength=self.codebook_size).to(weight.dtype)
        all_reduce(count)
        decay = 0.99 if self.ema_decay is None else self.ema_decay
        self.ema_count.lerp_(count, 1 - decay)
        if self.ema_decay is not None:
            total = torch.zeros_like(weight).index_add_(0, codes, rows)
            all_reduce(total)
            self.ema_sum.lerp_(total, 1 - decay)
            all_counts = self.ema_count.sum()
            smoothed = (self.ema_count + EPS) / (all_counts + self.codebook_size * EPS) * all_counts
            weight.copy_(self.ema_sum / smoothed[:, None])
        if self.revive_below > 0:
            self._revive(rows)

    def _revive(self, rows: Tensor) -> None:
        dead = (self.ema_count < self.revive_below).nonzero()[:, 0]
        if not len(dead):
            return
        drawn = rows[torch.randint(len(rows), (len(dead),), device=rows.device)]
        broadcast(drawn)
        self.embedding.weight[dead] = drawn
        self.ema_count[dead] = self.revive_below
        if self.ema_decay is not None:
            self.ema_sum[dead] = drawn * self.revive_below


@torch.no_grad()
def nearest_codes(rows: Tensor, codebook: Tensor) -> Tensor:
    """Index (N,) of the vector of `codebook` (K, d) that is nearest to each of `rows` (N, d); the least of equal ones.

    min over k of |e_k|^2 - 2 z.e_k, which leaves out |z|^2: one matrix product of (z, 1) with (-2 e, |e|^2), for so
    many rows at a time that the distances of SCORES[device] pairs are held.
    """
    with without_autocast(rows):
        rows = at_least_float32(rows)
        e = codebook.to(rows.dtype)
        table = torch.cat([-2 * e, e.square().sum(1, keepdim=True)], 1).T.contiguous()  # (d + 1, K)
        rows = F.pad(rows, (0, 1), value=1.0)
        at_a_time = max(1, SCORES.get(rows.device.type, SCORES["cuda"]) // len(e))
        scores = rows.new_empty(min(at_a_time, len(rows)), len(e))  # one for all, as is the result: nothing to free
        codes = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
        for part, found in zip(rows.split(at_a_time), codes.split(at_a_time)):
            torch.argmin(torch.mm(part, table, out=scores[: len(part)]), 1, out=found)
    return codes


def check_codes(codes: Tensor, codebook_size: int, code_channels: int) -> None:
    """Raise DataError unless `codes` are integers (B, h, w, code_channels) from 0 to codebook_size - 1."""
    kind = str(codes.dtype).removeprefix("torch.")
    if codes.ndim != 4 or codes.shape[-1] != code_channels or codes.is_floating_point() or codes.dtype == torch.bool:
        raise DataError(
            f"codes of shape {tuple(codes.shape)} and type {kind}; expected integers, shape (B, h, w, {code_channels})"
        )
    if codes.is_meta:  # no values to check
        return
    if codes.numel() and (codes.min() < 0 or codes.max() >= codebook_size):
        wrong = ((codes < 0) | (codes >= codebook_size)).nonzero()[0].tolist()
        raise DataError(
            f"code {codes[tuple(wrong)].item()} at (picture, row, column, channel) = {tuple(wrong)} is not in the "
            f"codebook; codes run from 0 to {codebook_size - 1}"
        )


def codebook_usage(counts: Tensor) -> tuple[Tensor, Tensor]:
    """How often each code was chosen, (K,) -> the share of codes that were, 0 to 1, and the perplexity, 1 to K.

    The perplexity is exp of the entropy: so many codes, chosen equally often, would carry as much. Without any choice
    the share is 0 and the perplexity 1.
    """
    share = counts.to(torch.float64) / counts.sum().clamp(min=1)
    perplexity = torch.special.entr(share).sum().exp()
    return (counts > 0).double().mean().float(), perplexity.float()
