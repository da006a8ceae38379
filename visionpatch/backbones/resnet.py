"""ResNet (He et al., CVPR 2016, arXiv 1512.03385) with the stride on the 3x3 convolution, plain or dilated.

State-dict names are those of OpenMMLab's ResNet (plain stem) and ResNetV1c (deep stem). A batch norm that does not
train is folded into its convolution while computing, where that is less work than a pass over the map.

B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Sequence
from typing import cast

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.conv_norm import conv_norm
from visionpatch.registry import MODELS

# depth -> (blocks of each stage, 3x3 bottleneck blocks or basic ones); table 1 of the paper
ARCHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
WIDTHS = (64, 128, 256, 512)


@MODELS.register_module()
class ResNet(BaseModule):
    """Image (B, in_channels, H, W) to the maps of `out_indices`, of ceil(H / stride) rows and ceil(W / stride) columns.

    Stages after the last one wanted are not built.

    Args:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        in_channels: of the image.
        deep_stem: three 3x3 convolutions, to stem_channels / 2, the same and stem_channels, instead of one 7x7.
        stem_channels: after the stem; 128 with a deep stem is the network of semantic segmentation codes whose
            ImageNet weights are named ``resnet50_v2`` and ``resnet101_v2``.
        strides: of the first block of each stage; the stem and its pooling have 2 each.
        dilations: of the 3x3 convolutions of each stage.
        contract_dilation: the first block of a dilated stage has half its dilation.
        out_indices: which of the four stages to return, ascending.
        frozen_stages: -1 trains all; 0 freezes the stem; n the stem and the first n stages, batch norms included.
        norm_eval: keep batch normalisation on its running statistics while training.
        pretrained: checkpoint with these names under the prefix ``backbone.``, as ``tools/convert_checkpoint.py``
            writes it, read by `init_weights`; None: random weights.
        init_cfg: MMEngine's initialisation config, instead of `pretrained`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        depth: int = 50,
        in_channels: int = 3,
        deep_stem: bool = False,
        stem_channels: int = 64,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        contract_dilation: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        pretrained: str | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if pretrained and init_cfg:
            raise ConfigError("ResNet takes pretrained or init_cfg, not both")
        start = dict(type="Pretrained", checkpoint=pretrained, prefix="backbone.") if pretrained else init_cfg
        super().__init__(start)
        _check(depth, stem_channels, strides, dilations, out_indices, frozen_stages)
        self.depth, self.out_indices = depth, tuple(out_indices)
        self.frozen_stages, self.norm_eval, self.deep_stem = frozen_stages, norm_eval, deep_stem
        if deep_stem:
            self.stem = _deep_stem(in_channels, stem_channels)
        else:
            self.conv1 = nn.Conv2d(in_channels, stem_channels, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(stem_channels)
        depths, bottleneck = ARCHS[depth]
        channels, stride = stem_channels, 4
        widths, reached = [], []
        for i in range(max(self.out_indices) + 1):
            blocks = _stage(channels, WIDTHS[i], depths[i], bottleneck, strides[i], dilations[i], contract_dilation)
            self.add_module(f"layer{i + 1}", blocks)
            channels, stride = WIDTHS[i] * (4 if bottleneck else 1), stride * strides[i]
            widths.append(channels)
            reached.append(stride)
        self.out_channels = tuple(widths[i] for i in self.out_indices)
        self.out_strides = tuple(reached[i] for i in self.out_indices)
        self.apply(_initialise)
        self._freeze()

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stages that are built."""
        return [cast(nn.Sequential, getattr(self, f"layer{i + 1}")) for i in range(max(self.out_indices) + 1)]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if self.deep_stem:
            x = image
            for i in (0, 3, 6):
                x = F.relu_(conv_norm(x, self.stem[i], self.stem[i + 1]))
        else:
            x = F.relu_(conv_norm(image, self.conv1, self.bn1))  # (B, stem_channels, H / 2, W / 2)
        x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)  # (B, C, ceil(H / stride), ceil(W / stride))
            if index in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def train(self, mode: bool = True) -> "ResNet":
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        stem = [self.stem] if self.deep_stem else [self.conv1, self.bn1]
        frozen = [*stem, *self.stages[: self.frozen_stages]] if self.frozen_stages >= 0 else []
        for part in frozen:
            part.eval().requires_grad_(False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, dilation: int, downsample: nn.Sequential | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(conv_norm(x, self.conv1, self.bn1))
        y = conv_norm(y, self.conv2, self.bn2)
        return F.relu_(y.add_(_shortcut(x, self.downsample)))


class Bottleneck(nn.Module):
    """1x1 convolution to `width`, 3x3 with the stride and the dilation, 1x1 to four times `width`; a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, dilation: int, downsample: nn.Sequential | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(conv_norm(x, self.conv1, self.bn1))
        y = F.relu_(conv_norm(y, self.conv2, self.bn2))
        y = conv_norm(y, self.conv3, self.bn3)
        return F.relu_(y.add_(_shortcut(x, self.downsample)))


def _shortcut(x: Tensor, downsample: nn.Sequential | None) -> Tensor:
    return x if downsample is None else conv_norm(x, downsample[0], downsample[1])


def _deep_stem(in_channels: int, channels: int) -> nn.Sequential:
    half = channels // 2
    layers: list[nn.Module] = []
    for given, width, stride in ((in_channels, half, 2), (half, half, 1), (half, channels, 1)):
        layers += [nn.Conv2d(given, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _stage(
    channels: int, width: int, depth: int, bottleneck: bool, stride: int, dilation: int, contract_dilation: bool
) -> nn.Sequential:
    block = Bottleneck if bottleneck else BasicBlock
    out = width * (4 if bottleneck else 1)
    downsample = None
    if stride != 1 or channels != out:
        downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    first = dilation // 2 if contract_dilation and dilation > 1 else dilation
    rest = [block(out, width, 1, dilation, None) for _ in range(depth - 1)]
    return nn.Sequential(block(channels, width, stride, first, downsample), *rest)


def _initialise(module: nn.Module) -> None:
    """Convolutions normal with variance 2 / fan-out (He et al., ICCV 2015); norms start at 1 and 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _check(
    depth: int,
    stem_channels: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    out_indices: Sequence[int],
    frozen_stages: int,
) -> None:
    if depth not in ARCHS:
        raise ConfigError(f"ResNet has no depth {depth}{nearest(str(depth), map(str, ARCHS))}")
    if not out_indices or list(out_indices) != sorted(set(out_indices) & {0, 1, 2, 3}):
        raise ConfigError(f"ResNet: out_indices must ascend within 0..3, not {tuple(out_indices)}")
    for name, values in (("strides", strides), ("dilations", dilations)):
        if len(values) != 4 or min(values) < 1:
            raise ConfigError(f"ResNet: {name} = {tuple(values)}; expected 4 positive numbers, one for each stage")
    if stem_channels < 2 or stem_channels % 2:
        raise ConfigError(f"ResNet: stem_channels must be even and positive, not {stem_channels}")
    if not -1 <= frozen_stages <= max(out_indices) + 1:
        raise ConfigError(f"ResNet: frozen_stages must be in -1..{max(out_indices) + 1}, not {frozen_stages}")
