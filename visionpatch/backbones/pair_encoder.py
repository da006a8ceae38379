"""Encoders of pairs: a visible and a thermal picture to the feature maps of each.

B pairs, C channels, H and W height and width in pixels.
"""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import MODELS

SPECTRA = ("visible", "thermal")
Maps = tuple[Tensor, ...]  # fine to coarse, (B, C_i, H_i, W_i)


class PairBackbone(BaseModule):
    """Base class: `encode` takes pictures of one spectrum, `forward` pairs; neither sees values of the other spectrum.

    Subclasses publish `out_channels` and `out_strides`, which hold for both spectra. `exact_windows`: a whole picture's
    maps, cut at multiples of their strides, are those of the windows by themselves (nothing is padded or normalised
    over the picture).
    """

    out_channels: tuple[int, ...]
    out_strides: tuple[int, ...]
    exact_windows = False

    def forward(self, visible: Tensor, thermal: Tensor) -> tuple[Maps, Maps]:
        """Grey pictures (B, 1, H, W) of each spectrum -> the maps of the visible and those of the thermal one."""
        return self.encode(visible, "visible"), self.encode(thermal, "thermal")

    def encode(self, image: Tensor, spectrum: str) -> Maps:
        """Grey pictures (B, 1, H, W) of `spectrum` ("visible" or "thermal") -> their maps."""
        raise NotImplementedError


class TwinEncoder(PairBackbone):
    """Two encoders, or one for both spectra.

    A shared encoder sees both spectra in one batch: its batch norms then train on the mixture they are used with
    later, and an exchange of the two pictures exchanges the results.

    Args:
        visible: (B, 1, H, W) -> tuple of maps. thermal: the same for the other spectrum; None: `visible` serves both.
    """

    def __init__(self, visible: nn.Module, thermal: nn.Module | None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.visible, self.thermal = visible, thermal

    def forward(self, visible: Tensor, thermal: Tensor) -> tuple[Maps, Maps]:
        if self.thermal is None:
            return split(self.visible(torch.cat([visible, thermal])))
        return self.visible(visible), self.thermal(thermal)

    def encode(self, image: Tensor, spectrum: str) -> Maps:
        check_spectrum(spectrum)
        encoder = self.visible if spectrum == "visible" or self.thermal is None else self.thermal
        return encoder(image)


@MODELS.register_module()
class PairEncoder(TwinEncoder):
    """Any backbone of the toolbox as encoder of pairs; grey pictures are repeated to the channels it reads.

    Args:
        visible: a backbone or its config. thermal: the same for the other spectrum; None: `visible` serves both.

    Raises:
        ConfigError: backbones whose maps differ in channels or strides.
    """

    def __init__(
        self, visible: dict | nn.Module, thermal: dict | nn.Module | None = None, init_cfg: dict | None = None
    ) -> None:
        first = GreyBackbone(visible)
        second = None if thermal is None else GreyBackbone(thermal)
        super().__init__(first, second, init_cfg)
        self.out_channels, self.out_strides = first.out_channels, first.out_strides
        for name in ("out_channels", "out_strides"):
            if second is not None and getattr(first, name) != getattr(second, name):
                raise ConfigError(
                    f"PairEncoder: {name} of visible = {getattr(first, name)}, of thermal = {getattr(second, name)}; "
                    "choose two backbones with equal maps"
                )


class GreyBackbone(nn.Module):
    """A backbone behind a repetition of the grey channel: (B, 1, H, W) -> its maps."""

    def __init__(self, backbone: dict | nn.Module) -> None:
        super().__init__()
        built: Any = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        self.backbone = built
        first = next((m for m in built.modules() if isinstance(m, nn.Conv2d)), None)
        self.in_channels = 3 if first is None else first.in_channels
        self.out_channels = tuple(built.out_channels)
        self.out_strides = tuple(built.out_strides)

    def forward(self, image: Tensor) -> Maps:
        return self.backbone(image.expand(-1, self.in_channels, -1, -1))


def split(maps: Maps) -> tuple[Maps, Maps]:
    """Maps of a batch of 2B pictures -> those of the first B and of the last B."""
    halves = [x.chunk(2) for x in maps]
    return tuple(a for a, _ in halves), tuple(b for _, b in halves)


def check_spectrum(spectrum: str) -> None:
    """Raises ConfigError unless `spectrum` is "visible" or "thermal"."""
    if spectrum not in SPECTRA:
        raise ConfigError(f'spectrum = "{spectrum}"{nearest(str(spectrum), SPECTRA)}')
