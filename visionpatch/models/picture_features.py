"""Pictures of any size to feature vectors, for distances between sets of pictures.

Letters: B pictures, H, W their sides, D features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.backbones.inception_fid import SIDE, InceptionFID
from visionpatch.errors import ConfigError, DataError
from visionpatch.losses.perceptual import Frozen
from visionpatch.models.wiring import build
from visionpatch.registry import MODELS


class PictureFeatures(Frozen):
    """What both extractors do: RGB pictures (3, H, W) of 0..255, of any sizes, -> (B, D).

    Attributes:
        name: of the distance by these features.
    """

    name: str

    def forward(self, pictures: Sequence[Tensor]) -> Tensor:
        for picture in pictures:
            if picture.ndim != 3 or picture.shape[0] != 3:
                raise DataError(f"a picture of shape {tuple(picture.shape)}; expected RGB (3, H, W)")
        resized = [self.resize(picture[None].float()) for picture in pictures]
        if len({one.shape for one in resized}) == 1:
            return self.features(torch.cat(resized))
        return torch.cat([self.features(one) for one in resized])

    def resize(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W) to the size the network sees."""
        raise NotImplementedError

    def features(self, batch: Tensor) -> Tensor:
        """(B, 3, H, W) of 0..255 -> (B, D)."""
        raise NotImplementedError


@MODELS.register_module()
class InceptionFeatures(PictureFeatures):
    """The 2048 features of `InceptionFID`, with which a Frechet distance is called ``FID``.

    Pictures are resized to 299 x 299 as pytorch-fid does: bilinearly from pixel centres, without a low-pass filter;
    values then go from 0..255 to -1..1.

    Args:
        checkpoint: the file ``pt_inception-2015-12-05-6726825d.pth``. None: random weights, for tests; the name is then
            ``FD-random``.

    Raises:
        WeightsError: no such file, or another one.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        super().__init__()
        self.network = InceptionFID(checkpoint)
        self.name = "FD-random" if checkpoint is None else "FID"
        self.freeze()

    def resize(self, picture: Tensor) -> Tensor:
        return F.interpolate(picture, (SIDE, SIDE), mode="bilinear", align_corners=False)

    def features(self, batch: Tensor) -> Tensor:
        return self.network(batch / 127.5 - 1)


@MODELS.register_module()
class BackboneFeatures(PictureFeatures):
    """The mean over the pixels of a backbone's last map, for a Frechet distance under another name than FID.

    Args:
        backbone: the backbone or its config; None: ``EfficientNetLite("lite0", pretrained=True, with_head_conv=True)``,
            D = 1280, named ``FD-EfficientNetLite0``.
        name: of the distance; None: "FD-" and the class of the backbone.
        size: pictures are resized to size x size, bilinearly with a low-pass filter; None: they keep their sizes.
        mean, std: what the backbone subtracts and divides by, for pixels 0..255.

    Raises:
        ConfigError: `name` is "FID", or a size below 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: dict | nn.Module | None = None,
        name: str | None = None,
        size: int | None = 224,
        mean: Sequence[float] = (127.0, 127.0, 127.0),
        std: Sequence[float] = (128.0, 128.0, 128.0),
    ) -> None:
        super().__init__()
        if (name or "").lower().endswith("fid") or (size is not None and size < 1):
            raise ConfigError(
                f'BackboneFeatures: name = "{name}", size = {size}; FID is the distance by InceptionFeatures alone, '
                "and a size is 1 or more"
            )
        trunk = dict(type="EfficientNetLite", arch="lite0", pretrained=True, out_indices=(3,), with_head_conv=True)
        self.backbone = build(trunk if backbone is None else backbone)
        self.name = name or ("FD-EfficientNetLite0" if backbone is None else f"FD-{type(self.backbone).__name__}")
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), False)
        self.freeze()

    def resize(self, picture: Tensor) -> Tensor:
        if self.size is None:
            return picture
        return F.interpolate(picture, (self.size, self.size), mode="bilinear", antialias=True)

    def features(self, batch: Tensor) -> Tensor:
        return self.backbone((batch - self.mean) / self.std)[-1].mean((2, 3))
