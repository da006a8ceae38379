"""Losses of detection heads against hand-computed sums."""

import math

import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.losses import (
    CIoULoss,
    CrossEntropyLoss,
    DIoULoss,
    FocalLoss,
    GIoULoss,
    IoULoss,
    L1Loss,
    SmoothL1Loss,
)


def test_focal_loss_by_hand():
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # probabilities 1/2, 3/4; 1/2, 1/2
    labels, weight = torch.tensor([1, 2]), torch.tensor([1.0, 0.5])  # the second is background
    right = 0.25 * 0.25**2 * -math.log(0.75)
    wrong = 0.75 * 0.5**2 * -math.log(0.5)
    found = FocalLoss(loss_weight=2.0)(logits, labels, weight=weight, avg_factor=4)
    assert found.item() == pytest.approx(2 * (right + wrong + 0.5 * 2 * wrong) / 4, rel=1e-5)
    assert FocalLoss()(logits[:0], labels[:0], avg_factor=1) == 0


def test_l1_and_smooth_l1_by_hand():
    pred, target = torch.tensor([[0.0, 1, 2, 3], [0, 0, 0, 0]]), torch.tensor([[0.5, 1, 0, 0], [1, 1, 1, 1]])
    weight = torch.tensor([1.0, 0.25])
    assert L1Loss(2.0)(pred, target, weight=weight, avg_factor=3).item() == pytest.approx(2 * 6.5 / 3, rel=1e-6)
    expected = 0.5**2 / 2 + 1.5 + 2.5 + 0.25 * 4 * 0.5
    assert SmoothL1Loss(1.0)(pred, target, weight=weight, avg_factor=3).item() == pytest.approx(expected / 3, rel=1e-6)
    assert L1Loss()(pred[:0], target[:0], avg_factor=1) == 0


def test_cross_entropy_with_a_given_divisor_ignores_no_label():
    logits = torch.randn(3, 300)
    labels, weight = torch.tensor([255, 299, 0]), torch.tensor([1.0, 0.0, 2.0])
    log = logits.log_softmax(1)
    found = CrossEntropyLoss(loss_weight=0.5)(logits, labels, weight=weight, avg_factor=7)
    torch.testing.assert_close(found, -0.5 * (log[0, 255] + 2 * log[2, 0]) / 7)


def test_binary_cross_entropy_takes_labels_outside_as_none_of_the_classes():
    logits = torch.tensor([[1.0], [2.0], [3.0]])
    found = CrossEntropyLoss(use_sigmoid=True)(logits, torch.tensor([0, 1, 1]), avg_factor=3)
    p = logits.sigmoid()
    torch.testing.assert_close(found, -(p[0].log() + (1 - p[1]).log() + (1 - p[2]).log())[0] / 3)


def test_cross_entropy_of_masks_is_a_plain_mean():
    logits, target = torch.randn(2, 4, 4), (torch.rand(2, 4, 4) > 0.5).float()
    p = logits.sigmoid()
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(CrossEntropyLoss(use_mask=True, loss_weight=3.0)(logits, target), 3 * expected)


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="use_sigmoid=False must be True"):
        FocalLoss(use_sigmoid=False)
    with pytest.raises(ConfigError, match="beta=0 must be positive; L1Loss is the limit"):
        SmoothL1Loss(beta=0)
    with pytest.raises(ConfigError, match="use_mask=True goes with neither"):
        CrossEntropyLoss(use_sigmoid=True, use_mask=True)


# a 4 x 4 box and a 4 x 2 one share 2 x 2 of 20 pixels; both lie in 6 x 4, with a diagonal of 52
BOX, OTHER = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[2.0, 2, 6, 4]])
CENTRES = 2**2 + 1**2


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (IoULoss(), -math.log(0.2)),
        (IoULoss("linear"), 0.8),
        (IoULoss("square"), 0.96),
        (GIoULoss(), 0.8 + 4 / 24),
        (DIoULoss(), 0.8 + CENTRES / 52),
        (CIoULoss(), 0.8 + CENTRES / 52),  # the ratio of the sides counts above an IoU of 0.5 only
    ],
)
def test_losses_of_boxes_by_hand(loss, expected):
    assert loss(BOX, OTHER, avg_factor=1).item() == pytest.approx(expected, rel=1e-5)
    both = [torch.cat([x, x + 100]).requires_grad_() for x in (BOX, OTHER)]
    twice = loss(*both, weight=torch.tensor([1.0, 3.0]), avg_factor=2)
    assert twice.item() == pytest.approx(2 * expected, rel=1e-4)
    twice.backward()
    assert all(x.grad.isfinite().all() and x.grad.any() for x in both)
    assert loss(BOX, BOX, avg_factor=1).item() == pytest.approx(0, abs=1e-5)
    assert loss(BOX[:0], BOX[:0], avg_factor=1) == 0


def test_ciou_counts_the_ratio_of_the_sides_of_near_boxes():
    near = torch.tensor([[0.0, 0, 4, 2]])  # half of BOX; both lie in 4 x 4, with a diagonal of 32
    inside = torch.tensor([[0.0, 0, 4, 3]])  # three quarters
    assert CIoULoss()(near, BOX, avg_factor=1).item() == pytest.approx(0.5 + 1 / 32, rel=1e-5)
    v = 4 / math.pi**2 * (math.atan(4 / 3) - math.atan(1)) ** 2
    expected = 0.25 + 0.25 / 32 + v * v / (0.25 + v)
    assert CIoULoss(loss_weight=2.0)(inside, BOX, avg_factor=1).item() == pytest.approx(2 * expected, rel=1e-5)


@pytest.mark.parametrize("loss", [IoULoss(), GIoULoss(), DIoULoss(), CIoULoss()])
def test_losses_of_boxes_stay_finite_without_an_area(loss):
    flat = torch.tensor([[3.0, 3, 3, 3], [0, 0, 0, 9]], requires_grad=True)
    value = loss(flat, torch.tensor([[3.0, 3, 3, 3], [50, 50, 60, 60]]), avg_factor=1)
    value.backward()
    assert value.isfinite() and flat.grad.isfinite().all()


def test_unknown_modes_of_the_iou_loss_are_refused():
    with pytest.raises(ConfigError, match='IoULoss: mode="logg"'):
        IoULoss("logg")
