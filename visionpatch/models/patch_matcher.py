"""PatchMatcher: whether a visible and a thermal patch show the same place.

Letters: B pairs, N windows, C channels, H, W sides of a picture, h, w sides of a patch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from visionpatch.backbones.pair_encoder import Maps, PairBackbone, check_spectrum
from visionpatch.errors import ConfigError, DataError, nearest
from visionpatch.models.wiring import build, check_channels
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

MODES = ("tensor", "loss", "predict")
CHUNK = 256  # windows that are encoded together


@MODELS.register_module()
class PatchMatcher(BaseModel):
    """An encoder of pairs and a head that compares the maps of the two patches.

    Args:
        head, backbone, data_preprocessor: modules or configs of them. Without a backbone the head reads the patches
            themselves; a backbone is an encoder of pairs: FourBranchEncoder, PatchEncoder, PairEncoder. The data
            preprocessor is PatchPairPreprocessor unless given.

    Raises:
        ConfigError: a head whose `in_channels` do not fit, a backbone that takes single pictures.
    """

    def __init__(
        self,
        head: dict | nn.Module,
        backbone: dict | nn.Module | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(build(data_preprocessor or dict(type="PatchPairPreprocessor")), init_cfg)
        self.backbone = build(Patches() if backbone is None else backbone)
        self.head = build(head)
        if not isinstance(self.backbone, PairBackbone):
            name = type(self.backbone).__name__
            raise ConfigError(
                f"model.backbone = {name} takes single pictures; write "
                f'backbone=dict(type="PairEncoder", visible=dict(type="{name}", ...)) to use it for pairs'
            )
        check_channels("model.head", self.head, self.backbone)

    def forward(
        self,
        inputs: Mapping[str, Tensor] | Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """``dict(visible=..., thermal=...)``, normalised grey patches (B, 1, h, w) of one size.

        mode "tensor": scores (B,), higher where the patches are more alike, logits where the method has a probability.
        "loss": dict of losses. "predict": the samples with `pred_score` (1,). One tensor (B, C, h, w) is read as its
        first and its last channel, to count operations.

        Raises:
            ConfigError: an unknown mode. DataError: a spectrum is missing, or the patches differ in number or size.
        """
        visible, thermal = _pair(inputs)
        if mode not in MODES:
            raise ConfigError(f'PatchMatcher: mode = "{mode}"{nearest(mode, MODES)}')
        maps = self.backbone(visible, thermal)
        if mode == "tensor":
            return self.head.score(*maps)
        if mode == "loss":
            return self.head.loss(*maps, data_samples or [])
        return self.head.predict(*maps, data_samples or [DataSample() for _ in visible])

    def encode(self, patches: Tensor, spectrum: str) -> Maps:
        """Normalised patches (N, 1, h, w) of "visible" or "thermal" -> maps for `compare`, for any number of pairs."""
        return self.backbone.encode(patches, spectrum)

    def compare(self, visible_maps: Maps, thermal_maps: Maps) -> Tensor:
        """Maps of N pairs -> scores (N,), as mode "tensor". One patch on either side is compared with all others.

        Raises:
            DataError: different numbers of patches, neither of which is one.
        """
        numbers = len(visible_maps[0]), len(thermal_maps[0])
        if numbers[0] != numbers[1] and 1 not in numbers:
            raise DataError(
                f"compare: {numbers[0]} visible and {numbers[1]} thermal patches; give pairs, or one to all"
            )
        many = max(numbers) if min(numbers) else 0
        return self.head.score(_repeated(visible_maps, many), _repeated(thermal_maps, many))

    @property
    def exact_windows(self) -> bool:
        """Whether `encode_windows` with `share` gives the maps of the windows by themselves."""
        return self.backbone.exact_windows

    def encode_windows(
        self, picture: Tensor, corners: Tensor, spectrum: str, size: int = 64, share: bool = False
    ) -> Maps:
        """Maps of windows of one normalised picture, for `compare`, each as `encode` gives it.

        Args:
            picture: (1, H, W). Where every patch is normalised by itself, cut and normalise the windows, and `encode`
                them instead.
            corners: (N, 2) integers, the least x and y of each window, which must lie in the picture.
            spectrum: "visible" or "thermal". size: side of the windows.
            share: cut windows whose corners differ by multiples of the coarsest stride from the maps of one picture
                that holds them all. Less work for windows on a grid; the same maps where `exact_windows`, otherwise
                near ones, since the padding and the norms are those of that picture.

        Raises:
            DataError: no window, or one outside the picture.
        """
        height, width = picture.shape[-2:]
        corners = corners.cpu()
        if not len(corners) or corners.min() < 0 or (corners + size > torch.tensor([width, height])).any():
            raise DataError(
                f"windows of {size} pixels, expected one or more inside {width} x {height} (width x height)"
            )
        if not share:
            parts = [
                self.encode(cut_windows(picture, some, 1, (size, size)), spectrum) for some in corners.split(CHUNK)
            ]
            return tuple(torch.cat(level) for level in zip(*parts))
        phases, group = (corners % max(self.backbone.out_strides)).unique(dim=0, return_inverse=True)
        members = [(group == index).nonzero()[:, 0] for index in range(len(phases))]
        found = [self._shared_windows(picture, corners[some], spectrum, size) for some in members]
        order = torch.cat(members).argsort().to(picture.device)
        return tuple(torch.cat(level)[order] for level in zip(*found))

    def _shared_windows(self, picture: Tensor, corners: Tensor, spectrum: str, size: int) -> Maps:
        """As `encode_windows`, of windows whose corners differ by multiples of every stride."""
        x, y = corners.min(0).values.tolist()
        right, bottom = (corners.max(0).values + size).tolist()
        maps = self.encode(picture[None, :, y:bottom, x:right], spectrum)
        sides = [one.shape[-2:] for one in self.encode(picture[None, :, y : y + size, x : x + size], spectrum)]
        first = torch.tensor([x, y])
        cut = zip(maps, self.backbone.out_strides, sides)
        return tuple(cut_windows(one[0], corners - first, stride, side) for one, stride, side in cut)


class Patches(PairBackbone):
    """No encoder: the patches are their own maps."""

    out_channels, out_strides, exact_windows = (1,), (1,), True

    def encode(self, image: Tensor, spectrum: str) -> Maps:
        check_spectrum(spectrum)
        return (image,)


def cut_windows(x: Tensor, corners: Tensor, stride: int, side: Sequence[int]) -> Tensor:
    """Windows (N, C, rows, columns) of a map (C, H, W): `side` = (rows, columns) cells from cell ``corner // stride``.

    `corners` (N, 2) holds x and y in pixels.
    """
    first = corners.to(x.device) // stride
    columns = first[:, :1] + torch.arange(side[1], device=x.device)  # (N, columns)
    rows = first[:, 1:] + torch.arange(side[0], device=x.device)
    return x[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1)


def _pair(inputs: Mapping[str, Tensor] | Tensor) -> tuple[Tensor, Tensor]:
    """The patches of both spectra, (B, 1, h, w) each."""
    if isinstance(inputs, Tensor):
        return inputs[:, :1], inputs[:, -1:]
    missing = {"visible", "thermal"} - set(inputs)
    if missing:
        raise DataError(f"a pair without {' and '.join(sorted(missing))}; inputs holds {sorted(inputs)}")
    visible, thermal = inputs["visible"], inputs["thermal"]
    if visible.shape != thermal.shape:
        raise DataError(
            f"visible patches of shape {tuple(visible.shape)}, thermal ones of {tuple(thermal.shape)}; expected equal "
            "shapes (B, 1, h, w)"
        )
    return visible, thermal


def _repeated(maps: Maps, number: int) -> Maps:
    return tuple(x.expand(number, -1, -1, -1) if len(x) == 1 else x for x in maps)
