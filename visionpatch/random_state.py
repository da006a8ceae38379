"""Random numbers that depend on the sample alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator
from torch.utils.data import get_worker_info

_SPARE: list[np.random.MT19937] = []  # generators not in use; more than one only where contexts are nested


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Within the context Python's, NumPy's (global) and torch's (CPU) random numbers follow from `numbers` alone.

    The states before are back afterwards, whatever happens inside.
    """
    seed = mix(*numbers)
    python_state, torch_state = random.getstate(), torch.default_generator.get_state()
    # NumPy's global state is put aside by exchanging its generator: far cheaper than copying the state there and back.
    # Only a second normal number waiting there gets lost; a loader's worker, where nobody waits for it, saves the look.
    numpy_generator = get_bit_generator()
    numpy_state = np.random.get_state(legacy=False) if get_worker_info() is None else {"has_gauss": 0}
    own = _SPARE.pop() if _SPARE else np.random.MT19937()
    set_bit_generator(own)
    try:
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python_state)
        torch.default_generator.set_state(torch_state)
        set_bit_generator(numpy_generator)
        _SPARE.append(own)
        if numpy_state["has_gauss"]:
            np.random.set_state(numpy_state)


def mix(*numbers: int) -> int:
    """A 63-bit hash of integers: SplitMix64's finaliser (Steele et al., OOPSLA 2014) over their running sum."""
    state = 0
    for number in numbers:
        state = (state + (number & 0xFFFFFFFFFFFFFFFF) + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
