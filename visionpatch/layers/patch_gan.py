"""The discriminator of patches (Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks",
CVPR 2017, arXiv:1611.07004)."""

from torch import Tensor, nn

from visionpatch.errors import ConfigError


class PatchGAN(nn.Module):
    """Picture (B, 3, H, W) -> one logit for each patch (B, 1, h, w), higher where it looks real.

    Args:
        in_channels: of the picture.
        channels: of the first convolution; they double up to eightfold.
        num_layers: n convolutions of stride 2: 2 sees patches of 34 pixels, 3 of 70.

    Raises:
        ConfigError: num_layers below 1.
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, num_layers: int = 2) -> None:
        super().__init__()
        if num_layers < 1:
            raise ConfigError(f"PatchGAN: num_layers = {num_layers}; expected 1 or more")
        self.num_layers = num_layers
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = channels
        for i in range(1, num_layers + 1):
            before, width = width, channels * min(2**i, 8)
            stride = 2 if i < num_layers else 1
            layers += [nn.Conv2d(before, width, 4, stride, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))
        self.apply(_initialize)

    def forward(self, image: Tensor) -> Tensor:
        return self.main(image)


def _initialize(module: nn.Module) -> None:
    """Convolutions N(0, 0.02), norms N(1, 0.02), as in the published code."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
