"""LinearClsHead: image classification from one feature map. Letters: B batch, C channels, K classes."""

from collections.abc import Sequence

from torch import Tensor, nn

from visionpatch.errors import ConfigError
from visionpatch.heads.cls_head import ClsHead
from visionpatch.registry import MODELS


@MODELS.register_module()
class LinearClsHead(ClsHead):
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
        super().__init__(num_classes, label_smoothing)
        self.in_channels = in_channels
        self.in_index = in_index
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps (B, C_i, H_i, W_i) -> logits (B, K)."""
        number = len(features)
        if not -number <= self.in_index < number:
            raise ConfigError(f"{type(self).__name__}: in_index={self.in_index}, but there are {number} maps")
        x = features[self.in_index]
        if x.shape[1] != self.in_channels:
            raise ConfigError(
                f"{type(self).__name__}: in_channels={self.in_channels}, but the map of in_index={self.in_index} has "
                f"{x.shape[1]} channels; set in_channels={x.shape[1]}"
            )
        return self.fc(x.mean((2, 3)))
