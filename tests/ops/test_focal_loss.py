import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.ops import sigmoid_focal_loss


def definition(logits, target, gamma, alpha):
    p = logits.double().sigmoid()
    right = torch.nn.functional.one_hot(target, logits.shape[1] + 1)[:, :-1].bool()
    p_t, alpha_t = torch.where(right, p, 1 - p), torch.where(right, alpha, 1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * p_t.log()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [0.25, 0.9])
def test_the_definition(gamma, alpha):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 7, generator=generator) * 3
    target = torch.randint(0, 8, (50,), generator=generator)
    expected = definition(logits, target, gamma, alpha)
    loss = sigmoid_focal_loss(logits, target, gamma, alpha, None, "none")
    assert torch.allclose(loss.double(), expected, rtol=1e-4, atol=1e-7)
    assert sigmoid_focal_loss(logits, target, gamma, alpha, None, "sum") == pytest.approx(float(expected.sum()), 1e-5)
    assert sigmoid_focal_loss(logits, target, gamma, alpha) == pytest.approx(float(expected.sum() / 50), 1e-5)


def test_extreme_logits_stay_exact_and_their_gradients_finite():
    values = torch.tensor([-1e4, -120.0, -60, -20, 0, 20, 60, 120, 1e4])[:, None].requires_grad_()
    positive = sigmoid_focal_loss(values, torch.zeros(9, dtype=torch.int64), 2.0, 0.25, None, "none")
    negative = sigmoid_focal_loss(values, torch.ones(9, dtype=torch.int64), 2.0, 0.25, None, "none")
    middle = 0.25 * torch.tensor(2.0).log().item() / 4
    assert positive[:, 0].tolist() == pytest.approx([2500, 30, 15, 5, middle, 0, 0, 0, 0], rel=1e-6, abs=1e-15)
    assert negative[:, 0].tolist() == pytest.approx([0, 0, 0, 0, 3 * middle, 15, 45, 90, 7500], rel=1e-6, abs=1e-15)
    for gamma in (0.0, 0.5, 2.0):
        for target in (0, 1):
            loss = sigmoid_focal_loss(values, torch.full((9,), target), gamma, reduction="sum")
            assert torch.autograd.grad(loss, values)[0].isfinite().all()


def test_weights_count_by_target_and_the_background_once():
    logits, target = torch.randn(4, 2), torch.tensor([0, 1, 2, -1])
    plain = sigmoid_focal_loss(logits, target, reduction="none")
    weighted = sigmoid_focal_loss(logits, target, weight=torch.tensor([3.0, 5.0]), reduction="none")
    assert torch.allclose(weighted, plain * torch.tensor([3.0, 5.0, 1.0, 1.0])[:, None])


def test_no_samples():
    logits = torch.zeros(0, 3, requires_grad=True)
    target = torch.zeros(0, dtype=torch.int64)
    assert sigmoid_focal_loss(logits, target) == 0 and sigmoid_focal_loss(logits, target, reduction="sum") == 0
    assert sigmoid_focal_loss(logits, target, reduction="none").shape == (0, 3)
    sigmoid_focal_loss(logits, target).backward()


@pytest.mark.parametrize("gamma", [0.0, 0.7, 2.0])
def test_gradients(gamma):
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    target = torch.tensor([0, 1, 2, 3, 3, 0])
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, target, gamma, 0.25, None, "none"), (logits,))


def test_half_precision_is_computed_in_single():
    logits, target = torch.full((300, 300), 9.0, dtype=torch.float16), torch.full((300,), 300)
    loss = sigmoid_focal_loss(logits, target, reduction="sum")
    assert loss.dtype == torch.float32
    assert loss == pytest.approx(sigmoid_focal_loss(logits.float(), target, reduction="sum").item())
    assert loss > 65504


WRONG = [
    (dict(input=torch.zeros(4)), r"input \(4,\), target \(4,\) torch.int64 given; expected \(n, C\) and \(n,\)"),
    (dict(target=torch.zeros(4)), "torch.float32"),
    (dict(weight=torch.zeros(3)), r"weight \(3,\) for 2 classes"),
    (dict(reduction="average"), 'unknown reduction "average"'),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_errors(change, message):
    arguments = dict(input=torch.zeros(4, 2), target=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ConfigError, match=message):
        sigmoid_focal_loss(**{**arguments, **change})
