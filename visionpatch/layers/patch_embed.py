"""Patch embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CrossScaleEmbedding(nn.ModuleList):
    """Parallel convolutions of one stride and growing kernels, concatenated along channels (CrossFormer, section 3.1).

    Half of the `out_dim` channels go to the smallest kernel, a quarter to the next and so on; the two largest share
    the same width. Output sides are floor(side / stride) for every kernel.

    Args:
        in_dim: input channels.
        out_dim: output channels.
        kernel_sizes: increasing, each no smaller than the stride and of its parity.
        stride: of every convolution.
    """

    def __init__(self, in_dim: int, out_dim: int, kernel_sizes: tuple[int, ...], stride: int) -> None:
        last = len(kernel_sizes) - 1
        widths = [out_dim // 2 ** min(i + 1, last) for i in range(last + 1)]
        super().__init__(
            nn.Conv2d(in_dim, width, size, stride, (size - stride) // 2)
            for size, width in zip(kernel_sizes, widths, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), best in channels_last memory, to (B, H // stride, W // stride, out_dim)."""
        return torch.cat([_convolve(x, conv).permute(0, 2, 3, 1) for conv in self], dim=-1)


def _convolve(x: Tensor, conv: nn.Module) -> Tensor:
    """conv(x); kernels of 4 strides and more run with stride 1 over the space-to-depth image, which is much faster."""
    assert isinstance(conv, nn.Conv2d)
    size, stride = conv.kernel_size[0], conv.stride[0]
    if size < 4 * stride or size % stride:
        return conv(x)
    near, (height, width) = (size - stride) // 2, x.shape[-2:]
    # (size - stride) is a multiple of the stride, so this makes both sides multiples of it
    x = F.pad(x, (near, near - width % stride, near, near - height % stride))
    cells = size // stride
    weight = conv.weight.view(conv.out_channels, conv.in_channels, cells, stride, cells, stride)
    weight = weight.permute(0, 1, 3, 5, 2, 4).reshape(conv.out_channels, -1, cells, cells)
    x = F.pixel_unshuffle(x, stride).contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, conv.bias)
