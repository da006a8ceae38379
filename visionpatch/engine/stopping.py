"""SIGTERM and SIGINT as a wish: the iteration is finished and saved before the run ends."""

import os
import signal
import threading
from collections.abc import Generator, Iterable
from types import FrameType, TracebackType
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size

from visionpatch.errors import TrainingStopped


class Interrupted(BaseException):  # noqa: N818
    """A signal came while the run waited for data."""


class StopRequest:
    """Within the context SIGTERM and SIGINT are remembered; a second one ends the process at once.

    Attributes:
        signal: the name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[int, Any] = {}
        self._waiting = False

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python lets no other one set handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if isinstance(error, TrainingStopped) and get_world_size() > 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a launcher ends the others when the first one has ended

    def agreed(self) -> bool:
        """Whether any process of the run was asked to stop; all of them must ask at the same place."""
        return any_process(self.signal is not None)

    def batches(self, source: Iterable[Any]) -> Generator[Any, None, None]:
        """What `source` yields, until a signal comes while it is waited for.

        Processes of one run wait to the end: they must all do the same iterations.
        """
        iterator = iter(source)
        while True:
            try:
                self._waiting = get_world_size() == 1
                batch = next(iterator)
            except (StopIteration, Interrupted):
                return
            finally:
                self._waiting = False
            yield batch

    def _remember(self, number: int, frame: FrameType | None) -> None:
        torchrun = "TORCHELASTIC_RUN_ID" in os.environ
        if self.signal is not None:
            if torchrun:  # it passes on what may have come to all, and kills what does not end in time
                return
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = signal.Signals(number).name
        if hasattr(signal, "SIGCHLD"):  # loading processes that got it too may end before the iteration does
            self._before.setdefault(signal.SIGCHLD, signal.signal(signal.SIGCHLD, signal.SIG_DFL))
        more = "" if torchrun else "; once more to leave at once"
        message = f"\n{self.signal}: finishing the iteration and saving{more}\n"
        os.write(2, message.encode())  # print and logging are not safe in a handler
        if self._waiting:
            raise Interrupted


def any_process(flag: bool) -> bool:
    """Whether `flag` holds in any process of the run."""
    if get_world_size() == 1:
        return flag
    count = torch.tensor([float(flag)])
    all_reduce(count, "sum")
    return count.item() > 0
