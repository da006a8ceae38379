"""Metrics that add up as the samples come, so that memory does not grow with their number."""

from typing import Any, Generic, TypeVar

from mmengine.dist import get_rank, get_world_size
from mmengine.evaluator import BaseMetric

Row = TypeVar("Row")


class Tally(Generic[Row]):
    """What one process has added up of its samples; the last one is held back, as it may be there twice."""

    def __init__(self) -> None:
        self.seen = 0
        self.held: Row | None = None

    def add(self, row: Row) -> None:
        """One sample more."""
        if self.held is not None:
            self.take(self.held)
        self.held = row
        self.seen += 1

    def close(self, keep_last: bool) -> None:
        """Take the last sample too, or leave it out."""
        if self.held is not None and keep_last:
            self.take(self.held)
        self.held = None

    def take(self, row: Row) -> None:
        raise NotImplementedError

    def merge(self, other: Any) -> None:
        """Add what another process has."""
        raise NotImplementedError


class StreamedMetric(BaseMetric):
    """A metric whose `results` hold a single `Tally`; a subclass gives `tally` and `values`.

    A sampler deals the samples out in turn and repeats some where their number is no multiple of the processes'. So
    the n-th sample of process r is number n * processes + r, and left out where that is beyond the data set.
    """

    results: list

    def tally(self) -> Tally:
        """One without samples."""
        raise NotImplementedError

    def values(self, tally: Any) -> dict[str, float]:
        """The results of all samples."""
        raise NotImplementedError

    def add(self, row: Any) -> None:
        if not self.results:
            self.results.append(self.tally())
        self.results[0].add(row)

    def evaluate(self, size: int) -> dict:
        """The results over the `size` samples of the data set, in every process."""
        tally = self.results[0] if self.results else self.tally()
        tally.close((tally.seen - 1) * get_world_size() + get_rank() < size)
        self.results = [tally]
        return super().evaluate(get_world_size())

    def compute_metrics(self, results: list) -> dict[str, float]:
        whole, *others = results
        for other in others:
            whole.merge(other)
        return self.values(whole)
