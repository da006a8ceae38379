"""Focal loss on sigmoids (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from visionpatch.errors import ConfigError, nearest

REDUCTIONS = ("none", "mean", "sum")


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``-alpha_t (1 - p_t)^gamma log(p_t)`` of each logit, its class against the rest.

    Differs from mmcv's CUDA kernel, and therefore never runs it, in two things: log(p_t) is exact for every logit
    (there ``1 - p`` is 0 beyond a logit of 17 and the loss jumps to 87 alpha_t), and the background, which has no entry
    in `weight`, counts once (there the kernel reads past the end). Half precision is computed and returned in float32.

    Args:
        input: logits (n, C).
        target: int64 (n,); C, or any number that is no class, is the background: no class is right.
        gamma: how much less the easy ones count.
        alpha: weight of the right class; the others have 1 - alpha.
        weight: (C,), factor of a sample by its target.
        reduction: "none" gives (n, C), "sum" a scalar, "mean" the sum divided by n.

    Raises:
        ConfigError: wrong shapes, target of another dtype, unknown reduction.
    """
    _check(input, target, weight, reduction)
    logits = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
    right = target[:, None] == torch.arange(input.shape[1], device=input.device)  # (n, C)
    signed = torch.where(right, logits, -logits)  # p_t = sigmoid(signed)
    loss = -F.logsigmoid(signed) * torch.where(right, alpha, 1 - alpha)
    if gamma:
        loss = loss * torch.exp(gamma * F.logsigmoid(-signed))
    if weight is not None:
        factors = torch.cat([weight, weight.new_ones(1)]).to(loss)
        known = (target >= 0) & (target < len(weight))
        loss = loss * factors[torch.where(known, target, len(weight))][:, None]
    if reduction == "none":
        return loss
    return loss.sum() / max(len(loss), 1) if reduction == "mean" else loss.sum()


def _check(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> None:
    if input.ndim != 2 or target.shape != input.shape[:1] or target.dtype != torch.int64:
        given = f"input {tuple(input.shape)}, target {tuple(target.shape)} {target.dtype}"
        raise ConfigError(f"sigmoid_focal_loss: {given} given; expected (n, C) and (n,) torch.int64")
    if weight is not None and weight.shape != input.shape[1:]:
        raise ConfigError(f"sigmoid_focal_loss: weight {tuple(weight.shape)} for {input.shape[1]} classes")
    if reduction not in REDUCTIONS:
        raise ConfigError(f'sigmoid_focal_loss: unknown reduction "{reduction}"' + nearest(str(reduction), REDUCTIONS))
