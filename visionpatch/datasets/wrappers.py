"""Datasets made of datasets."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from visionpatch.errors import BadSampleError, ConfigError
from visionpatch.random_state import mix, seeded
from visionpatch.registry import DATASETS

from .base import BaseDataset
from .transforms.base import Results


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


@DATASETS.register_module()
class MultiImageMixDataset(BaseDataset):
    """A dataset whose samples are mixed with others of it, for transforms such as Mosaic and MixUp.

    Before a transform with a method ``get_indexes(dataset)`` the samples of these indices are put into
    ``results["mix_results"]``. They are those of the same epoch, and which they are follows from (seed, epoch, index).

    Args:
        dataset: a dataset, or the dict to build it from; its pipeline loads and does not pack.
        pipeline: transforms of the mixed sample, which end with PackInputs.
    """

    def __init__(
        self, dataset: BaseDataset | Mapping[str, Any], pipeline: Sequence[Mapping[str, Any] | Callable]
    ) -> None:
        super().__init__(pipeline)
        self.dataset = build(dataset)
        self.metainfo = self.dataset.metainfo

    @property
    def seed(self) -> int:
        return self.dataset.seed

    @seed.setter
    def seed(self, value: int) -> None:
        self.dataset.seed = value

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int) -> Any:
        epoch, index = self.split_key(key)
        first = epoch * len(self)
        with seeded(mix(self.seed, 1), epoch, index, own=self._own_generators()):
            results = self._part(first + index)
            for position, step in enumerate(self.pipeline.transforms):
                if hasattr(step, "get_indexes"):
                    chosen = step.get_indexes(self.dataset)
                    chosen = [chosen] if isinstance(chosen, int) else chosen
                    results["mix_results"] = [self._part(first + int(other)) for other in chosen]
                made = self.pipeline.apply(position, results)
                if made is None:
                    raise BadSampleError(f"{results.get('img_path')}: {type(step).__name__} returned nothing for it")
                made.pop("mix_results", None)
                results = made
        return results

    def get_data_info(self, index: int) -> dict[str, Any]:
        return self.dataset.get_data_info(index)

    def _part(self, key: int) -> Results:
        part = self.dataset[key]
        if "img" not in part:
            raise ConfigError(
                "MultiImageMixDataset: the dataset inside gives samples without img; its pipeline has to begin with "
                "LoadImage, and PackInputs belongs to the end of the outer pipeline"
            )
        return part


def build(item: BaseDataset | Mapping[str, Any]) -> BaseDataset:
    """A dataset of the toolbox, built if it is a dict."""
    dataset = DATASETS.build(dict(item)) if isinstance(item, Mapping) else item
    if not isinstance(dataset, BaseDataset):
        raise ConfigError(f"a dataset of visionpatch is expected inside a wrapper, not {type(dataset).__name__}")
    return dataset
