"""Image classification: a backbone and a head."""

from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from visionpatch.errors import ConfigError, nearest
from visionpatch.heads.cls_head import soft_targets
from visionpatch.models.batch_augment import checked_train_cfg
from visionpatch.models.wiring import build, check_channels
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample


@MODELS.register_module()
class Classifier(BaseModel):
    """One of `head.num_classes` classes for an image.

    Args:
        backbone, head, data_preprocessor: modules or configs of them.
        train_cfg: ``dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)], probs=None)`` mixes
            the pictures of a batch in training, see `BatchAugment`.

    Raises:
        ConfigError: a head whose `in_channels` do not fit, or a wrong `train_cfg`.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        data_preprocessor: dict | nn.Module | None = None,
        train_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(build(data_preprocessor or dict(type="DataPreprocessor")), init_cfg)
        self.backbone, self.head = build(backbone), build(head)
        self.augment = checked_train_cfg(train_cfg)
        check_channels("model.head", self.head, self.backbone)

    @property
    def num_classes(self) -> int:
        return self.head.num_classes

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = "tensor") -> Any:
        """A normalised batch (B, C, H, W) to class scores ("tensor"), losses ("loss") or samples with `pred_label` and
        `pred_score` ("predict")."""
        samples = data_samples or []
        if mode == "loss" and self.augment is not None and self.training:
            targets = soft_targets(samples, self.num_classes).to(inputs.device)
            inputs, samples = self.augment(inputs, targets, samples)
        features = self.backbone(inputs)
        if mode == "tensor":
            return self.head(features)
        if mode == "loss":
            return self.head.loss(features, samples)
        if mode == "predict":
            return self.head.predict(features, samples or [DataSample() for _ in inputs])
        raise ConfigError(f'Classifier: mode = "{mode}"{nearest(mode, ("tensor", "loss", "predict"))}')
