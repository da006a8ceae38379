"""Dice loss: hand-computed numbers, activation, ignored pixels."""

import math

import pytest
import torch

from visionpatch.losses import DiceLoss

# two pixels, two classes: p = (0.75, 0.25) and (0.5, 0.5); labels 0 and 1
LOGITS = torch.tensor([[[[math.log(3), 0.0]], [[0.0, 0.0]]]])
LABELS = torch.tensor([[[0, 1]]])
OVERLAP, SQUARES, SUM = 2 * 1.25, 0.75**2 + 0.25**2 + 0.5, 2.0


def test_both_forms_with_softmax() -> None:
    squared = DiceLoss(use_sigmoid=False)(LOGITS, LABELS).item()
    assert squared == pytest.approx(1 - OVERLAP / (SQUARES + 2 + 2e-3), rel=1e-6)
    naive = DiceLoss(use_sigmoid=False, naive_dice=True, eps=0.1, loss_weight=3.0)(LOGITS, LABELS).item()
    assert naive == pytest.approx(3 * (1 - (OVERLAP + 0.1) / (SUM + 2 + 0.1)), rel=1e-6)


def test_sigmoid_is_the_default_and_probabilities_can_be_given() -> None:
    given = DiceLoss(activate=False)(LOGITS.sigmoid(), LABELS)
    assert DiceLoss()(LOGITS, LABELS) == given
    assert DiceLoss()(LOGITS, LABELS) != DiceLoss(use_sigmoid=False)(LOGITS, LABELS)


def test_a_perfect_prediction_costs_nothing() -> None:
    target = torch.nn.functional.one_hot(LABELS, 2).movedim(-1, 1).float()
    assert DiceLoss(activate=False, eps=1e-9)(target, LABELS).item() == pytest.approx(0, abs=1e-6)


def test_the_mean_is_over_images_and_ignored_pixels_count_nowhere() -> None:
    loss = DiceLoss(use_sigmoid=False)
    second = torch.randn(1, 2, 1, 2, generator=torch.Generator().manual_seed(0))
    both = loss(torch.cat([LOGITS, second]), torch.cat([LABELS, LABELS]))
    assert both.item() == pytest.approx((loss(LOGITS, LABELS).item() + loss(second, LABELS).item()) / 2, rel=1e-6)
    wider = torch.cat([LOGITS, torch.full((1, 2, 1, 3), 5.0)], dim=3).requires_grad_()
    padded = loss(wider, torch.cat([LABELS, torch.full((1, 1, 3), 255)], dim=2))
    assert padded.item() == pytest.approx(loss(LOGITS, LABELS).item(), rel=1e-6)
    padded.backward()
    assert wider.grad[..., 2:].abs().sum() == 0


def test_the_loss_of_sccan() -> None:
    """Class by class, ignored pixels in the denominator: (1 - a_0) + (1 - a_1) per image, mean over images."""
    logits = torch.tensor([[[[math.log(3), 0.0, 0.0]], [[0.0, 0.0, -math.log(3)]]]])
    labels = torch.tensor([[[0, 1, 255]]])
    squares = [0.75**2 + 0.25 + 0.25, 0.25 + 0.25 + 0.25**2]  # of sigmoids (0.75, 0.5, 0.5) and (0.5, 0.5, 0.25)
    expected = (1 - 2 * 0.75 / (squares[0] + 1)) + (1 - 2 * 0.5 / (squares[1] + 1))
    loss = DiceLoss(per_class=True, ignored_count=True, eps=5e-9)
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)
    nothing = torch.zeros(1, 1, 3, dtype=torch.int64)  # a query without the class: the second quotient is 0
    expected_of_nothing = 1 - 2 * 1.75 / (squares[0] + 3) + 1
    assert loss(logits, nothing).item() == pytest.approx(expected_of_nothing, rel=1e-6)
    both = loss(torch.cat([logits, logits]), torch.cat([labels, nothing]))
    assert both.item() == pytest.approx((expected + expected_of_nothing) / 2, rel=1e-6)
    without = DiceLoss(per_class=True, eps=5e-9)(logits[..., :2], labels[..., :2])
    assert DiceLoss(per_class=True, eps=5e-9)(logits, labels).item() == pytest.approx(without.item(), rel=1e-6)
