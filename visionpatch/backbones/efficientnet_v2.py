"""EfficientNetV2 (Tan and Le, ICML 2021, arXiv:2104.00298), with the padding of its PyTorch weights.

B batch, C channels, H and W height and width in pixels; E expanded channels inside a block.
"""

from collections.abc import Sequence
from typing import cast

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.conv_norm import conv_norm
from visionpatch.layers.drop_path import DropPath
from visionpatch.layers.recompute import recomputed
from visionpatch.registry import MODELS

# Table 4 of the paper, a row per published stage: (our stage, fused, channels, repeats, stride, expansion)
ARCHS = {
    "s": (
        (0, True, 24, 2, 1, 1),
        (0, True, 48, 4, 2, 4),
        (1, True, 64, 4, 2, 4),
        (2, False, 128, 6, 2, 4),
        (2, False, 160, 9, 1, 6),
        (3, False, 256, 15, 2, 6),
    )
}
STEM, HEAD = 24, 1280
STRIDES = (4, 8, 16, 32)


@MODELS.register_module()
class EfficientNetV2(BaseModule):
    """EfficientNetV2: image (B, 3, H, W) -> maps at strides 4, 8, 16, 32, of ``ceil(H / stride)`` rows each.

    Convolutions pad evenly, as torchvision's do and TensorFlow's do not; the published PyTorch weights expect RGB of
    0..1 less the mean (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225). Every H and W from 1 on is accepted.

    Args:
        arch: "s".
        out_indices: which of the four stages to return, ascending; stages after the last one are not built.
        with_head_conv: end the last stage with the 1x1 convolution to 1280 channels that the classifier pools.
        drop_path_rate: block i of the 40 of the whole network is skipped with probability drop_path_rate * i / 40,
            whichever stages are built.
        frozen_stages: -1 trains all; 0 freezes the stem; n the stem and the first n stages.
        norm_eval: keep batch normalisation on its running statistics while training.
        with_cp: recompute each block in the backward pass: less memory, more time, same result.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        arch: str = "s",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        with_head_conv: bool = False,
        drop_path_rate: float = 0.2,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _check(arch, out_indices, with_head_conv, drop_path_rate, frozen_stages)
        self.arch, self.out_indices = arch, tuple(out_indices)
        self.frozen_stages, self.norm_eval, self.with_cp = frozen_stages, norm_eval, with_cp
        stages = _stages(arch, drop_path_rate)[: max(out_indices) + 1]
        self.stem = ConvNorm(3, STEM, 3, stride=2)
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        channels = [blocks[-1].out_channels for blocks in stages]
        self.head_conv = ConvNorm(channels[-1], HEAD, 1) if with_head_conv else None
        if with_head_conv:
            channels[-1] = HEAD
        self.out_channels = tuple(channels[i] for i in self.out_indices)
        self.out_strides = tuple(STRIDES[i] for i in self.out_indices)
        self.apply(_initialize)
        self._freeze()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        image = image.contiguous(memory_format=torch.channels_last)  # the quicker layout of its blocks on a CPU
        x = self.stem(image)  # (B, 24, ceil(H/2), ceil(W/2))
        maps = []
        for index, stage in enumerate(self.stages):
            for block in cast(nn.Sequential, stage):
                x = recomputed(block, x) if self.with_cp and self.training and x.requires_grad else block(x)
            if index == len(self.stages) - 1 and self.head_conv is not None:
                x = self.head_conv(x)
            if index in self.out_indices:
                maps.append(x)  # (B, C, ceil(H/stride), ceil(W/stride))
        return tuple(maps)

    def train(self, mode: bool = True) -> "EfficientNetV2":
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        for part in [self.stem, *self.stages][: self.frozen_stages + 1]:
            nn.Module.train(part, False)
            part.requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()


class FusedMBConv(nn.Module):
    """A 3x3 convolution to E channels and a linear 1x1 projection, or one 3x3 convolution; a shortcut if it fits."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int, drop_path: float) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.out_channels = out_channels
        self.expand = ConvNorm(in_channels, inner if expansion > 1 else out_channels, 3, stride)
        self.project = ConvNorm(inner, out_channels, 1, act=False) if expansion > 1 else None
        self.shortcut = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x)  # (B, E, ceil(H/stride), ceil(W/stride))
        y = y if self.project is None else self.project(y)
        return x + self.drop_path(y) if self.shortcut else y


class MBConv(nn.Module):
    """1x1 to E channels, depthwise 3x3, squeeze and excitation, linear 1x1 projection; a shortcut if it fits."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int, drop_path: float) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.out_channels = out_channels
        self.expand = ConvNorm(in_channels, inner, 1)
        self.depthwise = ConvNorm(inner, inner, 3, stride, groups=inner)
        self.excite = SqueezeExcite(inner, max(1, in_channels // 4))
        self.project = ConvNorm(inner, out_channels, 1, act=False)
        self.shortcut = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.excite(self.depthwise(self.expand(x)))  # (B, E, ceil(H/stride), ceil(W/stride))
        y = self.project(y)
        return x + self.drop_path(y) if self.shortcut else y


class SqueezeExcite(nn.Module):
    """Scale each channel by a number in 0..1 that two layers draw from the means of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)  # (B, E, 1, 1)
        return x * self.fc2(F.silu(self.fc1(means))).sigmoid()


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, SiLU if `act`; sides become ceil(side / stride)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y = conv_norm(x, self.conv, self.norm)
        return F.silu(y, inplace=True) if self.act else y


def _stages(arch: str, drop_path_rate: float) -> list[list[FusedMBConv | MBConv]]:
    """The blocks of our four stages, from ARCHS."""
    stages: list[list[FusedMBConv | MBConv]] = [[] for _ in STRIDES]
    in_channels, index = STEM, 0
    total = sum(repeats for _, _, _, repeats, *_ in ARCHS[arch])
    for stage, fused, channels, repeats, stride, expansion in ARCHS[arch]:
        for i in range(repeats):
            kind = FusedMBConv if fused else MBConv
            rate = drop_path_rate * index / total
            stages[stage].append(kind(in_channels, channels, stride if i == 0 else 1, expansion, rate))
            in_channels, index = channels, index + 1
    return stages


def _initialize(module: nn.Module) -> None:
    """Convolutions normal with variance 2 / fan-out, biases 0; norms start at 1 and 0 by themselves."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check(
    arch: str, out_indices: Sequence[int], with_head_conv: bool, drop_path_rate: float, frozen_stages: int
) -> None:
    if arch not in ARCHS:
        raise ConfigError(f'EfficientNetV2 has no arch "{arch}"{nearest(str(arch), ARCHS)}')
    if not out_indices or list(out_indices) != sorted(set(out_indices) & {0, 1, 2, 3}):
        raise ConfigError(f"EfficientNetV2: out_indices must ascend within 0..3, not {tuple(out_indices)}")
    if with_head_conv and 3 not in out_indices:
        raise ConfigError(f"EfficientNetV2: with_head_conv=True needs 3 in out_indices, not {tuple(out_indices)}")
    if not 0 <= drop_path_rate < 1:
        raise ConfigError(f"EfficientNetV2: drop_path_rate must be in [0, 1), not {drop_path_rate}")
    if not -1 <= frozen_stages <= max(out_indices) + 1:
        raise ConfigError(f"EfficientNetV2: frozen_stages must be in -1..{max(out_indices) + 1}, not {frozen_stages}")
