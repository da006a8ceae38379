"""Convolution, norm and ReLU as one block, with the state-dict names OpenMMLab's checkpoints use."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from visionpatch.errors import ConfigError, nearest

NORMS = {"BN": "bn", "SyncBN": "bn", "GN": "gn"}  # type in a config -> child name in the state dict


class ConvModule(nn.Module):
    """Conv -> norm -> ReLU. Children ``conv`` and ``bn`` (``gn`` for a group norm).

    The convolution has a bias only without a norm. Weights are Kaiming normal (fan_out, relu), biases 0.

    Args:
        norm_cfg: None, or a dict as in ``dict(type="BN")``; see `build_norm`.
        act: apply a ReLU at the end.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        norm_cfg: Mapping[str, Any] | None = None,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=norm_cfg is None)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.norm_name = ""
        if norm_cfg is not None:
            norm = build_norm(norm_cfg, out_channels)
            self.norm_name = NORMS[norm_cfg["type"]]
            self.add_module(self.norm_name, norm)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H', W')."""
        x = self.conv(x)
        if self.norm_name:
            norm = getattr(self, self.norm_name)
            if isinstance(norm, nn.BatchNorm2d) and norm.training and x.numel() == x.shape[1]:
                raise ConfigError(
                    f"batch norm cannot train on one value per channel, a map of shape {tuple(x.shape)}; give each "
                    'device at least 2 images, or set norm_cfg to SyncBN or dict(type="GN", num_groups=32)'
                )
            x = norm(x)
        return F.relu(x, inplace=True) if self.act else x


def build_norm(norm_cfg: Mapping[str, Any], channels: int) -> nn.Module:
    """The norm layer for ``dict(type="BN" | "SyncBN" | "GN", ...)``.

    Besides ``type`` it takes ``requires_grad`` (default True), ``eps`` and the layer's own arguments: ``momentum`` for
    the batch norms, ``num_groups`` for GN. Raises ConfigError for another type or argument.
    """
    args = dict(norm_cfg)
    kind = str(args.pop("type", None))
    requires_grad = args.pop("requires_grad", True)
    if kind not in NORMS:
        raise ConfigError(f'norm_cfg: unknown type "{kind}"' + nearest(kind, NORMS))
    known = {"eps", "num_groups" if kind == "GN" else "momentum"}
    for name in args:
        if name not in known:
            raise ConfigError(f'norm_cfg: {kind} takes no argument "{name}"' + nearest(name, known | {"requires_grad"}))
    norm: nn.Module
    if kind == "GN":
        if "num_groups" not in args or channels % args["num_groups"]:
            raise ConfigError(
                f"norm_cfg: GN needs num_groups dividing the {channels} channels, got {args.get('num_groups')}"
            )
        norm = nn.GroupNorm(args.pop("num_groups"), channels, **args)
    else:
        norm = (nn.BatchNorm2d if kind == "BN" else nn.SyncBatchNorm)(channels, **args)
    for parameter in norm.parameters():
        parameter.requires_grad = requires_grad
    return norm
