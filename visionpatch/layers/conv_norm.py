"""A convolution and its batch norm, as one convolution where the norm does not train."""

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
    """norm(conv(x)), (B, C, H, W) to (B, C', H', W').

    A norm on running statistics scales and shifts channels, which the convolution can do by itself:
    s = weight / sqrt(var + eps), kernel * s, shift = bias - mean * s. Done where the kernel is smaller than the result.
    """
    c, n = cast(nn.Conv2d, conv), cast(Any, norm)
    values = x.numel() // x.shape[1] // (c.stride[0] * c.stride[1]) * c.out_channels
    if n.training or c.weight.numel() >= values:
        return n(c(x))
    scale = n.weight * (n.running_var + n.eps).rsqrt()
    shift = n.bias - n.running_mean * scale
    return F.conv2d(x, c.weight * scale.view(-1, 1, 1, 1), shift, c.stride, c.padding, c.dilation, c.groups)  # type: ignore[arg-type]
