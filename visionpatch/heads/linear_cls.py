"""LinearClsHead: image classification from one feature map. Letters: B batch, C channels, K classes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample


@MODELS.register_module()
class LinearClsHead(nn.Module):
    """Global average pooling of one map and a linear layer ``fc``.

    Args:
        in_channels: channels of the map.
        num_classes: number of classes K.
        in_index: which map; -1 the last.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ConfigError: an argument out of range; a map that does not fit `in_channels` (in forward).
    """

    def __init__(self, in_channels: int, num_classes: int, *, in_index: int = -1, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if num_classes < 1 or not 0 <= label_smoothing < 1:
            raise ConfigError(
                f"LinearClsHead: num_classes={num_classes} must be positive, "
                f"label_smoothing={label_smoothing} in [0, 1)"
            )
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.in_index = in_index
        self.label_smoothing = label_smoothing
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps (B, C_i, H_i, W_i) -> logits (B, K)."""
        number = len(features)
        if not -number <= self.in_index < number:
            raise ConfigError(f"LinearClsHead: in_index={self.in_index}, but there are {number} maps")
        x = features[self.in_index]
        if x.shape[1] != self.in_channels:
            raise ConfigError(
                f"LinearClsHead: in_channels={self.in_channels}, but the map of in_index={self.in_index} has "
                f"{x.shape[1]} channels; set in_channels={x.shape[1]}"
            )
        return self.fc(x.mean((2, 3)))

    def loss(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """``{"loss": mean cross entropy}``. Raises DataError for a sample without a label or with one out of range."""
        logits = self(features).float()
        labels = torch.stack([self._label(sample) for sample in samples]).to(logits.device)
        return {"loss": F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)}

    @torch.no_grad()
    def predict(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> list[DataSample]:
        """Fill `pred_score` (K,), the softmax, and `pred_label` (1,) of each sample."""
        for sample, score in zip(samples, self(features).float().softmax(1), strict=True):
            sample.pred_score = score
            sample.pred_label = score.argmax(0, keepdim=True)
        return list(samples)

    def _label(self, sample: DataSample) -> Tensor:
        """The sample's one label, a scalar int64."""
        if "gt_label" not in sample or sample.gt_label.numel() != 1:
            raise DataError(f"{sample.where()}: gt_label must hold one class index")
        label = sample.gt_label.reshape(()).to(torch.int64)
        if not 0 <= label < self.num_classes:
            raise BadSampleError(
                f"{sample.where()}: label {int(label)}, but LinearClsHead has num_classes={self.num_classes} "
                f"(labels 0 to {self.num_classes - 1})"
            )
        return label
