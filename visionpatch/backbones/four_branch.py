"""FourBranchEncoder, the encoder of MD-FRN (Zhang et al., arXiv 2308.04880).

The paper's abstract names a four-branch network and nothing else of it. Here two branches share their weights, and hold
what both spectra have in common, and two have their own; layers and widths are ours.

B pairs, C channels, w base width, H and W height and width in pixels; S the shared branch, U the ones of one spectrum.
"""

import torch
from torch import Tensor, nn

from visionpatch.backbones.pair_encoder import Maps, PairBackbone, check_spectrum, split
from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.conv_module import ConvModule
from visionpatch.registry import MODELS

SHARINGS = ("hybrid", "none", "siamese", "pseudo")
STAGES = 4
INSTANCE_NORM_STAGES = 2  # what tells spectra apart lies in the statistics of shallow features (AFD-Net)
SLOPE = 0.1  # of the leaky ReLUs


@MODELS.register_module()
class FourBranchEncoder(PairBackbone):
    """Grey pictures (B, 1, H, W) of two spectra -> for each `num_scales` maps; the coarsest has stride 16.

    Maps have 2w, 4w, 8w channels and strides 4, 8, 16 (``num_scales=3``), sides are rounded down. A map is
    CBR1x1([S ; U]) with weights that both spectra share, so that their features can be compared.

    Args:
        width: channels w of the first stage.
        sharing: "hybrid", S for both spectra and U for each; "none", as that with an S for each (four different
            branches); "siamese", only S; "pseudo", only U.
        num_scales: how many maps, 1 to 4, coarsest last.

    Raises:
        ConfigError: an argument out of range; pictures smaller than 16 x 16 (in forward).
    """

    def __init__(
        self, width: int = 32, sharing: str = "hybrid", num_scales: int = 3, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        if sharing not in SHARINGS:
            raise ConfigError(f'FourBranchEncoder: sharing = "{sharing}"{nearest(str(sharing), SHARINGS)}')
        if width < 1 or not 1 <= num_scales <= STAGES:
            raise ConfigError(
                f"FourBranchEncoder: width={width} must be positive, num_scales={num_scales} in 1..{STAGES}"
            )
        self.sharing, self.num_scales = sharing, num_scales
        stages = range(STAGES - num_scales, STAGES)
        self.out_channels = tuple(width * 2**stage for stage in stages)
        self.out_strides = tuple(2 ** (stage + 1) for stage in stages)
        own = sharing != "siamese"
        self.shared = Branch(width, num_scales) if sharing in ("hybrid", "siamese") else None
        self.common = nn.ModuleDict(_of_each(width, num_scales) if sharing == "none" else {})
        self.own = nn.ModuleDict(_of_each(width, num_scales) if own else {})
        branches = 1 if sharing in ("siamese", "pseudo") else 2
        self.fuse = nn.ModuleList(ConvModule(branches * c, c, 1, norm_cfg=dict(type="BN")) for c in self.out_channels)

    def forward(self, visible: Tensor, thermal: Tensor) -> tuple[Maps, Maps]:
        both = self._branch_maps(visible, thermal)
        return split(self._fuse(both))

    def encode(self, image: Tensor, spectrum: str) -> Maps:
        check_spectrum(spectrum)
        _check_size(image)
        branches: list[nn.Module] = [self.shared] if self.shared is not None else []
        branches += [part[spectrum] for part in (self.common, self.own) if spectrum in part]
        return self._fuse([branch(image) for branch in branches])

    def _branch_maps(self, visible: Tensor, thermal: Tensor) -> list[Maps]:
        """Of each kind of branch the maps of a batch of 2B pictures, visible ones first."""
        _check_size(visible)
        found = []
        if self.shared is not None:
            found.append(self.shared(torch.cat([visible, thermal])))
        for part in (self.common, self.own):
            if len(part):
                of_visible, of_thermal = part["visible"](visible), part["thermal"](thermal)
                found.append(tuple(torch.cat(pair) for pair in zip(of_visible, of_thermal)))
        return found

    def _fuse(self, found: list[Maps]) -> Maps:
        return tuple(fuse(torch.cat(maps, 1)) for fuse, maps in zip(self.fuse, zip(*found)))


class Branch(nn.Module):
    """Four stages of two 3x3 convolutions and a 2x2 max pooling: (B, 1, H, W) -> the last `num_scales` maps."""

    def __init__(self, width: int, num_scales: int) -> None:
        super().__init__()
        channels = [1, *(width * 2**stage for stage in range(STAGES))]
        self.stages = nn.ModuleList(
            nn.Sequential(*_conv(channels[i], channels[i + 1]), *_conv(channels[i + 1], channels[i + 1]))
            for i in range(STAGES)
        )
        self.norms = nn.ModuleList(nn.InstanceNorm2d(c, affine=True) for c in channels[1 : INSTANCE_NORM_STAGES + 1])
        self.pool = nn.MaxPool2d(2)
        self.first = STAGES - num_scales

    def forward(self, x: Tensor) -> Maps:
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)  # (B, w * 2^index, H / 2^index, W / 2^index)
            if index < INSTANCE_NORM_STAGES:
                x = self.norms[index](x)
            x = self.pool(x)
            if index >= self.first:
                maps.append(x)
        return tuple(maps)


def _conv(in_channels: int, out_channels: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, SLOPE, nonlinearity="leaky_relu")
    return [conv, nn.BatchNorm2d(out_channels), nn.LeakyReLU(SLOPE, inplace=True)]


def _of_each(width: int, num_scales: int) -> dict[str, nn.Module]:
    return {spectrum: Branch(width, num_scales) for spectrum in ("visible", "thermal")}


def _check_size(image: Tensor) -> None:
    if min(image.shape[-2:]) < 2**STAGES:
        raise ConfigError(
            f"FourBranchEncoder: pictures of {image.shape[-2]} x {image.shape[-1]} pixels, expected at least "
            f"{2**STAGES} x {2**STAGES}"
        )
