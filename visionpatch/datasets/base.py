"""What every dataset of the toolbox does: index -> pipeline -> packed sample, under its own random state."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.random_state import generators_of, seeded

from .transforms import Compose


class BaseDataset(Dataset):
    """A dataset whose samples depend on (seed, epoch, index) alone: neither on workers nor on what was read before.

    ``dataset[key]`` takes ``key = epoch * len(dataset) + index``: plain indices are epoch 0, TrainSampler counts on.

    Args:
        pipeline: transforms, as dicts or callables.
        test_mode: for evaluation; kept for the reader of the dataset, nothing here depends on it.

    Attributes:
        metainfo: dict(classes=(name, ...), palette=[(r, g, b), ...]).
        seed: set by TrainSampler.
    """

    takes_epoch_keys = True
    metainfo: dict[str, Any]
    seed = 0
    _generators: tuple[Any, list[Any]] = (None, [])

    def __init__(self, pipeline: Sequence[Mapping[str, Any] | Callable] = (), test_mode: bool = False) -> None:
        self.pipeline = Compose(pipeline)
        self.test_mode = test_mode

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @abstractmethod
    def get_data_info(self, index: int) -> dict[str, Any]:
        """What the pipeline is given for sample `index`: paths and labels, nothing read."""

    def __getitem__(self, key: int) -> Any:
        epoch, index = self.split_key(key)
        with seeded(self.seed, epoch, index, own=self._own_generators()):
            results = self.pipeline(self.get_data_info(index))
        if results is None:
            raise BadSampleError(f"{self.get_data_info(index).get('img_path')}: a transform returned nothing for it")
        return results

    def _own_generators(self) -> list[Any]:
        """Those of the transforms, looked for once for each pipeline."""
        if self._generators[0] is not self.pipeline:
            self._generators = self.pipeline, generators_of(self.pipeline)
        return self._generators[1]

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def split_key(self, key: int) -> tuple[int, int]:
        """(epoch, index) of `key`; negative keys count from the end of epoch 0."""
        key = int(key)
        if key < -len(self):
            raise IndexError(f"index {key} of a dataset with {len(self)} samples")
        return divmod(key + len(self) if key < 0 else key, len(self))


def take(items: list, indices: int | Sequence[int] | None) -> list:
    """The first n of `items` (the last n for a negative n), or those listed."""
    if indices is None:
        return items
    if isinstance(indices, int):
        chosen = items[:indices] if indices >= 0 else items[indices:]
    else:
        wrong = [i for i in indices if not -len(items) <= i < len(items)]
        if wrong:
            raise ConfigError(f"indices: {wrong[:5]} are outside a dataset with {len(items)} samples")
        chosen = [items[i] for i in indices]
    if not chosen:
        raise DataError(f"indices={indices!r} leave none of the {len(items)} samples")
    return chosen
