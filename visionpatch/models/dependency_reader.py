"""DependencyReader: foreground and parts out of the dependencies of a DependencyViT, without learning them."""

from typing import Any, Literal

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.backbones.dependency_vit import DependencyViT
from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.dependency import DependencyInfo
from visionpatch.layers.dependency_tree import decode_tree, tree_parts
from visionpatch.layers.resize import resize
from visionpatch.models.wiring import build
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample


@MODELS.register_module()
class DependencyReader(BaseModel):
    """What `SaliencyMetric` and `PartMetric` measure, of a backbone that another model has trained.

    Nothing is learnt here: a Classifier's checkpoint fits, its head is left out.

    Args:
        backbone, data_preprocessor: modules or configs of them; the backbone a DependencyViT.
        saliency: what stands out: tokens that still send late in the network ("message") or that receive much
            ("received"), see `DependencyInfo.saliency`.
        parts: number of parts to cut the tree into; None decodes no tree.

    Raises:
        ConfigError: another backbone, a number or word out of range.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        data_preprocessor: dict | nn.Module | None = None,
        saliency: Literal["message", "received"] = "message",
        parts: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(build(data_preprocessor or dict(type="DataPreprocessor")), init_cfg)
        self.backbone = build(backbone)
        if not isinstance(self.backbone, DependencyViT):
            kind = type(self.backbone).__name__
            raise ConfigError(f"model.backbone = {kind}; DependencyReader reads a DependencyViT only")
        if saliency not in ("message", "received"):
            raise ConfigError(f'model.saliency = "{saliency}"{nearest(str(saliency), ("message", "received"))}')
        if parts is not None and parts < 1:
            raise ConfigError(f"model.parts = {parts}; expected 1 or more, or None")
        self.saliency, self.parts = saliency, parts

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = "tensor") -> Any:
        """A normalised batch (B, C, H, W) to saliency (B, H, W) in 0..1 ("tensor"), or the samples with
        `pred_saliency` and, with `parts`, `pred_sem_seg`, both of their original size ("predict").

        Raises:
            ConfigError: mode "loss", an unknown mode.
        """
        if mode == "tensor":
            return self._saliency(self.backbone.dependency(inputs), tuple(inputs.shape[2:]))
        if mode == "predict":
            samples = data_samples or [DataSample() for _ in inputs]
            return [self._read(image, sample) for image, sample in zip(inputs, samples, strict=True)]
        if mode == "loss":
            raise ConfigError("DependencyReader learns nothing; train its backbone in another model, a Classifier say")
        raise ConfigError(f'DependencyReader: mode = "{mode}"{nearest(mode, ("tensor", "predict"))}')

    def _read(self, image: Tensor, sample: DataSample) -> DataSample:
        """One image (C, H, W); its padding is cut off, so that no token stands for padding."""
        size = tuple(sample.get("img_shape", image.shape[1:])[:2])
        full = sample.get("ori_shape", size)[:2]
        info = self.backbone.dependency(image[None, :, : size[0], : size[1]])
        saliency = resize(self._saliency(info, size).unsqueeze(1), full)[0]  # (1, H, W)
        sample.pred_saliency = PixelData(data=saliency.clamp(0, 1))
        if self.parts is not None:
            parts = torch.from_numpy(tree_parts(decode_tree(info.total()[0]), info.received()[0], self.parts))
            maps = self._pixels(parts.view(1, 1, *info.grid).float(), size)
            sample.pred_sem_seg = PixelData(data=F.interpolate(maps, full, mode="nearest-exact")[0].long())
        return sample

    def _saliency(self, info: DependencyInfo, size: tuple[int, ...]) -> Tensor:
        """(B, H, W) at `size`, (H, W) of the input; tokens may reach beyond it."""
        stride = self.backbone.patch_size
        return info.saliency((info.grid[0] * stride, info.grid[1] * stride), self.saliency)[:, : size[0], : size[1]]

    def _pixels(self, tokens: Tensor, size: tuple[int, ...]) -> Tensor:
        """A value a token (1, 1, h, w) to the pixels it stands for, (1, 1, H, W)."""
        stride = self.backbone.patch_size
        grown = tokens.repeat_interleave(stride, 2).repeat_interleave(stride, 3)
        return grown[..., : size[0], : size[1]]
