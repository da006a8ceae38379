"""What an image tokenizer learns from: pixels, a perceptual distance, the logits of a discriminator.

Letters: B batch, H, W sides of a picture, h, w those of a map of logits.
"""

from collections.abc import Callable, Mapping

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn import functional as F

from visionpatch.errors import ConfigError, nearest
from visionpatch.losses.perceptual import check_distance
from visionpatch.registry import MODELS

PIXEL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss}
# as the published training computes it, whatever its config says
PUBLISHED = dict(pixel="l2", perceptual_weight=0.1, adversarial_weight=0.1, adaptive=False, start_step=0)
LARGEST = 1e4  # of the adaptive weight


@MODELS.register_module()
class TokenizerLoss(nn.Module):
    """Losses of VQGAN (Esser et al., CVPR 2021, arXiv:2012.09841, section 3.1), which MoVQ takes over.

    `PUBLISHED` holds the arguments whose values are those that SBER-MoVQGAN computes with.

    Args:
        pixel: "l1" or "l2" (squared), averaged over pixels and channels.
        perceptual: `LPIPS` or `FeatureDistance` or the config of one; None: no such loss.
        pixel_weight, perceptual_weight, codebook_weight, adversarial_weight: of the four terms.
        adaptive: the adversarial weight is multiplied by |grad of pixel and perceptual| / |grad of adversarial|, taken
            at the decoder's last layer, at most 10,000.
        start_step: training steps before there is an adversarial loss, and before the discriminator learns.
        form: "hinge" or "vanilla" (logistic), the discriminator's loss.

    Raises:
        ConfigError: a name that is not one of these, a negative weight or step.
    """

    steps: Tensor

    def __init__(
        self,
        pixel: str = "l1",
        perceptual: dict | nn.Module | None = None,
        pixel_weight: float = 1.0,
        perceptual_weight: float = 1.0,
        codebook_weight: float = 1.0,
        adversarial_weight: float = 0.8,
        adaptive: bool = True,
        start_step: int = 0,
        form: str = "hinge",
    ) -> None:
        super().__init__()
        for name, value, valid in (("pixel", pixel, PIXEL), ("form", form, FORMS)):
            if value not in valid:
                raise ConfigError(f'TokenizerLoss: {name} = "{value}"{nearest(str(value), valid)}')
        weights = dict(pixel_weight=pixel_weight, perceptual_weight=perceptual_weight, codebook_weight=codebook_weight)
        weights |= dict(adversarial_weight=adversarial_weight, start_step=start_step)
        if wrong := {name: value for name, value in weights.items() if not value >= 0}:
            raise ConfigError(f"TokenizerLoss: {wrong}; expected numbers from 0 on")
        self.pixel, self.form, self.adaptive, self.start_step = pixel, form, adaptive, start_step
        self.pixel_weight, self.perceptual_weight = pixel_weight, perceptual_weight
        self.codebook_weight, self.adversarial_weight = codebook_weight, adversarial_weight
        self.perceptual = MODELS.build(perceptual) if isinstance(perceptual, Mapping) else perceptual
        check_distance(self.perceptual)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def started(self) -> bool:
        """Whether the discriminator takes part in the step under way."""
        return int(self.steps) >= self.start_step

    def reconstruction(self, image: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """Two batches (B, 3, H, W) in -1..1 -> weighted losses ``loss_pixel`` and ``loss_perceptual``."""
        losses = {"loss_pixel": self.pixel_weight * PIXEL[self.pixel](reconstruction, image)}
        if self.perceptual is not None:
            losses["loss_perceptual"] = self.perceptual_weight * self.perceptual(image, reconstruction).mean()
        return losses

    def generator(self, logits: Tensor, losses: Mapping[str, Tensor], last: Tensor) -> dict[str, Tensor]:
        """The weighted loss of being told from real pictures.

        Args:
            logits: the discriminator's of the reconstruction, (B, 1, h, w), with their graph.
            losses: what `reconstruction` gave.
            last: the weight of the decoder's last layer, for the adaptive weight.

        Returns:
            ``loss_adversarial`` and the ``adversarial_weight`` in it.
        """
        loss = -logits.mean()
        weight = logits.new_tensor(self.adversarial_weight)
        if self.adaptive:
            parts = [losses[name] for name in ("loss_pixel", "loss_perceptual") if name in losses]
            weight = weight * adaptive_weight(torch.stack(parts).sum(), loss, last)
        return {"loss_adversarial": weight * loss, "adversarial_weight": weight}

    def discriminate(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The discriminator's loss on its logits of pictures and of reconstructions (B, 1, h, w), and their means."""
        loss = FORMS[self.form](real, fake)
        return {"loss_discriminator": loss, "logits_real": real.mean().detach(), "logits_fake": fake.mean().detach()}


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Half of mean max(0, 1 - real) + mean max(0, 1 + fake)."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def vanilla(real: Tensor, fake: Tensor) -> Tensor:
    """Half of mean log(1 + exp(-real)) + mean log(1 + exp(fake))."""
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


FORMS = {"hinge": hinge, "vanilla": vanilla}


def adaptive_weight(nll: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """|d nll / d last| / (|d adversarial / d last| + 1e-4), from 0 to 10,000, without a graph (equation 7 of VQGAN).

    The gradients are those of the whole batch, over all processes.
    """
    grads = [torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (nll, adversarial)]
    for grad in grads:
        all_reduce(grad, "mean")
    return (grads[0].norm() / (grads[1].norm() + 1e-4)).clamp(0, LARGEST)
