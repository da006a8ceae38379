"""The Inception network that the Frechet Inception distance is defined by.

Inception-v3 (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, arXiv:1512.00567)
as in TensorFlow's graph of 2015-12-05, which Heusel et al. (arXiv:1706.08500) take. Module names are those of the
PyTorch file ``pt_inception-2015-12-05-6726825d.pth``. It differs from the later Inception-v3 in three things: 1008
classes; average pooling inside the blocks leaves the padding out of the mean; the last block pools by maximum.

B batch, C channels, H and W sides of a picture; sides given below are those for pictures of 299 x 299.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.converters.inception import read_inception

SIDE, FEATURES, CLASSES = 299, 2048, 1008


class InceptionFID(nn.Module):
    """Pictures (B, 3, 299, 299), RGB in -1..1, -> features (B, 2048), those before `fc`.

    Args:
        checkpoint: that file; None: random weights.

    Raises:
        WeightsError: no such file, or another one.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, (3, 3), pad=True)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, (3, 3))
        self.Mixed_5b = Small(192, 32)
        self.Mixed_5c = Small(256, 64)
        self.Mixed_5d = Small(288, 64)
        self.Mixed_6a = ToMiddle(288)
        self.Mixed_6b = Middle(128)
        self.Mixed_6c = Middle(160)
        self.Mixed_6d = Middle(160)
        self.Mixed_6e = Middle(192)
        self.Mixed_7a = ToLast(768)
        self.Mixed_7b = Last(1280)
        self.Mixed_7c = Last(2048, max_pool=True)
        self.fc = nn.Linear(FEATURES, CLASSES)
        if checkpoint is not None:
            self.load_state_dict(read_inception(checkpoint, self.state_dict()))

    def forward(self, image: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(image)))  # (B, 64, 147, 147)
        x = F.max_pool2d(x, 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)  # (B, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # (B, 288, 35, 35)
        x = self.Mixed_6a(x)  # (B, 768, 17, 17)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        return x.mean((2, 3))


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, ReLU; `kernel` high and wide, `pad`: sides stay what they are."""

    def __init__(
        self, channels: int, out: int, kernel: tuple[int, int] = (1, 1), stride: int = 1, pad: bool = False
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if pad else 0
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Small(nn.Module):
    """Block of the first resolution (Figure 5): (B, C, H, W) -> (B, 224 + pooled, H, W)."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(channels, 64)
        self.branch5x5_1 = ConvNorm(channels, 48)
        self.branch5x5_2 = ConvNorm(48, 64, (5, 5), pad=True)
        self.branch3x3dbl_1 = ConvNorm(channels, 64)
        self.branch3x3dbl_2 = ConvNorm(64, 96, (3, 3), pad=True)
        self.branch3x3dbl_3 = ConvNorm(96, 96, (3, 3), pad=True)
        self.branch_pool = ConvNorm(channels, pooled)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pool = self.branch_pool(mean_around(x))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, pool], 1)


class ToMiddle(nn.Module):
    """Half the resolution: (B, C, H, W) -> (B, C + 480, (H - 1) // 2, (W - 1) // 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(channels, 384, (3, 3), stride=2)
        self.branch3x3dbl_1 = ConvNorm(channels, 64)
        self.branch3x3dbl_2 = ConvNorm(64, 96, (3, 3), pad=True)
        self.branch3x3dbl_3 = ConvNorm(96, 96, (3, 3), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class Middle(nn.Module):
    """Block of the second resolution (Figure 6, n = 7): (B, 768, H, W) -> the same; `inner` channels in between."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = ConvNorm(768, 192)
        self.branch7x7_1 = ConvNorm(768, inner)
        self.branch7x7_2 = ConvNorm(inner, inner, row, pad=True)
        self.branch7x7_3 = ConvNorm(inner, 192, column, pad=True)
        self.branch7x7dbl_1 = ConvNorm(768, inner)
        self.branch7x7dbl_2 = ConvNorm(inner, inner, column, pad=True)
        self.branch7x7dbl_3 = ConvNorm(inner, inner, row, pad=True)
        self.branch7x7dbl_4 = ConvNorm(inner, inner, column, pad=True)
        self.branch7x7dbl_5 = ConvNorm(inner, 192, row, pad=True)
        self.branch_pool = ConvNorm(768, 192)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(mean_around(x))], 1)


class ToLast(nn.Module):
    """Half the resolution: (B, C, H, W) -> (B, C + 512, (H - 1) // 2, (W - 1) // 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(channels, 192)
        self.branch3x3_2 = ConvNorm(192, 320, (3, 3), stride=2)
        self.branch7x7x3_1 = ConvNorm(channels, 192)
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7), pad=True)
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1), pad=True)
        self.branch7x7x3_4 = ConvNorm(192, 192, (3, 3), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), deep, F.max_pool2d(x, 3, 2)], 1)


class Last(nn.Module):
    """Block of the third resolution (Figure 7): (B, C, H, W) -> (B, 2048, H, W)."""

    def __init__(self, channels: int, max_pool: bool = False) -> None:
        super().__init__()
        row, column = (1, 3), (3, 1)
        self.max_pool = max_pool
        self.branch1x1 = ConvNorm(channels, 320)
        self.branch3x3_1 = ConvNorm(channels, 384)
        self.branch3x3_2a = ConvNorm(384, 384, row, pad=True)
        self.branch3x3_2b = ConvNorm(384, 384, column, pad=True)
        self.branch3x3dbl_1 = ConvNorm(channels, 448)
        self.branch3x3dbl_2 = ConvNorm(448, 384, (3, 3), pad=True)
        self.branch3x3dbl_3a = ConvNorm(384, 384, row, pad=True)
        self.branch3x3dbl_3b = ConvNorm(384, 384, column, pad=True)
        self.branch_pool = ConvNorm(channels, 192)

    def forward(self, x: Tensor) -> Tensor:
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.max_pool else mean_around(x)
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        ]
        return torch.cat(branches, 1)


def mean_around(x: Tensor) -> Tensor:
    """The mean of the 3 x 3 values around each that are inside the map."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
