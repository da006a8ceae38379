"""Losses of box deltas. Letters: N samples."""

from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError
from visionpatch.losses.reduction import weighted_sum
from visionpatch.registry import MODELS


@MODELS.register_module()
class L1Loss(nn.Module):
    """The absolute difference, times `loss_weight`."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: float) -> Tensor:
        """(N, 4) both -> a scalar: rows times `weight` (N,), summed over N and the four, over `avg_factor`."""
        return self.loss_weight * weighted_sum((pred - target).abs(), weight, avg_factor)


@MODELS.register_module()
class SmoothL1Loss(nn.Module):
    """Quadratic below a difference of `beta`, linear above (Girshick, "Fast R-CNN", ICCV 2015), times `loss_weight`."""

    def __init__(self, beta: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        if beta <= 0:
            raise ConfigError(f"SmoothL1Loss: beta={beta} must be positive; L1Loss is the limit at 0")
        self.beta, self.loss_weight = beta, loss_weight

    def forward(self, pred: Tensor, target: Tensor, *, weight: Tensor | None = None, avg_factor: float) -> Tensor:
        """As `L1Loss`."""
        loss = F.smooth_l1_loss(pred, target, reduction="none", beta=self.beta)
        return self.loss_weight * weighted_sum(loss, weight, avg_factor)
