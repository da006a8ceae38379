"""Losses of an image tokenizer, by hand, and the networks in them."""

import math

import pytest
import torch
from torch import nn

from visionpatch.errors import ConfigError, DataError
from visionpatch.layers.patch_gan import PatchGAN
from visionpatch.losses import LPIPS, FeatureDistance, TokenizerLoss
from visionpatch.losses.tokenizer import adaptive_weight, hinge, vanilla


def test_pixel_and_perceptual_terms():
    class Constant(LPIPS):
        def __init__(self):
            super().__init__()

        def forward(self, image, other):
            return torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)

    image, other = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), -0.5)
    assert TokenizerLoss().reconstruction(image, other) == {"loss_pixel": torch.tensor(0.5)}
    loss = TokenizerLoss("l2", Constant(), pixel_weight=2.0, perceptual_weight=0.1)
    found = loss.reconstruction(image, other)
    assert found["loss_pixel"].item() == 0.5 and found["loss_perceptual"].item() == pytest.approx(0.2)


def test_discriminator_losses():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert hinge(real, fake).item() == pytest.approx(((0 + 1) / 2 + (0 + 2) / 2) / 2)
    expected = [math.log1p(math.exp(x)) for x in (-2.0, 0.0, -3.0, 1.0)]
    assert vanilla(real, fake).item() == pytest.approx(sum(expected) / 4)


def test_the_adaptive_weight_is_the_ratio_of_gradients():
    last = torch.tensor([1.0, 2.0], requires_grad=True)
    nll, adversarial = (last * torch.tensor([3.0, 4.0])).sum(), (last * torch.tensor([0.0, 2.0])).sum()
    assert adaptive_weight(nll, adversarial, last).item() == pytest.approx(5 / 2.0001)
    assert adaptive_weight(nll * 1e9, adversarial, last).item() == 1e4
    assert not adaptive_weight(nll, adversarial, last).requires_grad
    assert adaptive_weight(nll, adversarial * math.nan, last).isnan()  # for the guard to see


def test_the_generators_term_and_its_start():
    torch.manual_seed(0)
    loss, critic = TokenizerLoss(start_step=2, adversarial_weight=0.5), PatchGAN(channels=4, num_layers=1)
    last = torch.randn(3, 2, 1, 1, requires_grad=True)
    fake = nn.functional.conv2d(torch.randn(1, 2, 16, 16), last)
    losses = loss.reconstruction(torch.zeros_like(fake), fake)
    assert not loss.started
    loss.steps += 2
    assert loss.started
    logits = critic(fake)
    found, plain = loss.generator(logits, losses, last), -logits.mean()
    weight = 0.5 * adaptive_weight(losses["loss_pixel"], plain, last)
    torch.testing.assert_close(found["adversarial_weight"], weight)
    torch.testing.assert_close(found["loss_adversarial"], weight * plain)
    fixed = TokenizerLoss(adaptive=False, adversarial_weight=0.1)
    assert fixed.generator(logits, losses, last)["adversarial_weight"].item() == pytest.approx(0.1)


@pytest.mark.parametrize(("layers", "side", "logits", "field"), [(2, 64, 14, 34), (3, 96, 10, 70)])
def test_patches_of_the_discriminator(layers, side, logits, field):
    model = PatchGAN(channels=4, num_layers=layers).eval()
    image = torch.randn(1, 3, side, side, requires_grad=True)
    found = model(image)
    assert found.shape == (1, 1, logits, logits)
    found[0, 0, logits // 2, logits // 2].backward()
    rows = image.grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
    assert rows[-1] - rows[0] + 1 == field
    assert model.main[-1].weight.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("build", [LPIPS, lambda: FeatureDistance(dict(type="EfficientNetLite", out_indices=(0, 1)))])
def test_a_perceptual_distance(build):
    torch.manual_seed(0)
    model = build().train()
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    near, far = image + 0.01, -image
    near.requires_grad_()
    distance = model(image, near)
    assert distance.shape == (2, 1, 1, 1) and (distance > 0).all() and (distance < model(image, far)).all()
    torch.testing.assert_close(model(image, image), torch.zeros(2, 1, 1, 1))
    torch.testing.assert_close(model(image[:1], near[:1]), distance[:1], rtol=1e-3, atol=1e-7)
    distance.sum().backward()
    assert near.grad.abs().sum() > 0
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_frozen_networks_are_not_saved_and_not_asked_for():
    loss = TokenizerLoss(perceptual=dict(type="FeatureDistance", backbone=dict(type="EfficientNetLite")))
    assert set(loss.state_dict()) == {"steps"}
    before = [p.clone() for p in loss.perceptual.parameters()]
    assert loss.load_state_dict({"steps": torch.tensor(5)}, strict=True).missing_keys == []
    assert int(loss.steps) == 5 and all(torch.equal(a, b) for a, b in zip(before, loss.perceptual.parameters()))


def test_wrong_arguments():
    with pytest.raises(ConfigError, match='pixel = "l3"; valid: l1, l2'):
        TokenizerLoss(pixel="l3")
    with pytest.raises(ConfigError, match='form = "hing"; did you mean "hinge"'):
        TokenizerLoss(form="hing")
    with pytest.raises(ConfigError, match="adversarial_weight.*from 0 on"):
        TokenizerLoss(adversarial_weight=-0.1)
    with pytest.raises(ConfigError, match="perceptual = Conv2d; expected LPIPS or FeatureDistance"):
        TokenizerLoss(perceptual=nn.Conv2d(3, 3, 1))
    with pytest.raises(ConfigError, match="num_layers = 0"):
        PatchGAN(num_layers=0)
    with pytest.raises(DataError, match="sides of 16 pixels or more"):
        LPIPS()(torch.zeros(1, 3, 15, 32), torch.zeros(1, 3, 15, 32))
