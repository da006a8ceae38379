"""Checkpoints that try to run something, written as an attacker would; every one of them would make a folder."""

import builtins
import functools
import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

Call = tuple[Callable, tuple]


class Payload:
    """Unpickling it calls a function."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Call:
        return self.call


def payloads(trap: Path) -> dict[str, Payload]:
    """Name -> what makes `trap`, or would help to make it."""
    python, text = f"__import__('os').mkdir({str(trap)!r})", str(trap)
    return {
        "mkdir": Payload(os.mkdir, text),
        "os.system": Payload(os.system, f"mkdir {text}"),
        "subprocess": Payload(subprocess.call, ["mkdir", text]),
        "eval": Payload(eval, python),
        "exec": Payload(exec, python),
        "import": Payload(__import__, "os"),
        "open": Payload(open, text, "w"),
        "getattr of a module": Payload(getattr, Payload(__import__, "os"), "mkdir"),
        "getattr of a builtin": Payload(getattr, builtins.dict, "fromkeys"),
        "getattr of a history": Payload(getattr, HistoryBuffer, "__init_subclass__"),
        "register on a history": Payload(HistoryBuffer.register_statistics, eval),
        "partial": Payload(functools.partial, os.mkdir, text),
        "numpy.save": Payload(np.save, text, [1]),
        "numpy.load": Payload(np.load, text),
        "numpy.fromfile": Payload(np.fromfile, text),
        "torch.save": Payload(torch.save, [1], text),
        "torch.load": Payload(torch.load, text),
        "torch.hub": Payload(torch.hub.load, text, "x"),
        "torch bytes": Payload(torch.storage._load_from_bytes, pickle.dumps(Payload(os.mkdir, text))),
        "rebuild by type": Payload(torch._tensor._rebuild_from_type_v2, os.mkdir, int, (text,), {}),
        "copytree": Payload(shutil.copytree, str(trap.parent), text),
        "huge bytearray": Payload(bytearray, 1 << 40),
    }


def places(payload: Payload) -> dict[str, Any]:
    """Where in a checkpoint it may hide."""
    shadowed = OrderedDict(a=torch.zeros(1))
    shadowed.get = payload  # type: ignore[assignment, method-assign]
    return {
        "root": payload,
        "state dict": {"state_dict": payload},
        "tensor": {"state_dict": {"w": payload}},
        "attribute": {"state_dict": shadowed},
        "meta": {"state_dict": {}, "meta": {"config": [payload]}},
        "optimizer": {"state_dict": {}, "optimizer": {"state": {0: {"exp_avg": payload}}}},
        "message hub": {"state_dict": {}, "message_hub": {"log_scalars": {"loss": [payload]}}},
        "history": {"state_dict": {}, "x": Payload(HistoryBuffer, payload, [1])},
        "array": {"state_dict": {}, "x": np.array([payload], dtype=object)},
        "key": {"state_dict": {(1, payload): 2}},
    }


def write_zip(path: Path, content: Any) -> None:
    torch.save(content, path)


def write_legacy(path: Path, content: Any) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_pickle(path: Path, content: Any, protocol: int = 2) -> None:
    path.write_bytes(pickle.dumps(content, protocol))


def write_tar(path: Path, content: Any) -> None:
    """The format of the first releases of torch: pickles in a tar archive."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            data = pickle.dumps(content, 2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def write_package(path: Path, content: Any) -> None:
    from torch.package import PackageExporter

    with PackageExporter(str(path)) as exporter:
        exporter.extern("**")
        exporter.save_pickle("model", "data.pkl", content)


def write_script(path: Path, content: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(path))


def write_mixed_zip(path: Path, content: Any) -> None:
    """Two files of one name: a reader may look at the one and load the other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w") as archive:
            for data in (pickle.dumps(content, 2), pickle.dumps({"w": 1}, 2)):
                archive.writestr("a/data.pkl", data)
            archive.writestr("a/version", "3\n")
            archive.writestr("a/byteorder", "little")


FORMATS = {
    "zip": write_zip,
    "legacy": write_legacy,
    **{f"pickle {n}": functools.partial(write_pickle, protocol=n) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
    "tar": write_tar,
    "torch.package": write_package,
    "TorchScript": write_script,
    "two of a name": write_mixed_zip,
}


def text(value: str) -> bytes:
    """A text in a pickle."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def name(module: str, attribute: str) -> bytes:
    """An import in a pickle."""
    return f"c{module}\n{attribute}\n".encode()


def forge(path: Path, code: bytes, *parts: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """A torch zip around the opcodes of a pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + code + b".")
        for part, data in (("a/version", b"3\n"), ("a/byteorder", sys.byteorder.encode()), *parts):
            archive.writestr(part, data)


def in_model(code: bytes) -> bytes:
    """The opcodes of ``{"model": {}, "x": <code>}``."""
    return b"}" + text("model") + b"}s" + text("x") + code + b"s"


def tensor(storage: str = "0", numel: int = 4, offset: int = 0, size: int = 4, stride: int = 1) -> bytes:
    """The opcodes of a float tensor, with whatever numbers."""

    def number(value: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", value)

    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + b"(("
        + text("storage")
        + name("torch", "FloatStorage")
        + text(storage)
        + text("cpu")
        + number(numel)
        + b"tQ"
        + number(offset)
        + number(size)
        + b"\x85"
        + number(stride)
        + b"\x85\x89"
        + name("collections", "OrderedDict")
        + b")RtR"
    )


HISTORY = name("mmengine.logging.history_buffer", "HistoryBuffer")
ARRAY = name("numpy._core.multiarray", "_reconstruct")
DTYPE = name("numpy", "dtype")
ZEROS = ("a/data/0", bytes(16))
# what uses allowed names for something else, or lies about sizes
FORGERIES: dict[str, tuple[bytes, tuple]] = {
    "history unbuilt": (in_model(HISTORY + b")\x81"), ()),
    "history of a class": (in_model(HISTORY + b")\x81}" + text("__class__") + name("torch", "Size") + b"sb"), ()),
    "history of texts": (in_model(HISTORY + b")\x81}" + text("_log_history") + text("x") + b"sb"), ()),
    "history called": (in_model(HISTORY + text("a") + b"\x85R"), ()),
    "getattr init": (in_model(name("builtins", "getattr") + HISTORY + text("__init__") + b"\x86R"), ()),
    "getattr of a dict": (in_model(name("builtins", "getattr") + name("builtins", "set") + text("min") + b"\x86R"), ()),
    "getattr called": (in_model(name("builtins", "getattr") + HISTORY + text("min") + b"\x86R)R"), ()),
    "class as data": (in_model(name("numpy", "ndarray")), ()),
    "array of objects": (in_model(DTYPE + text("O8") + b"\x89\x88\x87R"), ()),
    "array of structures": (in_model(DTYPE + text("V8") + b"\x89\x88\x87R"), ()),
    "array of another class": (
        in_model(ARRAY + name("collections", "OrderedDict") + b"K\0\x85" + text("b") + b"\x87R"),
        (),
    ),
    "nested too deep": (in_model(b"]" * 5000 + b"a" * 4999), ()),
    "holds itself": (b"}q\0" + text("model") + b"}s" + text("self") + b"h\0s", ()),
    "storage of 4 EB": (in_model(tensor(numel=1 << 60)), (ZEROS,)),
    "storage longer than its record": (in_model(tensor(numel=1 << 16)), (ZEROS,)),
    "tensor beyond its storage": (in_model(tensor(size=1 << 40)), (ZEROS,)),
    "tensor before its storage": (in_model(tensor(offset=-16)), (ZEROS,)),
    "tensor of one value a billion times": (in_model(tensor(size=1 << 30, stride=0)), (ZEROS,)),
    "storage of another folder": (in_model(tensor("../../../../outside")), (ZEROS, ("../../outside", bytes(16)))),
    "no storage": (in_model(tensor("9")), (ZEROS,)),
}
