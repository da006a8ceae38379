"""Schedules of masks, and drawing hidden codes step by step."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from visionpatch.errors import ConfigError
from visionpatch.heads.masked_sampling import MaskedSampling, least, masked_after, masked_share, random_mask

HIDDEN = 20
GREEDY = dict(temperature=0.0, choice_temperature=0.0)


def share(schedule: str, ratio: float, total: int = 256) -> float:
    return masked_share(schedule, torch.tensor(ratio, dtype=torch.float64), total).item()


@pytest.mark.parametrize(
    ("schedule", "start", "middle"),
    [
        ("cosine", 1, math.sqrt(0.5)),
        ("uniform", 1, 0.5),
        ("pow2", 1, 0.75),
        ("pow3", 1, 0.875),
        ("pow0.5", 1, 1 - math.sqrt(0.5)),
        ("log", 1, 1 / 8),  # -log2(1/2) / log2(256)
        ("exp", 255 / 256, 15 / 16),
    ],
)
def test_a_schedule_at_its_ends_and_half_way(schedule, start, middle):
    assert share(schedule, 0.0) == pytest.approx(start)
    assert share(schedule, 0.5) == pytest.approx(middle)
    assert share(schedule, 1.0) == 1e-6
    values = [share(schedule, i / 50) for i in range(51)]
    assert all(0 < b <= a <= 1 for a, b in zip(values, values[1:]))
    for total in (1, 2):  # no logarithm of 0 or 1 breaks it
        assert 0 < share(schedule, 0.0, total) <= 1 and share(schedule, 1.0, total) == 1e-6


@pytest.mark.parametrize("name", ["cosin", "pow", "pow-1", "pow0", "powx", "powinf", ""])
def test_an_unknown_schedule(name):
    with pytest.raises(ConfigError, match=f'schedule = "{name}".*(did you mean|valid)'):
        MaskedSampling(schedule=name)


def test_what_stays_hidden_by_hand():
    start = torch.tensor([256, 3, 1, 0])
    eight = torch.tensor([256, 3, 1, 0])
    counts = [eight.tolist()]
    for step in range(7):
        eight = masked_after("cosine", (step + 1) / 8, start, eight)
        counts.append(eight.tolist())
    # floor(256 cos(pi t / 16)); of three codes one goes at each step, until the last, which waits
    assert [row[0] for row in counts] == [256, 251, 236, 212, 181, 142, 97, 49]
    assert [row[1] for row in counts] == [3, 2, 1, 1, 1, 1, 1, 1]
    assert [row[2] for row in counts] == [1] * 8 and [row[3] for row in counts] == [0] * 8


def test_the_least_and_ties():
    values = torch.tensor([[3.0, 1.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert least(values, torch.tensor([2, 3])).tolist() == [[False, True, True, False], [True, True, True, False]]


def network(codes: Tensor) -> Tensor:
    """Logits (B, h, w, c, HIDDEN) that depend on the place and on the sum of what is shown."""
    shown = codes.masked_fill(codes == HIDDEN, 0).flatten(1).sum(1).double()
    place = torch.arange(codes[0].numel(), dtype=torch.float64)
    angle = shown[:, None, None] + 7 * place[:, None] + 1.3 * torch.arange(HIDDEN, dtype=torch.float64)
    return (3 * angle.sin()).view(*codes.shape, HIDDEN).float()


def watched(seen: list[Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda codes: (seen.append(codes), network(codes))[1]


def half_known(batch: int = 3) -> Tensor:
    codes = torch.randint(HIDDEN, (batch, 4, 4, 2), generator=torch.Generator().manual_seed(0))
    for picture, number in enumerate((32, 20, 0)[:batch]):
        codes[picture].view(-1)[:number] = HIDDEN
    return codes


@pytest.mark.parametrize("schedule", ["cosine", "uniform", "pow2", "log", "exp"])
def test_counts_fall_and_known_codes_stay(schedule):
    seen: list[Tensor] = []
    codes = half_known()
    done = MaskedSampling(steps=8, schedule=schedule).complete(watched(seen), codes, HIDDEN, [1, 2, 3])
    assert len(seen) == 8 and torch.equal(seen[0], codes)
    assert done.min() >= 0 and done.max() < HIDDEN
    counts = torch.stack([(x == HIDDEN).flatten(1).sum(1) for x in seen])  # (8, 3)
    for picture, start in enumerate((32, 20)):
        column = counts[:, picture].tolist()
        assert column[0] == start and all(b < a or a == b == 1 for a, b in zip(column, column[1:]))
        aims = [math.floor(start * share(schedule, t / 8, start)) for t in range(1, 8)]
        assert column[1:] == [max(1, min(before - 1, aim)) for before, aim in zip(column, aims)]
    assert (counts[:, 2] == 0).all() and torch.equal(done[2], codes[2])
    for before, after in zip(seen, [*seen[1:], done]):  # what a step has fixed stays
        assert torch.equal(after[before != HIDDEN], before[before != HIDDEN])


def test_without_temperatures_nothing_is_left_to_chance():
    codes = half_known()
    sampling = MaskedSampling(steps=6, **GREEDY)
    first, second = (sampling.complete(network, codes, HIDDEN, seeds) for seeds in ([1, 2, 3], [7, 8, 9]))
    assert torch.equal(first, second)
    drawn = MaskedSampling(steps=6).complete(network, codes, HIDDEN, [1, 2, 3])
    assert not torch.equal(drawn, first)
    assert torch.equal(drawn, MaskedSampling(steps=6).complete(network, codes, HIDDEN, [1, 2, 3]))
    assert not torch.equal(drawn, MaskedSampling(steps=6).complete(network, codes, HIDDEN, [4, 2, 3]))


def test_one_step_takes_the_likeliest_of_each():
    codes = torch.full((1, 4, 4, 2), HIDDEN)
    done = MaskedSampling(steps=1, **GREEDY).complete(network, codes, HIDDEN, [0])
    assert torch.equal(done, network(codes).argmax(-1))


def test_the_most_certain_are_fixed_first():
    seen: list[Tensor] = []
    codes = torch.full((1, 4, 4, 2), HIDDEN)
    MaskedSampling(steps=2, schedule="uniform", **GREEDY).complete(watched(seen), codes, HIDDEN, [0])
    certainty, best = network(codes).log_softmax(-1).max(-1)
    fixed = seen[1] != HIDDEN
    assert fixed.sum() == 16 and certainty[fixed].min() >= certainty[~fixed].max()
    assert torch.equal(seen[1][fixed], best[fixed])


def test_one_code_a_step_with_a_uniform_schedule():
    seen: list[Tensor] = []
    codes = torch.full((1, 4, 4, 2), HIDDEN)
    MaskedSampling(steps=32, schedule="uniform").complete(watched(seen), codes, HIDDEN, [5])
    assert [(x == HIDDEN).sum().item() for x in seen] == list(range(32, 0, -1))


def test_a_picture_does_not_depend_on_those_beside_it():
    codes = half_known(2)
    both = MaskedSampling(steps=5).complete(network, codes, HIDDEN, [11, 12])
    for picture, seed in enumerate((11, 12)):
        alone = MaskedSampling(steps=5).complete(network, codes[picture : picture + 1], HIDDEN, [seed])
        assert torch.equal(alone[0], both[picture])


def frequencies(sampling: MaskedSampling, logits: Tensor) -> Tensor:
    """How often each of 4 codes is drawn at 40,000 places."""
    codes = torch.full((1, 200, 200, 1), 4)
    done = sampling.complete(lambda x: logits.expand(*x.shape, 4), codes, 4, [0])
    return torch.bincount(done.flatten(), minlength=4) / done.numel()


def test_codes_are_drawn_by_their_probabilities():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    torch.testing.assert_close(frequencies(MaskedSampling(steps=1), p.log()), p, rtol=0, atol=0.01)
    sharp = p**2 / (p**2).sum()
    found = frequencies(MaskedSampling(steps=1, temperature=0.5), p.log())
    torch.testing.assert_close(found, sharp, rtol=0, atol=0.01)
    two = torch.tensor([0.625, 0.375, 0, 0])
    found = frequencies(MaskedSampling(steps=1, top_k=2), p.log())
    torch.testing.assert_close(found, two, rtol=0, atol=0.01)
    assert found[2:].sum() == 0
    assert frequencies(MaskedSampling(steps=1, temperature=0.0), p.log()).tolist() == [1, 0, 0, 0]


def test_noise_makes_the_choice_random_in_proportion_to_its_temperature():
    codes = torch.full((1, 4, 4, 2), HIDDEN)

    def kept(temperature: float, seed: int) -> Tensor:
        seen: list[Tensor] = []
        sampling = MaskedSampling(steps=2, temperature=0.0, choice_temperature=temperature)
        sampling.complete(watched(seen), codes, HIDDEN, [seed])
        return seen[1] != HIDDEN

    certain = kept(0.0, 0)
    small, large = (sum((kept(t, s) & certain).sum().item() for s in range(20)) for t in (1e-4, 100.0))
    assert small > 0.9 * 20 * certain.sum() > large


def test_masks_of_training():
    torch.manual_seed(0)
    codes = torch.zeros(4000, 4, 4, 1, dtype=torch.int64)
    mask = random_mask(codes, "cosine")
    counts = mask.flatten(1).sum(1)
    assert mask.shape == codes.shape and counts.min() >= 1 and counts.max() == 16
    # the mean of ceil(16 cos(pi r / 2)) over r; every place as often as any other
    expected = sum(math.ceil(16 * math.cos(math.pi / 2 * (i + 0.5) / 4000)) for i in range(4000)) / 4000
    assert counts.double().mean().item() == pytest.approx(expected, rel=0.02)
    by_place = mask.flatten(1).double().mean(0)
    assert (by_place - by_place.mean()).abs().max() < 0.03
    torch.manual_seed(0)
    assert torch.equal(mask, random_mask(codes, "cosine"))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (dict(steps=0), "steps = 0; expected 1 or more"),
        (dict(temperature=-1.0), "temperature = -1.0; expected 0 or more"),
        (dict(choice_temperature=math.nan), "choice_temperature = nan"),
        (dict(top_k=-1), "top_k = -1"),
        (dict(guidance=math.inf), "guidance = inf"),
    ],
)
def test_arguments_out_of_range(wrong, text):
    with pytest.raises(ConfigError, match=text):
        MaskedSampling(**wrong)
