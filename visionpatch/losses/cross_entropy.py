"""Cross entropy per pixel, with OpenMMLab's averaging and online hard example mining.

Letters: B batch, C classes, H, W label map.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionpatch.errors import ConfigError, nearest
from visionpatch.losses.reduction import weighted_sum
from visionpatch.registry import MODELS


@MODELS.register_module()
class CrossEntropyLoss(nn.Module):
    """The sum of the per-pixel losses over the valid pixels, divided as OpenMMLab divides it, times `loss_weight`.

    A pixel is valid when its label is not `ignore_index`. The divisor is

    - softmax without class weights: the number of ALL pixels of the batch, ignored ones included; with
      ``avg_non_ignore=True`` the number of valid pixels;
    - softmax with class weights: the sum of the valid pixels' class weights;
    - sigmoid: C times the number of all (or, with ``avg_non_ignore=True``, of valid) pixels.

    Detection heads give the divisor themselves, see `forward`.

    Args:
        use_sigmoid: binary cross entropy of each class against the rest instead of the softmax; `class_weight` then
            weighs the positive term of each class.
        class_weight: one weight per class.
        loss_weight: factor of the result.
        avg_non_ignore: see above. False, OpenMMLab's default, lets a crop that is mostly ignored count for less.
        ohem: ``dict(thresh=0.7, min_kept=100000)`` keeps the hard pixels only, see `hard_pixels`; the divisor stays.
        use_mask: the mean binary cross entropy of logits against masks of the same shape, values 0 to 1.
        loss_name: key of the result in the head's losses; it is minimised when it contains "loss".

    Raises:
        ConfigError: `ohem` with an unknown key or together with `use_sigmoid`; a wrong number of class weights;
            `use_mask` together with another choice.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        use_sigmoid: bool = False,
        class_weight: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        *,
        avg_non_ignore: bool = False,
        ohem: Mapping[str, Any] | None = None,
        use_mask: bool = False,
        loss_name: str = "loss_ce",
    ) -> None:
        super().__init__()
        if use_mask and (use_sigmoid or ohem is not None or class_weight is not None):
            raise ConfigError("CrossEntropyLoss: use_mask=True goes with neither use_sigmoid, class_weight nor ohem")
        self.use_sigmoid, self.use_mask = use_sigmoid, use_mask
        self.loss_weight = loss_weight
        self.avg_non_ignore = avg_non_ignore
        self.ohem = None if ohem is None else _check_ohem(ohem, use_sigmoid)
        self.loss_name = loss_name
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weight, persistent=False)

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        ignore_index: int = 255,
        *,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
    ) -> Tensor:
        """`logits` (B, C, H, W) or (B, C), `labels` (B, H, W) or (B,) int64 -> a scalar.

        With an `avg_factor`, for `logits` (B, C): the sum of the losses, each times its `weight` (B,), over
        `avg_factor`. No label is ignored then, and to the sigmoid a label outside [0, C) is none of the classes.
        """
        logits = logits.float()
        if self.use_mask:
            return self.loss_weight * F.binary_cross_entropy_with_logits(logits, labels.float())
        if self.class_weight is not None and len(self.class_weight) != logits.shape[1]:
            raise ConfigError(f"CrossEntropyLoss: {len(self.class_weight)} class weights for {logits.shape[1]} classes")
        if avg_factor is not None:
            return self.loss_weight * weighted_sum(self._each(logits, labels), weight, avg_factor)
        return self._per_pixel(logits, labels, ignore_index)

    def _each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of every label: (B,) of the softmax, (B, C) of the sigmoid."""
        if not self.use_sigmoid:
            return F.cross_entropy(logits, labels, weight=self.class_weight, reduction="none")
        known = (labels >= 0) & (labels < logits.shape[1])
        target = one_hot(labels, known, logits.shape[1])
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.class_weight, reduction="none")

    def _per_pixel(self, logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
        weight, valid = self.class_weight, labels != ignore_index
        if self.use_sigmoid:
            loss, divisor = self._sigmoid(logits, labels, valid)
        else:
            loss = F.cross_entropy(logits, labels, weight=weight, reduction="none", ignore_index=ignore_index)
            if self.ohem is not None:
                loss = loss * hard_pixels(logits, labels, valid, loss, **self.ohem)
            divisor = self._count(labels, valid) if weight is None else weight[labels[valid]].sum()
        # differs from mmseg, which divides 0 by 0 when every pixel is ignored
        return self.loss_weight * loss.sum() / divisor.clamp(min=torch.finfo(torch.float32).eps)

    def _sigmoid(self, logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Binary losses (B, C, ...), 0 on ignored pixels, and their divisor."""
        target = one_hot(labels, valid, logits.shape[1])
        weight = self.class_weight
        if weight is not None:
            weight = weight.view(-1, *[1] * (logits.ndim - 2))
        loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
        return loss * valid.unsqueeze(1), self._count(labels, valid) * logits.shape[1]

    def _count(self, labels: Tensor, valid: Tensor) -> Tensor:
        return valid.sum().float() if self.avg_non_ignore else valid.new_tensor(labels.numel(), dtype=torch.float32)


def one_hot(labels: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """(B, ...) class indices -> (B, C, ...) float32; all zeros where not `valid`."""
    target = torch.zeros((len(labels), num_classes, *labels.shape[1:]), device=labels.device)
    index = torch.where(valid, labels, 0).unsqueeze(1)
    return target.scatter_(1, index, valid.unsqueeze(1).float())


@torch.no_grad()
def hard_pixels(
    logits: Tensor, labels: Tensor, valid: Tensor, loss: Tensor, thresh: float | None = None, min_kept: int = 100000
) -> Tensor:
    """Online hard example mining: 1 on the pixels that count, 0 elsewhere, (B, H, W).

    With a `thresh`, those valid pixels whose softmax probability of the true class lies below it; if that leaves fewer
    than ``min_kept * B``, those below the probability of rank ``min_kept * B`` (from 0, the least probable first).
    Without one, the ``min_kept * B`` valid pixels of the largest `loss`.
    """
    keep = torch.zeros_like(loss)
    number = int(valid.sum())
    if number == 0:
        return keep
    kept = min_kept * len(labels)
    if thresh is None:
        hardest = loss[valid].sort(descending=True).indices[:kept]
        chosen = keep[valid]
        chosen[hardest] = 1
    else:
        index = torch.where(valid, labels, 0).unsqueeze(1)
        probability = logits.softmax(1).gather(1, index).squeeze(1)[valid]
        bound = probability.sort().values[min(kept, number - 1)].clamp(min=thresh)
        chosen = (probability < bound).to(keep.dtype)
    keep[valid] = chosen
    return keep


def _check_ohem(ohem: Mapping[str, Any], use_sigmoid: bool) -> dict[str, Any]:
    for name in ohem:
        if name not in ("thresh", "min_kept"):
            raise ConfigError(f'CrossEntropyLoss: ohem has no key "{name}"' + nearest(name, ("thresh", "min_kept")))
    if use_sigmoid:
        raise ConfigError("CrossEntropyLoss: ohem works on the softmax; set use_sigmoid=False or drop ohem")
    return dict(ohem)
