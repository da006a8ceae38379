"""Loaders whose position is a number: any batch can be the first, and every draw has random numbers of its own."""

import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NoReturn

from mmengine.dataset import InfiniteSampler
from mmengine.dataset import worker_init_fn as seed_worker
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, Dataset

from visionpatch.engine.bad_samples import TolerantDataset, allowed
from visionpatch.errors import ConfigError, DataError, VisionpatchError, WorkerError
from visionpatch.random_state import generators_of, kept, seeded
from visionpatch.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS

WORKER_ADVICE = (
    "often it ran out of memory: lower num_workers, batch_size or prefetch_factor, or give the machine or container "
    "more memory and more shared memory (/dev/shm); num_workers=0 shows an error in the reading itself"
)


def build_loader(
    cfg: DataLoader | Mapping[str, Any], seed: int | None, diff_rank_seed: bool, training: bool, report: str = ""
) -> DataLoader:
    """A loader from a config, as MMEngine builds it, whose samples depend on (seed, epoch, index) alone.

    Datasets of other libraries are read under such a random state too, and samplers of other libraries hand out keys
    that never repeat in training.

    Args:
        cfg: ``train_dataloader`` and the like of a config, or a loader, which is returned as it is.
        seed: of the run.
        diff_rank_seed: as of MMEngine's `Runner.build_dataloader`.
        training: every draw of a sample has random numbers of its own; in evaluation they are always the same.
        report: where ``bad_samples="skip(n)"`` writes what it skipped.
    """
    if isinstance(cfg, DataLoader):
        return cfg
    cfg = dict(cfg)
    tolerated = allowed(cfg.pop("bad_samples", "raise"))
    dataset = cfg["dataset"]
    if isinstance(dataset, Mapping):
        dataset = DATASETS.build(dataset)
    if hasattr(dataset, "full_init"):
        dataset.full_init()
    if not len(dataset):
        raise DataError(f"{type(dataset).__name__} holds no sample; check its data_root, split and file names")
    if not getattr(dataset, "takes_epoch_keys", False):
        dataset = SeededDataset(dataset, seed or 0)
    if tolerated:
        dataset = TolerantDataset(dataset, tolerated, report)
    if cfg.pop("num_batch_per_epoch", None) is not None:
        raise ConfigError("num_batch_per_epoch is not supported: shorten the dataset by its own indices argument")
    cfg |= _samplers(cfg, dataset, None if diff_rank_seed else seed, training)
    silent = cfg.pop("disable_subprocess_warning", False)
    own = _function(cfg.pop("worker_init_fn", None))
    workers = dict(num_workers=cfg.get("num_workers", 0), rank=get_rank(), seed=seed or 0, own=own, silent=silent)
    collate = _function(cfg.pop("collate_fn", dict(type="pseudo_collate")))
    return DataLoader(
        **{**cfg, "dataset": dataset}, collate_fn=collate, worker_init_fn=partial(start_worker, **workers)
    )


class SeededDataset(Dataset):
    """A dataset of another library, each sample of which is read under a random state of its own.

    ``dataset[draw * len(dataset) + index]`` reads ``index``; everything else is the dataset's.
    """

    takes_epoch_keys = True

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self._generators: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int) -> Any:
        draw, index = divmod(int(key), len(self.dataset))
        if self._generators is None:
            self._generators = generators_of(self.dataset)
        with seeded(self.seed, draw, index, own=self._generators):
            return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not there yet while being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)


class Stream:
    """A sampler or batch sampler of another library that can begin further on: ``skip(n)`` reads no sample.

    Args:
        source: yields indices or lists of indices.
        length: of the dataset; indices become ``draw * length + index``, where the draw is the number of the item in
            the run. 0 leaves them as they are.
    """

    def __init__(self, source: Any, length: int) -> None:
        self.source = source
        self.length = length
        self.epoch = 0
        self.start = 0

    def __iter__(self) -> Iterator[Any]:
        start, self.start = self.start, 0
        for position, item in enumerate(islice(iter(self.source), start, None), start):
            offset = ((self.epoch << 32) + position) * self.length
            yield [offset + index for index in item] if isinstance(item, list | tuple) else offset + item

    def __len__(self) -> int:
        return len(self.source)

    def __getattr__(self, name: str) -> Any:
        if name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        _tell_epoch(epoch, self.source, getattr(self.source, "sampler", None))

    def skip(self, n: int) -> None:
        self.start = n


def unwrapped(dataset: Any) -> Any:
    """The dataset of the config, of that of a loader."""
    while isinstance(dataset, SeededDataset | TolerantDataset):
        dataset = dataset.dataset
    return dataset


def batches(loader: DataLoader, start: int = 0) -> Iterator[Any]:
    """The batches of one pass, from the one numbered `start` on.

    Starting the pass leaves the random state of the process alone.

    Raises:
        WorkerError: a process that reads data died or did not answer in time.
    """
    name = type(unwrapped(loader.dataset)).__name__
    waste = _skip(loader, start)
    with kept():
        iterator = iter(loader)
        for _ in range(waste):
            next(iterator, None)
    done = False
    try:
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                done = True
                return
            yield batch
    except VisionpatchError as error:
        _raise_without_traceback(error)
    except (RuntimeError, OSError, EOFError) as error:
        raise_worker_error(error, name, loader.timeout, getattr(iterator, "_workers", ()))
        raise
    finally:
        if not (done and loader.persistent_workers):
            _end_workers(loader, iterator)


def close(loader: Any) -> None:
    """End the loading processes that a loader keeps between its passes."""
    if isinstance(loader, DataLoader):
        _end_workers(loader, loader._iterator)


def endless(loader: DataLoader, start: int = 0) -> Iterator[Any]:
    """Pass after pass, from the batch numbered `start` on; a sampler that ends is told which pass begins."""
    number, offset = (0, start) if is_infinite(loader) else divmod(start, max(len(loader), 1))
    while True:
        set_epoch(loader, number)
        count = -1
        for count, batch in enumerate(batches(loader, offset)):  # noqa: B007
            yield batch
        if count < 0 and not offset:
            raise DataError(f"{type(unwrapped(loader.dataset)).__name__}: a pass over it gives no batch")
        number, offset = number + 1, 0


def is_infinite(loader: DataLoader) -> bool:
    """Whether the sampler of a loader goes on without end."""
    sampler = _sampler(loader)
    return bool(getattr(sampler, "infinite", isinstance(getattr(sampler, "source", sampler), InfiniteSampler)))


def set_epoch(loader: DataLoader, epoch: int) -> None:
    """Tell the sampler which pass begins."""
    _tell_epoch(epoch, loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))


def _tell_epoch(epoch: int, *samplers: Any) -> None:
    for sampler in samplers:
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)


def start_worker(
    worker_id: int, num_workers: int, rank: int, seed: int, own: Callable | None, silent: bool = False
) -> None:
    """What a loading process does first: signals are the main process's business, a stray random number is seeded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    seed_worker(worker_id, num_workers, rank, seed, disable_subprocess_warning=silent)
    if own is not None:
        own(worker_id)


def _end_workers(loader: DataLoader, iterator: Any) -> None:
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()  # left to the garbage collector it may wait for each of them, or complain
    loader._iterator = None


def _function(given: Any) -> Any:
    """A function from its dict, ``dict(type=..., **arguments)``."""
    if not isinstance(given, Mapping):
        return given
    function = FUNCTIONS.get(given["type"]) if isinstance(given["type"], str) else given["type"]
    return partial(function, **{key: value for key, value in given.items() if key != "type"})


def _samplers(cfg: dict, dataset: Any, seed: int | None, training: bool) -> dict[str, Any]:
    """The arguments ``sampler``, or ``batch_sampler``, of a loader; what they are made of is taken out of `cfg`."""
    sampler, batch_sampler = cfg.pop("sampler"), cfg.pop("batch_sampler", None)
    if isinstance(sampler, Mapping):
        sampler = DATA_SAMPLERS.build(dict(sampler), default_args=dict(dataset=dataset, seed=seed))
    length = len(dataset) if training and not hasattr(sampler, "skip") else 0
    if batch_sampler is None:
        return dict(sampler=sampler if hasattr(sampler, "skip") else Stream(sampler, length))
    if isinstance(batch_sampler, Mapping):
        given = dict(sampler=sampler, batch_size=cfg.pop("batch_size", 1))
        batch_sampler = DATA_SAMPLERS.build(dict(batch_sampler), default_args=given)
    return dict(batch_sampler=batch_sampler if hasattr(batch_sampler, "skip") else Stream(batch_sampler, length))


def _sampler(loader: DataLoader) -> Any:
    inner = getattr(loader.batch_sampler, "sampler", None)
    return loader.sampler if inner is None else inner


def _skip(loader: DataLoader, n: int) -> int:
    """Let the next pass begin `n` batches further on; the number of batches that must be read and dropped for it."""
    if not n:
        return 0
    batch_sampler: Any = loader.batch_sampler
    if hasattr(batch_sampler, "skip"):
        batch_sampler.skip(n)
    elif hasattr(loader.sampler, "skip"):
        loader.sampler.skip(n * (loader.batch_size or 1))
    else:
        return n  # a loader somebody else built
    return 0


def raise_worker_error(error: BaseException, name: str, timeout: float = 0, workers: Sequence[Any] = ()) -> None:
    """Raise `WorkerError` where `error` tells of a process, loading for the dataset `name`, that is gone or silent."""
    dead = [f"{i} (pid {w.pid}, exit code {w.exitcode})" for i, w in enumerate(workers) if not w.is_alive()]
    if "timed out" in str(error) and workers:
        raise WorkerError(
            f"{name}: no batch from {len(workers)} loading processes within timeout={timeout:g} s; a file system that "
            "hangs, a transform that never ends, or a timeout too short for the data: raise the loader's timeout, or "
            "find the sample with num_workers=0"
        ) from error
    if dead or re.search(r"DataLoader worker .*(exited|killed)", str(error)):
        what = ", ".join(dead) or str(error).splitlines()[0].removeprefix("DataLoader worker ")
        raise WorkerError(f"{name}: loading process {what} died; {WORKER_ADVICE}") from error


def _raise_without_traceback(error: VisionpatchError) -> NoReturn:
    """Raise the error of a loading process as it was, without the text that torch put around it."""
    text = str(error)
    if "Original Traceback" not in text:
        raise error
    last = text.strip().splitlines()[-1]
    raise type(error)(last.partition(": ")[2]) from error
