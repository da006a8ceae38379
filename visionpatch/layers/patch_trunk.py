"""The small trunk of the first networks that compare patches (Aguilera et al., CVPR workshops 2016)."""

from torch import Tensor, nn


class PatchTrunk(nn.Sequential):
    """A patch (B, in_channels, 64, 64) -> (B, 256, 1, 1), sides 64, 20, 10, 6, 3, 1; larger pictures -> a map.

    Nothing is padded: cell (i, j) of a picture's map is the result for the window that starts at row 12 i, column 12 j.
    """

    out_channels, stride, size = 256, 12, 64

    def __init__(self, in_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 96, 7, stride=3),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(96, 192, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(192, self.out_channels, 3),
            nn.ReLU(inplace=True),
        )
        self.apply(he_normal)

    def forward(self, patch: Tensor) -> Tensor:
        return super().forward(patch)


def he_normal(module: nn.Module) -> None:
    """Weights of convolutions and linear layers normal with variance 2 / fan-in, biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
