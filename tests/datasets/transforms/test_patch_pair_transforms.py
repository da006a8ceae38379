"""The augmentation of patch pairs."""

from collections import Counter

import numpy as np
import pytest

from visionpatch.datasets.transforms import AugmentPatchPair, LoadPatchPair
from visionpatch.errors import ConfigError
from visionpatch.random_state import seeded

RNG = np.random.default_rng(0)
VISIBLE = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
THERMAL = RNG.integers(0, 65536, (64, 64), dtype=np.uint16)


def augmented(seed, visible=VISIBLE, thermal=THERMAL, **arguments):
    with seeded(seed):
        made = AugmentPatchPair(**arguments)(dict(visible=visible, thermal=thermal))
    return made["visible"], made["thermal"]


def nothing_alone(**arguments):
    """Arguments with which each patch for itself stays as it is."""
    return dict(blur=0.0, gamma=(1.0, 1.0), scale=(1.0, 1.0), shift=0.0, noise=0.0) | arguments


def test_flips_and_rotations_are_those_of_both():
    """With one and the same picture in both places they stay equal; all eight orientations are met."""
    seen = Counter()
    for seed in range(300):
        visible, thermal = augmented(seed, VISIBLE, VISIBLE.copy(), **nothing_alone())
        assert np.array_equal(visible, thermal)
        seen[visible.tobytes()] += 1
    orientations = [np.rot90(p, k) for p in (VISIBLE, VISIBLE[:, ::-1]) for k in range(4)]
    assert set(seen) == {p.tobytes() for p in orientations}
    # nothing at all: a third of the cases draw no operation, and no other one gives the picture itself
    assert 70 <= seen[VISIBLE.tobytes()] <= 140


def test_each_spectrum_is_changed_for_itself():
    changed = Counter()
    for seed in range(300):
        with seeded(seed):
            step = AugmentPatchPair()
            alone = [step._alone(patch) for patch in (VISIBLE, THERMAL)]
        changed[tuple(not np.array_equal(a, b) for a, b in zip(alone, (VISIBLE, THERMAL)))] += 1
        assert (alone[0].dtype, alone[1].dtype) == (np.uint8, np.uint16)
    # each changes unless none was drawn (1/3) or the blur alone (1/3 * 1/7): in 0.62 of the cases
    both, neither = changed[True, True] / 300, changed[False, False] / 300
    assert abs(both - 0.62**2) < 0.09 and abs(neither - 0.38**2) < 0.07


def test_gamma_on_the_scale_of_the_type():
    step = AugmentPatchPair(**nothing_alone(gamma=(0.5, 0.5)))
    step._draw = lambda number: [1]
    assert step._alone(np.full((4, 4), 64, np.uint8))[0, 0] == round(255 * (64 / 255) ** 0.5)
    assert step._alone(np.full((4, 4), 16448, np.uint16))[0, 0] == round(65535 * (16448 / 65535) ** 0.5)


def test_shift_mirrors_the_border():
    step = AugmentPatchPair(**nothing_alone(shift=0.05))
    step._draw = lambda number: [4]
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    with seeded(1):  # draws a shift of about 2.75 pixels to the right
        made = step._alone(ramp).astype(int)
    assert made[0, :5].tolist() == [11, 7, 3, 1, 5], "mirrored without repeating the border"
    moved = np.diff(made[:, 8:-8], axis=1)
    assert not np.array_equal(made, ramp) and abs(moved - 4).max() <= 1  # one slope inside
    assert (made[:, 8:-8] - ramp[:, 8:-8].astype(int) == -11).all() and (made == made[:1]).all()


def test_noise():
    step = AugmentPatchPair(**nothing_alone(noise=0.02))
    step._draw = lambda number: [6]
    with seeded(0):
        for kind, white in ((np.uint8, 255), (np.uint16, 65535)):
            patch = np.full((64, 64), white // 2, kind)
            spread = step._alone(patch).astype(float).std()
            assert abs(spread / (0.02 * white) - 1) < 0.05
    assert (patch == white // 2).all(), "the input is not written to"


def test_nothing_is_drawn_without_operations():
    for seed in range(5):
        visible, thermal = augmented(seed, most=0)
        assert visible is VISIBLE and thermal is THERMAL


@pytest.mark.parametrize("wrong", [dict(most=-1), dict(noise=-0.1), dict(gamma=(0, 1)), dict(scale=(2, 1))])
def test_wrong_arguments(wrong):
    with pytest.raises(ConfigError):
        AugmentPatchPair(**wrong)


def test_odd_size():
    with pytest.raises(ConfigError, match="even"):
        LoadPatchPair(size=63)
