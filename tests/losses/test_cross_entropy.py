"""Cross entropy: hand-computed numbers for every divisor, class weights, hard pixels."""

import math
from typing import Any

import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.losses import CrossEntropyLoss
from visionpatch.losses.cross_entropy import hard_pixels

LN2, LN3 = math.log(2), math.log(3)
# three pixels: probabilities of class 0 are 1/2, 3/4, 1/2; labels 0, 1, ignored
LOGITS = torch.tensor([[[[0.0, LN3, 0.0]], [[0.0, 0.0, 0.0]]]])
LABELS = torch.tensor([[[0, 1, 255]]])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (dict(), 3 * LN2 / 3),
        (dict(loss_weight=0.4), 0.4 * LN2),
        (dict(avg_non_ignore=True), 3 * LN2 / 2),
        (dict(class_weight=[1.0, 3.0]), (LN2 + 3 * 2 * LN2) / 4),
        # pixel 0: ln2 for each class; pixel 1, label 1: -ln(1/4) for class 0, ln2 for class 1
        (dict(use_sigmoid=True), (2 * LN2 + 2 * LN2 + LN2) / 6),
        (dict(use_sigmoid=True, avg_non_ignore=True), 5 * LN2 / 4),
        # the positive terms are ln2 (class 0, pixel 0) and ln2 (class 1, pixel 1)
        (dict(use_sigmoid=True, class_weight=[2.0, 3.0]), (2 * LN2 + LN2 + 2 * LN2 + 3 * LN2) / 6),
    ],
)
def test_hand_computed(arguments: dict[str, Any], expected: float) -> None:
    assert CrossEntropyLoss(**arguments)(LOGITS, LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_images_without_valid_pixels_give_zero_not_nan() -> None:
    ignored = torch.full_like(LABELS, 255)
    for arguments in (dict(), dict(avg_non_ignore=True), dict(class_weight=[1.0, 2.0]), dict(ohem=dict(thresh=0.7))):
        logits = LOGITS.clone().requires_grad_()
        loss = CrossEntropyLoss(**arguments)(logits, ignored)
        loss.backward()
        assert loss.item() == 0
        assert logits.grad.abs().sum() == 0


def test_ignored_pixels_get_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    CrossEntropyLoss()(logits, LABELS).backward()
    assert logits.grad[..., 2].abs().sum() == 0
    assert logits.grad[..., 0].flatten().tolist() == pytest.approx([-1 / 6, 1 / 6])


@pytest.mark.parametrize(
    ("thresh", "min_kept", "kept"),
    [
        (0.7, 1, [0, 1, 1, 1]),  # everything below 0.7
        (0.25, 2, [0, 0, 1, 1]),  # rank 2 is 0.6: below it
        (0.25, 1, [0, 0, 0, 1]),
        (0.1, 100, [0, 1, 1, 1]),  # fewer pixels than min_kept: below the largest probability
        (None, 1, [0, 0, 0, 1]),
        (None, 3, [0, 1, 1, 1]),
    ],
)
def test_hard_pixels(thresh: float | None, min_kept: int, kept: list[int]) -> None:
    probability = torch.tensor([0.9, 0.6, 0.3, 0.2, 0.01])
    logits = torch.stack([probability.log(), (1 - probability).log()])[None, :, None]  # (1, 2, 1, 5)
    labels = torch.tensor([[[0, 0, 0, 0, 255]]])
    losses = -probability.log()[None, None] * (labels != 255)
    keep = hard_pixels(logits, labels, labels != 255, losses, thresh, min_kept)
    assert keep.flatten().tolist() == [*kept, 0]
    loss = CrossEntropyLoss(ohem=dict(thresh=thresh, min_kept=min_kept))(logits, labels)
    assert loss.item() == pytest.approx(sum(k * v for k, v in zip(kept, losses.flatten().tolist())) / 5, rel=1e-5)


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match="3 class weights for 2 classes"):
        CrossEntropyLoss(class_weight=[1, 2, 3])(LOGITS, LABELS)
    with pytest.raises(ConfigError, match='did you mean "thresh"'):
        CrossEntropyLoss(ohem=dict(tresh=0.7))
    with pytest.raises(ConfigError, match="use_sigmoid=False"):
        CrossEntropyLoss(use_sigmoid=True, ohem=dict(thresh=0.7))


def test_class_weights_stay_out_of_the_state_dict() -> None:
    assert CrossEntropyLoss(class_weight=[1.0, 2.0]).state_dict() == {}
