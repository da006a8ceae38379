"""Which codes are masked, in training and while codes are drawn in parallel (MaskGIT, arXiv:2202.04200, section 3).

Letters: B pictures, h, w, c sides of a map of codes and codes at a point, N = h*w*c, K codebook size, T steps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visionpatch.errors import ConfigError, nearest

SCHEDULES = ("cosine", "uniform", "log", "exp", "pow2")
LEAST = 1e-6  # share of codes that a schedule leaves masked at its end, as published
LEAST_UNIFORM = 2.0**-25  # stands for a random number 0, whose logarithm is not finite


@dataclass(frozen=True)
class MaskedSampling:
    """How hidden codes are drawn, a part of them at each step.

    A step draws all codes that are still hidden, each from its own distribution, and hides those again of which the
    network was least certain, so many as the schedule says; the codes of the last step are the result.

    Args:
        steps: T; 8 to 16 in the paper. N steps with "uniform" fix one code at a time.
        schedule: see `masked_share`.
        choice_temperature: of the random part of certainty, which falls linearly to 0 at the last step; 4.5 as
            published for ImageNet. 0: the certainty alone counts.
        temperature: of the distributions; 0: the likeliest code, always.
        top_k: draw from the likeliest so many codes only; 0: from all.
        guidance: s in u + s (l - u), of logits l with a class and u without (arXiv:2207.12598); 1: l itself.

    Raises:
        ConfigError: an argument out of its range.
    """

    steps: int = 12
    schedule: str = "cosine"
    choice_temperature: float = 4.5
    temperature: float = 1.0
    top_k: int = 0
    guidance: float = 1.0

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        if self.steps < 1:
            raise ConfigError(f"steps = {self.steps}; expected 1 or more")
        for name in ("choice_temperature", "temperature", "top_k", "guidance"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} = {getattr(self, name)}; expected 0 or more")

    @torch.no_grad()
    def complete(
        self, logits_of: Callable[[Tensor], Tensor], codes: Tensor, hidden: int, seeds: Sequence[int]
    ) -> Tensor:
        """Codes (B, h, w, c) with every one that equals `hidden` replaced by one drawn; all others stay.

        Args:
            logits_of: codes (B, h, w, c), some of them `hidden`, -> logits (B, h, w, c, K).
            codes: int64. hidden: the number that is no code, K.
            seeds: one a picture. What is drawn for it depends on its seed, not on the pictures beside it.
        """
        start = (codes == hidden).flatten(1).sum(1)  # (B,)
        if not start.any():
            return codes
        streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        for step in range(self.steps):
            unknown = codes == hidden
            drawn, certainty = self._draw(logits_of(codes), streams, 1 - (step + 1) / self.steps)
            drawn = torch.where(unknown, drawn, codes)
            if step + 1 < self.steps:
                count = masked_after(self.schedule, (step + 1) / self.steps, start, unknown.flatten(1).sum(1))
                again = least(certainty.masked_fill(~unknown, math.inf), count)
                codes = drawn.masked_fill(again, hidden)
        return drawn

    def _draw(self, logits: Tensor, streams: Sequence[torch.Generator], rest: float) -> tuple[Tensor, Tensor]:
        """Logits (B, h, w, c, K) -> codes (B, h, w, c) and how certain each is, noise included; `rest`: 1 to 0.

        Certainty is the logarithm of a code's probability at temperature 1 among all codes.
        """
        noise = torch.stack([torch.rand(2, *logits.shape[1:-1], generator=one) for one in streams], 1).to(logits.device)
        logits = logits.float()
        drawn = logits.argmax(-1) if self.temperature == 0 else self._from_uniform(logits, noise[0])
        certainty = logits.gather(-1, drawn.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        gumbel = -(-noise[1].clamp(min=LEAST_UNIFORM).log()).log()
        return drawn, certainty + self.choice_temperature * rest * gumbel

    def _from_uniform(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """The codes at which the cumulated probabilities (B, h, w, c, K) exceed numbers (B, h, w, c) in [0, 1)."""
        if 0 < self.top_k < logits.shape[-1]:
            least_kept = logits.topk(self.top_k, -1).values[..., -1:]
            logits = logits.masked_fill(logits < least_kept, -math.inf)
        cumulated = (logits / self.temperature).softmax(-1).cumsum(-1)
        total = cumulated[..., -1:]
        point = (uniform.unsqueeze(-1) * total).minimum(total.nextafter(torch.zeros_like(total)))  # rounded up to it
        return torch.searchsorted(cumulated, point, right=True).squeeze(-1)


def check_schedule(name: str) -> None:
    """Raise ConfigError unless `masked_share` knows the schedule."""
    if name not in SCHEDULES and exponent(name) is None:
        raise ConfigError(f'schedule = "{name}"{nearest(str(name), SCHEDULES)} ("pow" goes with any positive exponent)')


def exponent(name: str) -> float | None:
    """a of "powa"; None where the name is no such schedule."""
    try:
        value = float(name.removeprefix("pow")) if name.startswith("pow") else -1.0
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def masked_share(schedule: str, ratio: Tensor, total: Tensor | int) -> Tensor:
    """Share of `total` codes that is masked at `ratio`, 0 to 1, of the way: 1e-6 to 1, float64.

    "cosine" cos(pi r / 2), "uniform" 1 - r, "pow2", "pow0.5" ...: 1 - r^a, "log" -log2(r) / log2(total), "exp"
    1 - 2^(-log2(total) (1 - r)).
    """
    ratio, bits = ratio.double(), torch.as_tensor(total, device=ratio.device).double().clamp(min=2).log2()
    if schedule == "cosine":
        share = (math.pi / 2 * ratio).cos()
    elif schedule == "log":
        share = -ratio.log2() / bits
    elif schedule == "exp":
        share = 1 - torch.exp2(-bits * (1 - ratio))
    else:
        share = 1 - ratio ** (exponent(schedule) or 1.0)
    return share.clamp(LEAST, 1)


def masked_after(schedule: str, ratio: float, start: Tensor, unknown: Tensor) -> Tensor:
    """How many codes stay hidden at `ratio` of the way: (B,) int64.

    Of pictures with `start` (B,) hidden ones at the beginning and `unknown` (B,) now: at least one, at most one less
    than now; the last one that is hidden stays so until the end.
    """
    aim = masked_share(schedule, torch.tensor(ratio, device=start.device), start) * start
    return aim.floor().long().minimum(unknown - 1).clamp(min=1).minimum(unknown)


def least(values: Tensor, count: Tensor) -> Tensor:
    """Where the `count` (B,) least of `values` (B, ...) are, bool; of equal ones those that come first."""
    rank = values.flatten(1).argsort(dim=1, stable=True).argsort(dim=1)
    return (rank < count.unsqueeze(1)).view_as(values)


def random_mask(codes: Tensor, schedule: str) -> Tensor:
    """Which of the codes (B, h, w, c) to mask in training, bool: in each picture ceil(share * N) at places drawn
    uniformly, at a ratio drawn from [0, 1), with torch's global numbers of the device."""
    total = codes[0].numel()
    ratio = torch.rand(len(codes), device=codes.device)
    count = (masked_share(schedule, ratio, total) * total).ceil()  # 1 to N
    return least(torch.rand(codes.shape, device=codes.device), count)
