"""FPN: the feature pyramid network.

Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017; the extra levels of RetinaNet and Mask R-CNN.
State-dict names are mmdet's. Letters: B batch, C channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from visionpatch.errors import ConfigError, nearest
from visionpatch.layers.conv_module import ConvModule
from visionpatch.registry import MODELS

EXTRA_SOURCES = ("on_input", "on_lateral", "on_output")


@MODELS.register_module()
class FPN(nn.Module):
    """Maps of one width at every level: 1x1 laterals, a top-down sum, a 3x3 convolution per level, extra coarse levels.

    Args:
        in_channels: channels of each incoming map, fine to coarse (all the backbone's maps, used or not).
        out_channels: channels of every outgoing map.
        num_outs: number of outgoing maps.
        start_level: index of the first incoming map that is used.
        end_level: index of the last one that is used; -1 the last there is. An `end_level` that leaves maps out allows
            no extra levels.
        add_extra_convs: how the levels beyond the used maps are made. False: every second pixel of the level before.
            Otherwise a 3x3 convolution of stride 2, whose first source is the last used incoming map ("on_input", also
            True), the last lateral after the top-down sum ("on_lateral") or the last output ("on_output").
        relu_before_extra_convs: apply a ReLU before each extra convolution but the first.
        norm_cfg: norm of every convolution, such as ``dict(type="BN")``; None for none.
        in_strides: strides of the incoming maps, from which `out_strides` follows.

    Attributes:
        out_channels, out_strides: one entry per outgoing map.

    Raises:
        ConfigError: a level or a number of maps that does not fit `in_channels`; maps that do not either (in forward).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        *,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | Literal["on_input", "on_lateral", "on_output"] = False,
        relu_before_extra_convs: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        in_strides: Sequence[int] = (4, 8, 16, 32),
    ) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)
        self.start = start_level
        self.stop = _stop_level(len(self.in_channels), num_outs, start_level, end_level)
        self.num_outs = num_outs
        self.extra_source = _extra_source(add_extra_convs)
        self.relu_before_extra_convs = relu_before_extra_convs

        used = self.in_channels[self.start : self.stop]
        extra = self.num_outs - len(used)
        self.lateral_convs = nn.ModuleList(ConvModule(c, out_channels, 1, norm_cfg=norm_cfg, act=False) for c in used)
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg, act=False) for _ in used
        )
        for i in range(extra if self.extra_source else 0):
            source = used[-1] if i == 0 and self.extra_source == "on_input" else out_channels
            conv = ConvModule(source, out_channels, 3, stride=2, padding=1, norm_cfg=norm_cfg, act=False)
            self.fpn_convs.append(conv)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

        self.out_channels = (out_channels,) * num_outs
        self.out_strides = _out_strides(in_strides, self.start, self.stop, num_outs)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (B, in_channels[i], H_i, W_i), fine to coarse -> `num_outs` maps (B, out_channels, H_i, W_i)."""
        given = tuple(f.shape[1] for f in features)
        if given != self.in_channels:
            raise ConfigError(
                f"FPN: in_channels={self.in_channels}, but the maps it got have channels {given}; "
                f"set in_channels={given} (the backbone's out_channels)"
            )
        used = features[self.start : self.stop]
        laterals = [conv(f) for conv, f in zip(self.lateral_convs, used, strict=True)]
        for i in range(len(laterals) - 1, 0, -1):
            finer = laterals[i - 1]
            laterals[i - 1] = finer + F.interpolate(laterals[i], size=finer.shape[-2:], mode="nearest")
        outs = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=False)]
        sources = {"on_input": used[-1], "on_lateral": laterals[-1], "on_output": outs[-1]}
        while len(outs) < self.num_outs:
            if not self.extra_source:
                outs.append(outs[-1][:, :, ::2, ::2])
                continue
            first = len(outs) == len(laterals)
            x = sources[self.extra_source] if first else outs[-1]
            if self.relu_before_extra_convs and not first:
                x = F.relu(x)
            outs.append(self.fpn_convs[len(outs)](x))
        return tuple(outs)


def _stop_level(num_ins: int, num_outs: int, start_level: int, end_level: int) -> int:
    """One past the last used level; checks the levels against each other."""
    if not 0 <= start_level < num_ins:
        raise ConfigError(f"FPN: start_level={start_level} is not one of the {num_ins} maps of in_channels")
    if end_level in (-1, num_ins - 1):
        if num_outs < num_ins - start_level:
            raise ConfigError(
                f"FPN: num_outs={num_outs}, but {num_ins - start_level} maps are used (in_channels has {num_ins}, "
                f"start_level={start_level}); raise num_outs or set end_level={start_level + num_outs - 1}"
            )
        return num_ins
    if not start_level <= end_level < num_ins:
        raise ConfigError(f"FPN: end_level={end_level} must lie in [{start_level}, {num_ins - 1}], or be -1")
    if num_outs != end_level - start_level + 1:
        raise ConfigError(
            f"FPN: end_level={end_level} leaves maps out, so there are no extra levels and num_outs must be "
            f"{end_level - start_level + 1}, not {num_outs}"
        )
    return end_level + 1


def _extra_source(add_extra_convs: bool | str) -> str:
    """Name of the first extra convolution's source, or "" for none."""
    if isinstance(add_extra_convs, bool):
        return "on_input" if add_extra_convs else ""
    if add_extra_convs not in EXTRA_SOURCES:
        raise ConfigError(f'FPN: add_extra_convs="{add_extra_convs}"' + nearest(str(add_extra_convs), EXTRA_SOURCES))
    return add_extra_convs


def _out_strides(in_strides: Sequence[int], start: int, stop: int, num_outs: int) -> tuple[int, ...]:
    """Strides of the outgoing maps: those of the used maps, then doubling."""
    if len(in_strides) < stop:
        raise ConfigError(f"FPN: in_strides={tuple(in_strides)} names fewer maps than the {stop} in use")
    strides = list(in_strides[start:stop])
    while len(strides) < num_outs:
        strides.append(2 * strides[-1])
    return tuple(strides)
