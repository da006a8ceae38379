"""Dice loss of the predicted probabilities.

Milletari et al., "V-Net", 3DV 2016, section 3. Letters: B batch, C classes, H, W label map.
"""

from torch import Tensor, nn

from visionpatch.losses.cross_entropy import one_hot
from visionpatch.registry import MODELS


@MODELS.register_module()
class DiceLoss(nn.Module):
    """One minus the Dice overlap of probabilities p and one-hot labels t, per image, averaged over the batch.

    With sums over all classes and the valid pixels of one image (label not `ignore_index`):

    - default: ``1 - 2 sum(p t) / (sum(p^2) + sum(t^2) + 2 eps)``
    - ``naive_dice=True``: ``1 - (2 sum(p t) + eps) / (sum(p) + sum(t) + eps)``

    Differs from mmseg in one thing: there the probabilities of ignored pixels stay in the denominator and are pushed
    down; here they count nowhere unless ``ignored_count=True``. Without ignored pixels the numbers are equal.

    With ``per_class=True, ignored_count=True, eps=5e-9`` it is the loss of SCCAN (https://github.com/Sam1224/SCCAN),
    whose denominators are at least 1e-8 where ours have 1e-8 added.

    Args:
        use_sigmoid: p is the sigmoid of each logit; False: the softmax over classes.
        activate: False when the input already holds probabilities.
        naive_dice: the first-power form.
        per_class: each class has a quotient, over its own pixels, and an image's loss is the sum of them.
        ignored_count: probabilities of ignored pixels stay in the denominator.
        loss_weight: factor of the result.
        eps: keeps the quotient finite.
        loss_name: key of the result in the head's losses.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        activate: bool = True,
        *,
        naive_dice: bool = False,
        per_class: bool = False,
        ignored_count: bool = False,
        loss_weight: float = 1.0,
        eps: float = 1e-3,
        loss_name: str = "loss_dice",
    ) -> None:
        super().__init__()
        self.use_sigmoid = use_sigmoid
        self.activate = activate
        self.naive_dice = naive_dice
        self.per_class = per_class
        self.ignored_count = ignored_count
        self.loss_weight = loss_weight
        self.eps = eps
        self.loss_name = loss_name

    def forward(self, logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
        """`logits` (B, C, H, W), `labels` (B, H, W) int64 -> a scalar."""
        p = logits.float()
        if self.activate:
            p = p.sigmoid() if self.use_sigmoid else p.softmax(1)
        valid = labels != ignore_index
        t = one_hot(labels, valid, logits.shape[1])
        if not self.ignored_count:
            p = p * valid.unsqueeze(1)
        p, t = (x.flatten(2) if self.per_class else x.flatten(1).unsqueeze(1) for x in (p, t))  # (B, C or 1, pixels)
        overlap = 2 * (p * t).sum(2)
        if self.naive_dice:
            dice = (overlap + self.eps) / (p.sum(2) + t.sum(2) + self.eps)
        else:
            dice = overlap / (p.square().sum(2) + t.square().sum(2) + 2 * self.eps)
        return self.loss_weight * (1 - dice).sum(1).mean()
