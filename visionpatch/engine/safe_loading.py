"""Files of tensors are data: what a pickle would import is read before it is unpickled, and little is allowed."""

import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from visionpatch.errors import MissingDependencyError, WeightsError

ZIP, LEGACY, SAFETENSORS = "torch zip", "torch legacy", "safetensors"
PICKLE, SCRIPT, PACKAGE, TAR = "pickle", "TorchScript archive", "torch.package archive", "tar archive"
NPZ, JSON = "numpy archive", "JSON text"
RUNNABLE = (ZIP, LEGACY, PICKLE, SCRIPT, PACKAGE, TAR)  # what careless reading would run code from
LEGACY_HEAD = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)
LEGACY_PICKLES = 5  # number, version, machine, content, storage keys
MAX_DEPTH = 64
# what torch.save writes for tensors and plain values, and MMEngine for its log history
ALLOWED = re.compile(
    r"collections\.OrderedDict|builtins\.(set|complex|getattr)|_codecs\.encode|torch\.(Size|device|\w+Storage)"
    r"|torch\.(b?float|u?int|complex|bool)\w*|torch\.storage\.(Untyped|Typed)Storage|torch\.nn\.parameter\.Parameter"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter)"
    r"|numpy\.(ndarray|dtype)|numpy\.(core|_core)\.multiarray\.(_reconstruct|scalar)"
    r"|mmengine\.logging\.history_buffer\.HistoryBuffer"
)
SCALARS = {type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size}

_trusted: ContextVar[bool] = ContextVar("trust_checkpoint", default=False)


class RefusedError(Exception):
    """A file is more than data; the text says what it does: "asks to run ..."."""


@contextmanager
def trusting(flag: bool = True) -> Iterator[None]:
    """Within it, a checkpoint that would be refused is unpickled all the same, which runs what is in it."""
    token = _trusted.set(flag)
    try:
        yield
    finally:
        _trusted.reset(token)


def read_tensors(path: Path, map_location: Any = "cpu") -> Any:
    """What a checkpoint holds, as `torch.save` or safetensors stored it.

    Raises:
        WeightsError: the file is more than data, or not what its name says.
        Exception: of many classes, where the file is damaged.
    """
    kind = kind_of(path)
    named = path.suffix == ".safetensors"
    if kind == SAFETENSORS or named and kind not in RUNNABLE:
        return _read_safetensors(path, map_location)
    if named:
        raise WeightsError(f"{path}: is named .safetensors, but is of the kind: {kind}; rename it if that is right")
    try:
        return _read_torch(path, kind, map_location)
    except RefusedError as reason:
        if not _trusted.get():
            raise WeightsError(
                f"{path}: refused, it {reason}; nothing was executed. If you trust where it comes from, convert it "
                f"once: python tools/convert_checkpoint.py plain {path.name} {path.stem}.safetensors "
                "--trust-checkpoint; or give --trust-checkpoint here"
            ) from reason
    content = torch.load(path, map_location=map_location, weights_only=False)
    return content.state_dict() if isinstance(content, nn.Module) else content


def kind_of(path: Path) -> str:
    """What a file is, judged by its content: one of the constants above, "unknown", or what is wrong with it."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] == b"PK\3\4":
        return _kind_of_zip(path)
    if head[257:262] == b"ustar":
        return TAR
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= path.stat().st_size - 8:
        return SAFETENSORS
    if head.startswith(LEGACY_HEAD):
        return LEGACY
    if head.lstrip()[:1] in (b"[", b"{"):
        return JSON
    names, whole = imports_of(path, PICKLE)
    return PICKLE if whole or names and head[:1] == pickle.PROTO else "unknown"


def imports_of(path: Path, kind: str) -> tuple[list[str], bool]:
    """Names that unpickling a file would import, and whether its pickles are whole; nothing is unpickled."""
    names: dict[str, None] = {}
    whole = False
    with suppress(Exception):  # pickletools raises many classes for bytes that are no pickle
        for stream, count in _pickles(path, kind):
            for _ in range(count):
                whole = False
                for name in _imports(stream):
                    names[name] = None
                whole = True
    return list(names), whole


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            files = [name.split("/", 1)[-1] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "damaged zip archive"
    if "constants.pkl" in files:
        return SCRIPT
    if any(name.startswith(".data/extern_modules") for name in files):
        return PACKAGE
    if "data.pkl" in files:
        return ZIP
    return NPZ if any(name.endswith(".npy") for name in files) else "zip archive without tensors"


def _pickles(path: Path, kind: str) -> Iterator[tuple[IO[bytes], int]]:
    """Streams of a file that hold pickles, with the number of pickles in each."""
    if kind in (ZIP, SCRIPT, PACKAGE):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".pkl"):
                    _check_stored(entry, path)
                    yield BytesIO(archive.read(entry)), 1
    else:
        with path.open("rb") as file:
            yield file, LEGACY_PICKLES if kind == LEGACY else 1


def _imports(stream: IO[bytes]) -> Iterator[str]:
    """Dotted names that the next pickle of `stream` imports, from its opcodes."""
    strings: list[str] = ["?", "?"]  # those on the stack, as far as names need them
    memo: dict[int, str] = {}
    last = ""
    for opcode, raw, _ in pickletools.genops(stream):
        argument: Any = raw
        if opcode.name in ("GLOBAL", "INST"):
            yield _modern(argument.replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            yield _modern(".".join(strings[-2:]))
        elif opcode.name in ("EXT1", "EXT2", "EXT4"):
            yield f"copyreg.extension_{argument}"
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = last
        elif "PUT" in opcode.name:
            memo[argument] = last
        else:
            last = memo.get(argument, "") if "GET" in opcode.name else argument if isinstance(argument, str) else ""
            strings += [last] if last else []


def _modern(name: str) -> str:
    """A name as of Python 3, and safe to print."""
    return re.sub(r"^__builtin__\.", "builtins.", re.sub(r"[^\w.<>]", "?", name))


def _check_stored(entry: zipfile.ZipInfo, path: Path) -> None:
    if entry.file_size > path.stat().st_size:
        raise ValueError(f"{entry.filename} claims {entry.file_size} bytes, more than the whole file")


def _read_torch(path: Path, kind: str, map_location: Any) -> Any:
    if kind in (SCRIPT, PACKAGE, TAR):
        raise RefusedError(f"is a {kind}, whose reading runs code")
    if kind not in (ZIP, LEGACY, PICKLE):
        raise ValueError(f"it is of the kind: {kind}")
    names, whole = imports_of(path, kind)
    forbidden = [name for name in names if not ALLOWED.fullmatch(name)]
    if forbidden:
        raise RefusedError(f"asks to run {', '.join(forbidden[:5])} and not only to hold tensors")
    if not whole:
        raise ValueError("its pickle is damaged")
    if kind == ZIP:
        _check_zip(path)
    try:
        with torch.serialization.safe_globals(_stand_ins()):
            content = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:  # torch's text speaks of switching the check off
        raise ValueError("its pickle holds what torch does not read as data") from error
    return _Rebuilt(path.stat().st_size)(content)


def _check_zip(path: Path) -> None:
    """Its parts are no longer than the file and as they were written (torch does not look at their checksums)."""
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > path.stat().st_size:
            raise ValueError(f"its parts claim {claimed} bytes, more than the whole file")
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"its part {damaged} does not have its checksum")


def _read_safetensors(path: Path, map_location: Any) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError(f"{path}: reading it needs: pip install safetensors") from error
    return load_file(str(path), device=str(map_location or "cpu"))


class _Rebuilt:
    """Builds what was unpickled anew from plain containers, bare tensors and numpy arrays.

    Args:
        size: of the file in bytes; a tensor that claims more is no tensor of the file.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.memo: dict[int, Any] = {}

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if type(value) in SCALARS:
            return value
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        if id(value) not in self.memo:
            self.memo[id(value)] = self._build(value, depth + 1)
        return self.memo[id(value)]

    def _build(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in (Tensor, nn.Parameter):
            if value.numel() * value.element_size() > self.size:
                raise ValueError(f"a tensor of shape {tuple(value.shape)} claims more bytes than the whole file")
            return value.detach()
        if kind in (dict, OrderedDict):
            return kind((self(key, depth), self(child, depth)) for key, child in dict.items(value))
        if kind in (list, tuple, set):
            return kind(self(child, depth) for child in value)
        if kind in (_Array, _History):
            return value.restored()
        raise RefusedError(f"holds a {getattr(value, '__name__', kind.__name__)} besides tensors and plain values")


class _Dtype:
    """Stands for `numpy.dtype` while unpickling: numbers and truth values."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not re.fullmatch(r"[biu][1248]|f[248]|c8|c16", str(code)):
            raise RefusedError(f"holds a numpy array of type {str(code)[:20]}")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        self.value = self.value.newbyteorder(state[1] if state[1] in ("<", ">") else "=")


class _Array:
    """Stands for `numpy.ndarray` while unpickling."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = np.frombuffer(data, dtype.value).reshape(shape, order="F" if fortran else "C").copy()

    def restored(self) -> np.ndarray:
        return self.value


class _History:
    """Stands for MMEngine's log history, of which its two arrays and its length are taken."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def restored(self) -> HistoryBuffer:
        log, count = (self.state[name].restored() for name in ("_log_history", "_count_history"))
        return history_of(log, count, self.state["max_length"])


def history_of(log: np.ndarray, count: np.ndarray, max_length: Any) -> HistoryBuffer:
    """MMEngine's log history of numbers and how often each counts."""
    if log.ndim != 1 or log.shape != count.shape or type(max_length) is not int or max_length < 1:
        raise ValueError(f"a log history of {log.shape} values and {count.shape} counts, at most {max_length!r:.20}")
    return HistoryBuffer(log[-max_length:], count[-max_length:], max_length)


def _array(kind: Any, *_: Any) -> _Array:
    if kind is not _Array:
        raise RefusedError(f"holds a numpy array of class {kind!r:.40}")
    return _Array()


def _number(dtype: _Dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype.value, count=1)[0].item()


def _method(owner: Any, name: Any) -> str:
    """Stands for the ``getattr`` in MMEngine's pickles, which names methods of the log history."""
    if owner is not _History or name not in ("min", "max", "mean", "current"):
        raise RefusedError(f"asks to run builtins.getattr of {name!r:.40}")
    return name


def _stand_ins() -> list[Any]:
    """What unpickling gets instead of MMEngine's and numpy's own classes and functions."""
    multiarray = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [
        *((stand_in, f"{module}.{name}") for module in multiarray for stand_in, name in _FUNCTIONS),
        (_Dtype, "numpy.dtype"),
        (_Array, "numpy.ndarray"),
        (_History, "mmengine.logging.history_buffer.HistoryBuffer"),
        (_method, "builtins.getattr"),
    ]


_FUNCTIONS = ((_array, "_reconstruct"), (_number, "scalar"))
