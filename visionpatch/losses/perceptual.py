"""Distances between pictures by what a frozen network sees in them.

Letters: B batch, H, W sides of a picture, C channels of a level, h, w its sides.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.converters.lpips import read_lpips
from visionpatch.errors import ConfigError, DataError
from visionpatch.registry import MODELS

# the published scaling of pictures in -1..1, and the convolutions of VGG16 up to relu5_3
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
EPS = 1e-10


class Frozen(nn.Module):
    """A network that never trains and whose weights are not saved with the model: its file is where it came from."""

    def __init__(self) -> None:
        super().__init__()
        self.register_state_dict_post_hook(_leave_out)

    def freeze(self) -> None:
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        for name, tensor in self.tensors():
            state_dict.setdefault(prefix + name, tensor)

    def tensors(self) -> list[tuple[str, Tensor]]:
        """All but the constants of the top level."""
        return [(name, tensor) for name, tensor in [*self.named_parameters(), *self.named_buffers()] if "." in name]


def _leave_out(module: nn.Module, state: dict, prefix: str, metadata: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        del state[name]


@MODELS.register_module()
class LPIPS(Frozen):
    """Learned perceptual distance on VGG16 (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a
    Perceptual Metric", CVPR 2018, arXiv:1801.03924).

    Args:
        checkpoint: the published file ``vgg.pth``, with the names ``lin0.model.1.weight`` and, where it holds the
            network too, ``net.slice1.0.weight``. None: random weights, for tests.
        vgg: ImageNet weights of VGG16 as torchvision names them, for a file that holds the ``lin`` weights alone.

    Raises:
        WeightsError: the file cannot be read or lacks weights.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, checkpoint: str | None = None, vgg: str | None = None) -> None:
        super().__init__()
        self.slices, before = nn.ModuleList(), 3
        for widths in VGG16:
            pairs = zip((before, *widths), widths)
            self.slices.append(nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs))
            before = widths[-1]
        self.lin = nn.ParameterList(torch.full((widths[-1],), 1 / widths[-1]) for widths in VGG16)
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1), False)
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1), False)
        if checkpoint is not None:
            self.load_weights(read_lpips(checkpoint, vgg))
        self.freeze()

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Fill in weights under our names, as `visionpatch.converters.lpips.convert` gives them."""
        own = dict(self.tensors())
        with torch.no_grad():
            for name, tensor in state.items():
                own[name].copy_(tensor)

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in -1..1, sides >= 16, -> distances (B, 1, 1, 1)."""
        if image.shape != other.shape or min(image.shape[-2:]) < 16:
            raise DataError(
                f"LPIPS of pictures of shapes {tuple(image.shape)} and {tuple(other.shape)}; expected equal ones, "
                "sides of 16 pixels or more"
            )
        pairs = zip(self.features(image), self.features(other), self.lin)
        levels = [((a - b).square() * weight.view(-1, 1, 1)).sum(1, keepdim=True) for a, b, weight in pairs]
        return torch.stack([level.mean((2, 3), keepdim=True) for level in levels]).sum(0)

    def features(self, image: Tensor) -> list[Tensor]:
        """Five maps (B, C, h, w), each point's channels of length 1."""
        x, maps = (image - self.shift) / self.scale, []
        for i, convs in enumerate(self.slices):
            x = F.max_pool2d(x, 2) if i else x
            for conv in convs:  # type: ignore[attr-defined]
                x = F.relu(conv(x))
            maps.append(unit_channels(x))
        return maps


@MODELS.register_module()
class FeatureDistance(Frozen):
    """Distance of the maps of a backbone, in the form of LPIPS without its learnt weights.

    Args:
        backbone: the backbone or its config; None: ``EfficientNetLite("lite0", pretrained=True)``, three stages.
        mean, std: what it subtracts and divides by, for pixels 0..255.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: dict | nn.Module | None = None,
        mean: Sequence[float] = (127.0, 127.0, 127.0),
        std: Sequence[float] = (128.0, 128.0, 128.0),
    ) -> None:
        super().__init__()
        trunk = dict(type="EfficientNetLite", arch="lite0", pretrained=True, out_indices=(0, 1, 2))
        backbone = trunk if backbone is None else backbone
        self.backbone = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), False)
        self.freeze()

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        """RGB pictures (B, 3, H, W) in -1..1 -> distances (B, 1, 1, 1), from 0 on: over the levels, the sum of the mean
        squared distance of the vectors of unit length at each point."""
        if image.shape != other.shape:
            raise DataError(f"pictures of shapes {tuple(image.shape)} and {tuple(other.shape)}; expected equal ones")
        levels = [
            (unit_channels(a) - unit_channels(b)).square().sum(1, keepdim=True).mean((2, 3), keepdim=True)
            for a, b in zip(self.maps(image), self.maps(other))
        ]
        return torch.stack(levels).sum(0)

    def maps(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.backbone(((image + 1) * 127.5 - self.mean) / self.std)


def unit_channels(x: Tensor) -> Tensor:
    """(B, C, h, w) over the length of the channels' vector at each point."""
    return x / (x.square().sum(1, keepdim=True).sqrt() + EPS)


def check_distance(loss: nn.Module | None) -> None:
    if loss is not None and not isinstance(loss, Frozen):
        raise ConfigError(f"perceptual = {type(loss).__name__}; expected LPIPS or FeatureDistance")
