"""Files that are whole or not there: written beside their place, flushed to the disk, then renamed."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from visionpatch.errors import SaveError, VisionpatchError

PART = ".part"  # the end of the name of a file that is being written


@contextmanager
def atomic_path(path: str | Path, needed: int = 0) -> Iterator[Path]:
    """A path to write to, in the folder of `path`; what was written there becomes `path` when the block ends.

    A block that fails leaves `path` as it was and nothing beside it. A killed process may leave the unfinished file,
    ``.<name>.<pid>.part``, which `remove_parts` clears away.

    Args:
        path: the file to be.
        needed: its size in bytes where known, for the message.

    Raises:
        SaveError: the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        reason = None if isinstance(error, VisionpatchError) else _system_error(error)
        if reason is None or not isinstance(error, Exception):
            raise
        raise SaveError(_message(path, needed, reason)) from error


def atomic_save(content: Any, path: str | Path) -> None:
    """`torch.save` to `path`, or nothing at all; see `atomic_path`."""
    with atomic_path(path, size_of(content)) as part, open(part, "wb") as file:
        torch.save(content, file)


def atomic_text(text: str, path: str | Path) -> None:
    """Write a text file, or leave it as it was; see `atomic_path`."""
    with atomic_path(path, len(text)) as part:
        part.write_text(text, encoding="utf-8")


def remove_parts(folder: str | Path) -> None:
    """Remove what killed processes left unfinished in `folder`."""
    for part in Path(folder).glob(f".*{PART}"):
        with suppress(OSError):
            part.unlink()


def size_of(content: Any) -> int:
    """Bytes of the tensors in nested dicts and lists."""
    if isinstance(content, torch.Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, Mapping):
        return sum(size_of(value) for value in content.values())
    return sum(size_of(value) for value in content) if isinstance(content, list | tuple) else 0


def _message(path: Path, needed: int, reason: OSError) -> str:
    folder = next((p for p in (path.parent, *path.parents) if p.is_dir()), Path("."))
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
        space = f"; needs about {needed:,} bytes, {free:,} are free" if needed else ""
        kept = "; the file of this name is unchanged" if path.exists() else ""
        return (
            f"{path}: cannot be written ({reason.strerror or reason}){space}{kept}; free space or choose another folder"
        )
    return f"{path}: cannot be written ({reason.strerror or reason})"


def _system_error(error: BaseException | None) -> OSError | None:
    """The OSError in the chain of an error: torch raises its own while the file's is on the way."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system lets a folder be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
