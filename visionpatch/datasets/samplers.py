"""Which sample comes next, and which ones make a batch."""

import math
from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from visionpatch.errors import ConfigError, DataError
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


@DATA_SAMPLERS.register_module()
class AspectRatioBatchSampler(Sampler[list[int]]):
    """Batches of pictures that are all wider than high, or all not: they need less padding.

    What is left of both kinds when a pass ends makes the last batches together. The dataset's ``get_data_info`` gives
    ``width`` and ``height``; each picture is asked once.

    Args:
        sampler: yields indices, or the keys of TrainSampler.
        batch_size: samples of a batch.
        drop_last: leave out the last batch of a pass if it is smaller.
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"AspectRatioBatchSampler: batch_size is a positive integer, not {batch_size!r}")
        self.sampler = sampler
        self.dataset = sampler.dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.start = 0
        self._wide = np.full(len(self.dataset), -1, np.int8)  # -1: not asked yet

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0  # at the first batch: a loader with workers asks for two iterators
        yield from islice(self._batches(), start, None)

    def __len__(self) -> int:
        """Batches of one epoch."""
        n = len(self.sampler)
        return n // self.batch_size if self.drop_last else math.ceil(n / self.batch_size)

    def skip(self, n: int) -> None:
        """Let the next iteration begin `n` batches further on; no picture is read for it."""
        self.start = n

    def _batches(self) -> Iterator[list[int]]:
        waiting: tuple[list[int], list[int]] = ([], [])
        for key in self.sampler:
            bucket = waiting[self._is_wide(key)]
            bucket.append(key)
            if len(bucket) == self.batch_size:
                yield bucket[:]
                bucket.clear()
        rest = waiting[0] + waiting[1]
        for first in range(0, len(rest), self.batch_size):
            batch = rest[first : first + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def _is_wide(self, key: int) -> int:
        index = key % len(self._wide)
        if self._wide[index] < 0:
            info = self.dataset.get_data_info(index)
            if "width" not in info:
                raise ConfigError(
                    f"AspectRatioBatchSampler: {type(self.dataset).__name__} does not know the sizes of its "
                    "pictures; take batch_sampler out of the config"
                )
            self._wide[index] = info["width"] > info["height"]
        return int(self._wide[index])
