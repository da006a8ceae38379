"""ClsHead: what every head that classifies whole pictures shares. Letters: B batch, K classes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.structures import DataSample


class ClsHead(nn.Module):
    """Base: a subclass gives logits (B, K) in `forward(features)`; loss and prediction are here.

    Args:
        num_classes: number of classes K.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ConfigError: an argument out of range.
    """

    def __init__(self, num_classes: int, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if num_classes < 1 or not 0 <= label_smoothing < 1:
            raise ConfigError(
                f"{type(self).__name__}: num_classes={num_classes} must be positive, "
                f"label_smoothing={label_smoothing} in [0, 1)"
            )
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def loss(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """``{"loss": mean cross entropy}`` with `gt_score` of the samples, or `gt_label` where none has a `gt_score`.

        Smoothing a mixture of two labels equals mixing two smoothed ones, so that both together are timm's.

        Raises:
            DataError: a sample without a target.
            BadSampleError: a label out of range, a `gt_score` of another length.
        """
        logits = self(features).float()
        target = self.targets(samples).to(logits.device)
        return {"loss": F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)}

    @torch.no_grad()
    def predict(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> list[DataSample]:
        """Fill `pred_score` (K,), the softmax, and `pred_label` (1,) of each sample."""
        for sample, score in zip(samples, self(features).float().softmax(1), strict=True):
            sample.pred_score = score
            sample.pred_label = score.argmax(0, keepdim=True)
        return list(samples)

    def targets(self, samples: Sequence[DataSample]) -> Tensor:
        """Class indices (B,) int64; class probabilities (B, K) float32 as soon as one sample has a `gt_score`."""
        if any("gt_score" in sample for sample in samples):
            return soft_targets(samples, self.num_classes)
        return hard_targets(samples, self.num_classes)


def hard_targets(samples: Sequence[DataSample], num_classes: int) -> Tensor:
    """`gt_label` of each sample: (B,) int64.

    Raises:
        DataError: a sample without a label or with several.
        BadSampleError: a label outside [0, K).
    """
    for sample in samples:
        if "gt_label" not in sample or sample.gt_label.numel() != 1:
            raise DataError(f"{sample.where()}: gt_label must hold one class index")
    labels = torch.stack([sample.gt_label.reshape(()).to(torch.int64) for sample in samples])  # (B,)
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise BadSampleError(
            f"{samples[first].where()}: label {int(labels[first])}, but the head has num_classes={num_classes} "
            f"(labels 0 to {num_classes - 1})"
        )
    return labels


def soft_targets(samples: Sequence[DataSample], num_classes: int) -> Tensor:
    """`gt_score` of each sample, or its `gt_label` one-hot: (B, K) float32. Raises as `hard_targets`."""
    for sample in samples:
        if "gt_score" in sample and sample.gt_score.shape != (num_classes,):
            raise BadSampleError(
                f"{sample.where()}: gt_score has the shape {tuple(sample.gt_score.shape)}, but the head has "
                f"num_classes={num_classes}; expected ({num_classes},)"
            )
    hard = [sample for sample in samples if "gt_score" not in sample]
    rows = iter(F.one_hot(hard_targets(hard, num_classes), num_classes).float() if hard else ())
    return torch.stack([sample.gt_score.float() if "gt_score" in sample else next(rows) for sample in samples])
