import random

import numpy as np
import torch

from visionpatch.random_state import generators_of, mix, seeded


def draw():
    return random.random(), np.random.rand(), float(torch.rand(1))


def test_same_numbers_give_the_same_draws_and_others_do_not():
    seen = set()
    for numbers in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0), (1, 1, 0), (0, 1, 1)]:
        with seeded(*numbers):
            first = draw()
        with seeded(*numbers):
            assert draw() == first
        seen.add(first)
    assert len(seen) == 6
    assert len({value for first in seen for value in first}) == 18


def test_the_states_before_come_back():
    for warm_up in range(3):
        random.seed(1)
        np.random.seed(2)
        torch.manual_seed(3)
        np.random.randn(warm_up)  # after an odd number NumPy keeps a second normal number in store
        random.gauss(0, 1)
        before = (random.getstate(), np.random.get_state(), torch.get_rng_state())
        try:
            with seeded(7):
                draw()
                np.random.randn(3)
                random.gauss(0, 1)
                raise RuntimeError
        except RuntimeError:
            pass
        after = (random.getstate(), np.random.get_state(), torch.get_rng_state())
        assert before[0] == after[0]
        assert all(np.array_equal(x, y) for x, y in zip(before[1], after[1]))
        assert torch.equal(before[2], after[2])


def test_contexts_may_be_nested():
    with seeded(1):
        expected = [np.random.rand() for _ in range(2)]
    with seeded(1):
        first = np.random.rand()
        with seeded(2):
            np.random.rand(5)
        assert [first, np.random.rand()] == expected


def test_hash_spreads():
    values = {mix(seed, epoch, index) for seed in range(4) for epoch in range(20) for index in range(100)}
    assert len(values) == 8000
    assert len({v & 0xFFFFFFFF for v in values}) > 7990
    assert all(0 <= v < 2**63 for v in values)
    bits = np.array([[v >> b & 1 for b in range(63)] for v in values])
    assert np.abs(bits.mean(0) - 0.5).max() < 0.03


BESIDE = np.random.default_rng(4)


class Keeper:
    """A transform as other libraries write them, with generators of its own in many places."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.parts = [{"old": np.random.RandomState(1)}, (random.Random(2),)]
        generator = torch.Generator().manual_seed(3)
        self.draw = lambda: torch.rand(1, generator=generator).item()
        self.numbers = list(range(1000))

    def __call__(self) -> list[float]:
        old, young = self.parts[0]["old"], self.parts[1][0]
        return [self.rng.random(), old.rand(), young.random(), self.draw(), BESIDE.random()]


def test_generators_that_objects_keep_for_themselves() -> None:
    """Found wherever they are, and drawing the same numbers whatever was drawn before."""
    keeper = Keeper()
    own = generators_of([keeper])
    assert len(own) == 5
    drawn = []
    for epoch in (0, 1, 0):
        with seeded(7, epoch, 2, own=own):
            drawn.append(keeper())
        keeper()
    assert drawn[0] == drawn[2] and not set(drawn[0]) & set(drawn[1]) and len(set(drawn[0])) == 5
    assert generators_of(random, np, torch.nn.Linear(2, 2), "text", {1: None}) == []
