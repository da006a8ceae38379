"""MLPClsHead: image classification by two layers from one feature map. Letters: B batch, C channels, K classes."""

from torch import nn

from visionpatch.errors import ConfigError
from visionpatch.heads.linear_cls import LinearClsHead
from visionpatch.registry import MODELS


@MODELS.register_module()
class MLPClsHead(LinearClsHead):
    """Global average pooling of one map, a linear layer, ReLU, and a linear layer: ``fc.0`` and ``fc.2``.

    The classifier of SAG-ViT. Losses and predictions are those of LinearClsHead, layers start as torch's do.

    Args:
        in_channels: channels of the map.
        num_classes: number of classes K.
        hidden_channels: between the layers.
        in_index: which map; -1 the last.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).

    Raises:
        ConfigError: an argument out of range; a map that does not fit `in_channels` (in forward).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        hidden_channels: int = 64,
        in_index: int = -1,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(in_channels, num_classes, in_index=in_index, label_smoothing=label_smoothing)
        if hidden_channels < 1:
            raise ConfigError(f"MLPClsHead: hidden_channels={hidden_channels} must be positive")
        layers = (nn.Linear(in_channels, hidden_channels), nn.ReLU(), nn.Linear(hidden_channels, num_classes))
        self.fc = nn.Sequential(*layers)  # type: ignore[assignment]
