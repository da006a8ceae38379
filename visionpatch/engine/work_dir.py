"""The folder a run writes to: tested before the first iteration, and used by one training at a time."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visionpatch.engine.atomic import atomic_text, remove_parts
from visionpatch.errors import ConfigError, SaveError

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".training"


def check_writable(work_dir: str | Path) -> None:
    """Raise `SaveError` unless files can be made in `work_dir`, which is made where it is missing."""
    folder = Path(work_dir)
    test = folder / f".writable.{socket.gethostname()}.{os.getpid()}"
    try:
        atomic_text("", test)
        test.unlink()
    except OSError as error:
        reason = error.__cause__ if isinstance(error, SaveError) else error
        text = getattr(reason, "strerror", None) or str(reason)
        raise SaveError(
            f"work_dir {folder}: cannot be written to ({text}); choose another one by --work-dir"
        ) from error


@contextmanager
def training_in(work_dir: str | Path) -> Iterator[None]:
    """Keep `work_dir` for the training of this process, and clear away what a killed one left unfinished.

    Raises:
        ConfigError: another process trains there.
    """
    path = Path(work_dir) / LOCK
    with open(path, "a+", encoding="utf-8") as file:
        _lock(file, path)
        remove_parts(work_dir)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield  # the file stays: removing it would let a third process lock another file of the same name


def _lock(file, path: Path) -> None:  # type: ignore[no-untyped-def]
    """A lock of this process alone: its children do not inherit it, and the system frees it when the process dies."""
    if fcntl is None:
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise ConfigError(
            f"work_dir {path.parent}: {file.read() or 'another process'} trains there; give another --work-dir or wait"
        ) from error
    except OSError:
        return  # a file system without locks
