"""Which sample comes next."""

import math
from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from visionpatch.errors import DataError
from visionpatch.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module(name=["TrainSampler", "InfiniteSampler"])
class TrainSampler(Sampler[int]):
    """One permutation after the other, dealt to the ranks in turn, without end.

    Yields keys ``epoch * len(dataset) + index``, which the toolbox's datasets split again: so every epoch has
    augmentations of its own, whatever the number of workers. Datasets that do not know such keys are given the index.

    The permutation of an epoch comes from the seed and the epoch alone, so a resumed run need not replay anything:
    ``skip(n)``.

    Args:
        dataset: anything with a length; ``dataset.seed`` is set where it takes epoch keys.
        shuffle: False keeps the order of the dataset.
        seed: None draws one and shares it between the ranks.
        infinite: False ends after one epoch, which ``set_epoch`` chooses.
        round_up: with ``infinite=False``, repeat samples so that every rank gets the same number.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        infinite: bool = True,
        round_up: bool = True,
    ) -> None:
        if not len(dataset):
            raise DataError(f"{type(dataset).__name__} is empty: there is nothing to draw from")
        self.dataset: Any = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else int(seed)
        self.infinite = infinite
        self.round_up = round_up
        self.rank, self.world_size = get_dist_info()
        self.epoch = 0
        self.start = 0
        self._epoch_keys = getattr(dataset, "takes_epoch_keys", False)
        if self._epoch_keys:
            dataset.seed = self.seed  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        return self._stream(start) if self.infinite else self._one_epoch(start)

    def __len__(self) -> int:
        """Samples of this rank in one epoch."""
        if self.infinite or self.round_up:
            return math.ceil(len(self.dataset) / self.world_size)
        return math.ceil((len(self.dataset) - self.rank) / self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of a finite sampler; an infinite one counts its own."""
        self.epoch = epoch

    def skip(self, n: int) -> None:
        """Let the next iteration begin `n` samples of this rank further on; costs no reading."""
        self.start = n

    def _stream(self, start: int) -> Iterator[int]:
        position = self.rank + start * self.world_size
        while True:
            epoch, offset = divmod(position, len(self.dataset))
            keys = self._keys(epoch)
            yield from keys[offset :: self.world_size]
            position += len(range(offset, len(keys), self.world_size)) * self.world_size

    def _one_epoch(self, start: int) -> Iterator[int]:
        keys = self._keys(self.epoch)
        if self.round_up:
            total = len(self) * self.world_size
            keys = (keys * math.ceil(total / len(keys)))[:total]
        yield from islice(keys[self.rank :: self.world_size], start, None)

    def _keys(self, epoch: int) -> list[int]:
        n = len(self.dataset)
        if self.shuffle:
            generator = torch.Generator()
            generator.manual_seed(self.seed + epoch)
            order = torch.randperm(n, generator=generator)
        else:
            order = torch.arange(n)
        return (order + epoch * n if self._epoch_keys else order).tolist()


@DATA_SAMPLERS.register_module()
class DefaultSampler(TrainSampler):
    """One epoch at a time: MMEngine's sampler of this name, with augmentations of their own in every epoch."""

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        super().__init__(dataset, shuffle, seed, infinite=False, round_up=round_up)
