"""Focal loss: binary cross entropy in which examples that are easily right count little.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5. Letters: N samples, K classes.
"""

from torch import Tensor, nn

from visionpatch.errors import ConfigError
from visionpatch.losses.reduction import weighted_sum
from visionpatch.ops import sigmoid_focal_loss
from visionpatch.registry import MODELS


@MODELS.register_module()
class FocalLoss(nn.Module):
    """``-alpha_t (1 - p_t)^gamma log(p_t)`` of each class against the rest, with the sigmoid p.

    Args:
        use_sigmoid: must be True.
        gamma: 0 gives the balanced cross entropy.
        alpha: weight of the positive term; the negative one has 1 - alpha.
        loss_weight: factor of the result.
    """

    def __init__(
        self, use_sigmoid: bool = True, gamma: float = 2.0, alpha: float = 0.25, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        if not use_sigmoid or gamma < 0 or not 0 <= alpha <= 1:
            raise ConfigError(
                f"FocalLoss: use_sigmoid={use_sigmoid} must be True, gamma={gamma} not negative, "
                f"alpha={alpha} in [0, 1]"
            )
        self.use_sigmoid, self.gamma, self.alpha, self.loss_weight = use_sigmoid, gamma, alpha, loss_weight

    def forward(self, logits: Tensor, labels: Tensor, *, weight: Tensor | None = None, avg_factor: float) -> Tensor:
        """`logits` (N, K), `labels` (N,) int64, K standing for none of the classes -> a scalar.

        The losses of a row times its `weight` (N,); the sum over `avg_factor`.
        """
        loss = sigmoid_focal_loss(logits.float().contiguous(), labels, self.gamma, self.alpha, None, "none")
        return self.loss_weight * weighted_sum(loss, weight, avg_factor)
