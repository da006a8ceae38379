"""PatchEncoder: the encoders of the published networks that compare patches.

B patches, C channels, w base width, H and W height and width in pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.backbones.pair_encoder import Maps, TwinEncoder
from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.patch_trunk import PatchTrunk, he_normal
from visionpatch.layers.precision import at_least_float32
from visionpatch.registry import MODELS

ARCHS = ("aguilera", "hardnet", "sosnet", "hynet", "afd_net", "fil_net")
DROPOUT = {"hardnet": 0.3, "sosnet": 0.1, "hynet": 0.3}
SLOPE = 0.1  # of FIL-Net's leaky ReLUs


@MODELS.register_module()
class PatchEncoder(TwinEncoder):
    """One of the published encoders, for both spectra or one for each.

    | arch | maps of a 64 x 64 patch | source |
    |---|---|---|
    | aguilera | 256 x 1 x 1 | Aguilera et al., CVPR workshops 2016: siamese (shared) and pseudo-siamese (not shared) |
    | hardnet, sosnet | 128 x 1 x 1 | Mishchuk et al., NeurIPS 2017; Tian et al., CVPR 2019; shared |
    | hynet | 128 x 1 x 1 | Tian et al., NeurIPS 2020; shared |
    | afd_net | 32 x 64, 32 x 32, 64 x 16, 128 x 8, 256 x 4 (channels x side) | Quan et al., ICCV 2019; not shared |
    | fil_net | the same | Yu et al., "feature interaction learning", 2023; not shared |

    "aguilera" alone pads nothing: see `PatchTrunk` for what its map of a larger picture holds.

    Args:
        arch: see the table.
        shared: one encoder for both spectra.
        width: channels w of the first convolution, 32 as published; not for "aguilera".

    Raises:
        ConfigError: an unknown arch, a width for "aguilera"; patches of another size than 64 (in forward, for the
            descriptors, smaller ones for "aguilera").
    """

    def __init__(self, arch: str, shared: bool, width: int | None = None, init_cfg: dict | None = None) -> None:
        if arch not in ARCHS:
            raise ConfigError(f'PatchEncoder: arch = "{arch}"{nearest(str(arch), ARCHS)}')
        if width is not None and (arch == "aguilera" or width < 1):
            raise ConfigError(
                f'PatchEncoder: width={width} with arch = "{arch}"; expected a positive number, and None for "aguilera"'
            )
        super().__init__(_trunk(arch, width or 32), None if shared else _trunk(arch, width or 32), init_cfg)
        self.arch = arch
        self.exact_windows = arch == "aguilera"
        self.out_channels, self.out_strides = self.visible.out_channels, self.visible.out_strides  # type: ignore[assignment]


class AguileraTrunk(nn.Module):
    """`PatchTrunk` with one map in a tuple."""

    out_channels, out_strides = (PatchTrunk.out_channels,), (PatchTrunk.stride,)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = PatchTrunk(1)

    def forward(self, patch: Tensor) -> Maps:
        if min(patch.shape[-2:]) < PatchTrunk.size:
            raise ConfigError(f'PatchEncoder "aguilera": {tuple(patch.shape[-2:])} pixels, expected at least (64, 64)')
        return (self.trunk(patch),)


class DescriptorTrunk(nn.Module):
    """HardNet: a patch, halved to 32 x 32 by area and standardised, -> 4w values (B, 4w, 1, 1) before the L2 norm.

    Six 3x3 convolutions (w, w, 2w at stride 2, 2w, 4w at stride 2, 4w), each with a batch norm without weights and a
    ReLU, dropout, an 8x8 convolution and a last batch norm. In HyNet, where `response_norm`, a `ResponseNorm` stands
    for each of the former norms and ReLUs, and one more before the first convolution.
    """

    out_strides = (64,)

    def __init__(self, width: int, dropout: float, response_norm: bool) -> None:
        super().__init__()
        plan = [(width, 1), (width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2), (4 * width, 1)]
        layers: list[nn.Module] = [ResponseNorm(1)] if response_norm else []
        channels = 1
        for out, stride in plan:
            layers += [nn.Conv2d(channels, out, 3, stride, 1, bias=response_norm)]
            layers += [ResponseNorm(out)] if response_norm else [nn.BatchNorm2d(out, affine=False), nn.ReLU()]
            channels = out
        layers += [nn.Dropout(dropout), nn.Conv2d(channels, channels, 8, bias=False)]
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(channels, affine=False))
        self.out_channels = (channels,)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight, gain=0.6)  # of HardNet's code
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, patch: Tensor) -> Maps:
        if tuple(patch.shape[-2:]) != (64, 64):
            raise ConfigError(
                f"PatchEncoder: a descriptor takes 64 x 64 patches, not {tuple(patch.shape[-2:])}; encode the windows "
                "of a larger picture one by one"
            )
        x = F.avg_pool2d(patch, 2)
        x = (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 1e-6)
        return (self.layers(x),)


class ResponseNorm(nn.Module):
    """max(weight * x / sqrt(mean of x^2 over the map) + bias, threshold), each a value a channel (B, C, H, W).

    Filter response normalisation and its thresholded linear unit (Singh and Krishnan, CVPR 2020).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.threshold = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        power = at_least_float32(x).square().mean((2, 3), keepdim=True)
        normed = x * (power + 1e-6).rsqrt().to(x.dtype)
        return torch.maximum(self.weight * normed + self.bias, self.threshold)


class AFDTrunk(nn.Module):
    """AFD-Net: 3x3 convolutions w, w/2, 2w, 2w/2, 4w, 4w/2, 8w, 8w/2 ("/2": stride 2) with batch norm and ReLU.

    Maps after the first one and after each stride. Instance norm and ReLU follow the first two strides.
    """

    out_strides = (1, 2, 4, 8, 16)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv_bn_relu(1, width)
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList()
        for index, channels in enumerate(widths):
            before = _conv_bn_relu(widths[index - 1], channels) if index else nn.Identity()
            norm = [nn.InstanceNorm2d(channels, affine=True), nn.ReLU(inplace=True)] if index < 2 else []
            self.down.append(nn.Sequential(before, _conv_bn_relu(channels, channels, stride=2), *norm))
        self.out_channels = (width, *widths)
        self.apply(he_normal)

    def forward(self, x: Tensor) -> Maps:
        maps = [self.first(x)]
        for stage in self.down:
            maps.append(stage(maps[-1]))
        return tuple(maps)


class FILTrunk(nn.Module):
    """FIL-Net: five residual blocks of w, w, 2w, 4w, 8w channels with a 2x2 max pooling between."""

    out_strides = (1, 2, 4, 8, 16)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_channels = (width, width, 2 * width, 4 * width, 8 * width)
        sources = (1, *self.out_channels[:-1])
        self.blocks = nn.ModuleList(Residual(a, b) for a, b in zip(sources, self.out_channels))
        self.apply(he_normal)

    def forward(self, x: Tensor) -> Maps:
        maps: list[Tensor] = []
        for block in self.blocks:
            x = block(F.max_pool2d(x, 2) if maps else x)
            maps.append(x)
        return tuple(maps)


class Residual(nn.Module):
    """LeakyReLU(two 3x3 convolutions + a shortcut), (B, C, H, W) -> (B, C', H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.body(x) + self.shortcut(x), SLOPE)


def _conv_bn_relu(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def _trunk(arch: str, width: int) -> nn.Module:
    if arch == "aguilera":
        return AguileraTrunk()
    if arch in DROPOUT:
        return DescriptorTrunk(width, DROPOUT[arch], response_norm=arch == "hynet")
    return AFDTrunk(width) if arch == "afd_net" else FILTrunk(width)
