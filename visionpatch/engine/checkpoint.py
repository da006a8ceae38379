"""Checkpoint files are data: read without executing anything, and loaded with a report of what fitted."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from visionpatch.engine.atomic import atomic_path
from visionpatch.engine.safe_loading import history_of, read_tensors, trusting
from visionpatch.engine.state_dicts import LoadReport, differences, load_state, state_dict_of
from visionpatch.errors import MissingDependencyError, WeightsError, nearest
from visionpatch.registry import WEIGHT_INITIALIZERS

__all__ = [
    "LoadReport",
    "Pretrained",
    "differences",
    "fetch_checkpoint",
    "from_plain",
    "load_checkpoint_file",
    "load_state",
    "sha256_of",
    "state_dict_of",
    "to_plain",
    "trusting",
]
# MMEngine's readers of these addresses unpickle what they get
OTHER_SCHEMES = (
    *(f"{name}://" for name in ("pavi", "modelzoo", "torchvision", "open-mmlab", "openmmlab", "mmcls")),
    *(rf"(\S+\:)?{name}://" for name in ("s3", "petrel")),
)


def load_checkpoint_file(path: str | Path, map_location: Any = "cpu") -> dict:
    """Read a checkpoint as data; nothing stored in it is executed, unless `trusting` says that it may.

    Args:
        path: a safetensors file, or one of ``torch.save`` that holds tensors and plain values only.
        map_location: where the tensors go, as for `torch.load`.

    Returns:
        the stored dict; a bare state dict or a safetensors file comes back as ``{"state_dict": ...}``.

    Raises:
        WeightsError: no such file, empty, truncated, not a checkpoint, or a pickle that would run code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*") if p.suffix in {".pth", ".pt", ".safetensors"}]
        what = "is a folder, expected a checkpoint file" if path.is_dir() else "no such checkpoint file"
        raise WeightsError(f"{path}: {what}{nearest(path.name, siblings)}")
    size = path.stat().st_size
    if size == 0:
        raise WeightsError(f"{path}: is empty (0 bytes), its writing was interrupted; give an older checkpoint")
    try:
        content = read_tensors(path, map_location)
    except (MissingDependencyError, WeightsError):
        raise
    except Exception as error:  # each reader has its own classes for a broken file
        raise WeightsError(
            f"{path}: {size} bytes that cannot be read as a checkpoint, it is truncated or another kind of file "
            f"({_first_line(error)}); fetch it again or give an older one"
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, expected a dict of tensors")
    if not any(isinstance(content.get(key), Mapping) for key in ("state_dict", "model")):
        return {"state_dict": OrderedDict(content)}
    return _with_harmless_meta(dict(content), path)


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_local(filename: str, map_location: Any = "cpu") -> dict:
    """MMEngine's way to a local checkpoint (`load_from`, `resume`, `init_cfg`)."""
    return load_checkpoint_file(filename, map_location)


@CheckpointLoader.register_scheme(prefixes=("http://", "https://"), force=True)
def load_from_http(filename: str, map_location: Any = "cpu") -> dict:
    """The same for a checkpoint in the web, which is kept in torch's cache folder, one folder for each address.

    A name such as ``model-0a1b2c3d.pth`` carries the beginning of the file's SHA-256, which is verified.
    """
    name = re.sub(r"[^\w.+-]", "_", urlsplit(filename).path.rpartition("/")[2])
    if not name.strip("."):
        raise WeightsError(f"{filename}: names no file; give the address of a checkpoint")
    folder = hashlib.sha256(filename.encode()).hexdigest()[:16]
    path = Path(torch.hub.get_dir()) / "checkpoints" / folder / name
    if path.is_file():
        _verify(path, name, filename)
        return load_checkpoint_file(path, map_location)
    with atomic_path(path) as part:
        try:
            torch.hub.download_url_to_file(filename, str(part))
        except (OSError, ValueError) as error:
            raise WeightsError(f"{filename}: cannot be downloaded ({_first_line(error)}); give a local file") from error
        _verify(part, name, filename)
    return load_checkpoint_file(path, map_location)


@CheckpointLoader.register_scheme(prefixes=OTHER_SCHEMES, force=True)
def refuse_scheme(filename: str, map_location: Any = "cpu") -> dict:
    """What MMEngine gets for every other kind of address."""
    raise WeightsError(f"{filename}: checkpoints are read from files and http(s) addresses; download it first")


def fetch_checkpoint(source: str | Path, map_location: Any = "cpu") -> dict:
    """`load_checkpoint_file` of a path or an http(s) address."""
    scheme, sign, _ = str(source).partition("://")
    if not sign:
        return load_checkpoint_file(source, map_location)
    return (load_from_http if scheme.lower() in ("http", "https") else refuse_scheme)(str(source), map_location)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def to_plain(checkpoint: dict) -> None:
    """Turn what a checkpoint holds besides tensors into plain data, in place: log histories and numpy numbers."""
    for key in checkpoint.keys() - {"state_dict", "ema_state_dict", "optimizer", "ranks"}:
        checkpoint[key] = _plain(checkpoint[key])


def from_plain(checkpoint: dict) -> None:
    """Undo `to_plain`, in place."""
    scalars = checkpoint.get("message_hub", {}).get("log_scalars", {})
    for name, plain in list(scalars.items()):
        if isinstance(plain, Mapping):
            try:
                log, count = plain["log"].cpu().numpy(), plain["count"].cpu().numpy()
                scalars[name] = history_of(log, count, plain["max_length"])
            except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
                raise WeightsError(
                    f"message_hub.log_scalars.{name}: no log history ({_first_line(error)}); give another checkpoint"
                ) from error


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """``init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')``: start a module from a file.

    Args:
        checkpoint: a file that `load_checkpoint_file` reads, or a URL.
        prefix: use the keys below it only, and without it.
        map_location: where the tensors are read to.
        allow_partial: whether the file may fill less than 95 % of the module's keys.

    The report is left on the module as ``load_report``; a file that does not fit raises `WeightsError`.
    """

    def __init__(
        self, checkpoint: str, prefix: str | None = None, map_location: str = "cpu", allow_partial: bool = False
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix.rstrip(".") + "." if prefix else ""
        self.map_location = map_location
        self.allow_partial = allow_partial

    def __call__(self, module: nn.Module) -> None:
        state = state_dict_of(fetch_checkpoint(self.checkpoint, self.map_location))
        module.load_report = load_state(  # type: ignore[assignment]
            module, state, self.checkpoint, allow_partial=self.allow_partial, prefix=self.prefix, whole=True
        )

    def _get_init_info(self) -> str:
        return f"Pretrained: load from {self.checkpoint}"


def _with_harmless_meta(checkpoint: dict, path: Path) -> dict:
    """A checkpoint whose ``meta`` and ``message_hub`` are dicts, and whose config is text under a name nobody runs."""
    for key in ("meta", "message_hub"):
        if not isinstance(checkpoint.get(key, {}), Mapping):
            raise WeightsError(
                f"{path}: its {key} is a {type(checkpoint[key]).__name__}, expected a dict; give another checkpoint"
            )
    if "config" in checkpoint.get("meta", {}):  # MMEngine runs this text as a program on resuming
        meta = dict(checkpoint["meta"])
        checkpoint["meta"] = {"cfg": meta.pop("config"), **meta}
    if not isinstance(checkpoint.get("message_hub", {}).get("log_scalars", {}), Mapping):
        raise WeightsError(f"{path}: its message_hub.log_scalars is no dict; give another checkpoint")
    return checkpoint


def _verify(path: Path, name: str, source: str) -> None:
    """Remove the file and raise, unless its SHA-256 begins as `name` says; a name without digits says nothing."""
    expected = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    if expected and not (found := sha256_of(path)).startswith(expected[1]):
        path.unlink()
        raise WeightsError(
            f"{source}: its SHA-256 begins with {found[: len(expected[1])]}, its name says {expected[1]}; it was "
            "changed or cut on the way and has been removed: fetch it again, from another place if this repeats"
        )


def _plain(value: Any) -> Any:
    """Data that `load_checkpoint_file` reads: an object that it would refuse becomes its text."""
    if isinstance(value, HistoryBuffer):
        log, count = (torch.from_numpy(np.asarray(a, dtype=np.float64)) for a in value.data)
        return dict(log=log, count=count, max_length=value.max_length)
    if value is None or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(value)
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {_plain(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple | set):
        return (tuple if isinstance(value, tuple) else list)(_plain(child) for child in value)
    base = next((kind for kind in (bool, int, float, str, bytes) if isinstance(value, kind)), None)
    return str(value) if base is None else base(value)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
