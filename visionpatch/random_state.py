"""Random numbers: those of a sample depend on the sample alone, those of a process can be kept and put back."""

import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator
from torch.utils.data import get_worker_info

_SPARE: list[np.random.MT19937] = []  # generators not in use; more than one only where contexts are nested


GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
LIBRARIES = {"builtins", "collections", "cv2", "functools", "mmengine", "numpy", "random", "torch", "typing"}


@contextmanager
def seeded(*numbers: int, own: Iterable[Any] = ()) -> Iterator[None]:
    """Within the context Python's, NumPy's (global) and torch's (CPU) random numbers follow from `numbers` alone.

    The states before are back afterwards, whatever happens inside. So do the numbers of the generators in `own`, which
    `generators_of` finds; their states are left as they are then.
    """
    seed = mix(*numbers)
    python_state, torch_state = random.getstate(), torch.default_generator.get_state()
    # NumPy's global state is put aside by exchanging its generator: far cheaper than copying the state there and back.
    # Only a second normal number waiting there gets lost; a loader's worker, where nobody waits for it, saves the look.
    numpy_generator = get_bit_generator()
    numpy_state = np.random.get_state(legacy=False) if get_worker_info() is None else {"has_gauss": 0}
    stand_in = _SPARE.pop() if _SPARE else np.random.MT19937()
    set_bit_generator(stand_in)
    try:
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        torch.default_generator.manual_seed(seed)
        for place, generator in enumerate(own):
            _reseed(generator, mix(seed, place))
        yield
    finally:
        random.setstate(python_state)
        torch.default_generator.set_state(torch_state)
        set_bit_generator(numpy_generator)
        _SPARE.append(stand_in)
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


def generators_of(*roots: Any) -> list[Any]:
    """The generators that objects keep for themselves: in attributes, containers, closures, or beside their class.

    Transforms of other libraries may draw from such a generator, whose state would depend on what was read before.
    Looks six levels deep, and into no container of more than 256 items.
    """
    found: list[Any] = []
    seen: set[int] = set()

    def look(value: Any, depth: int) -> None:
        if depth and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, GENERATORS):
                found.append(value)
            else:
                children = _children(value)
                for child in children if len(children) <= 256 else ():
                    look(child, depth - 1)

    for root in roots:
        look(root, 6)
    return found


def _children(value: Any) -> list[Any]:
    """What an object holds that may hold a generator."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set):
        return list(value)
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, type | ModuleType | torch.Tensor | np.ndarray | str | bytes) or value is None:
        return []
    cells = value.__closure__ or () if isinstance(value, FunctionType) else ()
    module = sys.modules.get((value if isinstance(value, FunctionType) else type(value)).__module__)
    if module is None or module.__name__.split(".")[0] in LIBRARIES:
        return []
    beside = [item for item in vars(module).values() if isinstance(item, GENERATORS)]
    return [cell.cell_contents for cell in cells] + beside + list(getattr(value, "__dict__", {}).values())


def _reseed(generator: Any, seed: int) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state  # type: ignore[call-arg]
    elif isinstance(generator, np.random.RandomState):
        generator.seed(seed & 0xFFFFFFFF)
    elif isinstance(generator, random.Random):
        generator.seed(seed)
    else:
        generator.manual_seed(seed)


def get_state() -> dict[str, Any]:
    """The state of this process's generators as plain data: Python's, NumPy's, torch's and that of the current GPU."""
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)
    _, keys, position, has_gauss, cached = legacy
    state: dict[str, Any] = dict(
        python=[version, torch.tensor(words, dtype=torch.int64), gauss],
        numpy=[torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_state(state: dict[str, Any]) -> None:
    """Put back what `get_state` gave; a GPU state is left out where there is no GPU."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


@contextmanager
def kept() -> Iterator[None]:
    """Whatever is drawn within the context, the process's random state is the same afterwards."""
    state = get_state()
    try:
        yield
    finally:
        set_state(state)
