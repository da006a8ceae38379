"""Datasets made of datasets."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from visionpatch.errors import ConfigError
from visionpatch.random_state import mix
from visionpatch.registry import DATASETS

from .base import BaseDataset


@DATASETS.register_module()
class ConcatDataset(BaseDataset):
    """Several datasets one after the other; each keeps its own pipeline.

    Args:
        datasets: datasets, or the dicts to build them from; all with the same classes.
    """

    def __init__(self, datasets: Sequence[BaseDataset | Mapping[str, Any]]) -> None:
        if not datasets:
            raise ConfigError("ConcatDataset needs at least one dataset")
        self.datasets = [build(item) for item in datasets]
        self.ends = list(accumulate(len(dataset) for dataset in self.datasets))
        self.metainfo = self.datasets[0].metainfo
        for number, dataset in enumerate(self.datasets):
            if dataset.metainfo["classes"] != self.metainfo["classes"]:
                raise ConfigError(f"ConcatDataset: dataset {number} has other classes than dataset 0")
        super().__init__()

    _seed = 0

    @property
    def seed(self) -> int:
        return self._seed

    @seed.setter
    def seed(self, value: int) -> None:
        self._seed = value
        for number, dataset in enumerate(self.datasets):
            dataset.seed = mix(value, number)

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, key: int) -> Any:
        epoch, index = self.split_key(key)
        dataset, local = self._locate(index)
        return dataset[epoch * len(dataset) + local]

    def get_data_info(self, index: int) -> dict[str, Any]:
        dataset, local = self._locate(index)
        return {**dataset.get_data_info(local), "sample_idx": index}

    def _locate(self, index: int) -> tuple[BaseDataset, int]:
        number = bisect_right(self.ends, index)
        return self.datasets[number], index - (self.ends[number - 1] if number else 0)


@DATASETS.register_module()
class RepeatDataset(BaseDataset):
    """A dataset several times over, augmented anew each time: an epoch gets longer.

    Args:
        dataset: a dataset, or the dict to build it from.
        times: how often.
    """

    def __init__(self, dataset: BaseDataset | Mapping[str, Any], times: int) -> None:
        if not isinstance(times, int) or times < 1:
            raise ConfigError(f"RepeatDataset: times is a positive integer, not {times!r}")
        self.dataset = build(dataset)
        self.times = times
        self.metainfo = self.dataset.metainfo
        super().__init__()

    @property
    def seed(self) -> int:
        return self.dataset.seed

    @seed.setter
    def seed(self, value: int) -> None:
        self.dataset.seed = value

    def __len__(self) -> int:
        return self.times * len(self.dataset)

    def __getitem__(self, key: int) -> Any:
        epoch, index = self.split_key(key)
        return self.dataset[epoch * len(self) + index]  # every repetition is an epoch of the dataset inside

    def get_data_info(self, index: int) -> dict[str, Any]:
        return self.dataset.get_data_info(index % len(self.dataset))


def build(item: BaseDataset | Mapping[str, Any]) -> BaseDataset:
    """A dataset of the toolbox, built if it is a dict."""
    dataset = DATASETS.build(dict(item)) if isinstance(item, Mapping) else item
    if not isinstance(dataset, BaseDataset):
        raise ConfigError(f"a dataset of visionpatch is expected inside a wrapper, not {type(dataset).__name__}")
    return dataset
