"""Checkpoint files are data: read without executing anything, and loaded with a report of what fitted."""

import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from visionpatch.errors import MissingDependencyError, WeightsError, nearest
from visionpatch.registry import WEIGHT_INITIALIZERS

PREFIXES = ("module.", "model.", "backbone.", "encoder.", "state_dict.")


@dataclass(frozen=True)
class LoadReport:
    """What became of the keys of a state dict: names of the model (`matched`, `missing`) and of the file."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]  # (key, given, expected)

    def summary(self) -> str:
        """One line: the four counts, with up to three names of each kind that did not fit."""
        shapes = [f"{key} {given} for {expected}" for key, given, expected in self.wrong_shape]
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of wrong shape": shapes}
        return f"{len(self.matched)} keys matched" + "".join(f", {_some(v, k)}" for k, v in kinds.items() if v)


def load_checkpoint_file(path: str | Path, map_location: Any = "cpu") -> dict:
    """Read a checkpoint as data; nothing stored in it is executed.

    Args:
        path: ``.safetensors``, or a file of ``torch.save`` that holds tensors and plain values only.
        map_location: where the tensors go, as for `torch.load`.

    Returns:
        the stored dict; a bare state dict or a safetensors file comes back as ``{"state_dict": ...}``.

    Raises:
        WeightsError: no such file, empty, truncated, not a checkpoint, or a pickle that would run code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*") if p.suffix in {".pth", ".pt", ".safetensors"}]
        raise WeightsError(f"{path}: no such checkpoint file{nearest(path.name, siblings)}")
    size = path.stat().st_size
    if size == 0:
        raise WeightsError(f"{path}: is empty (0 bytes), its writing was interrupted; give an older checkpoint")
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    try:
        content = read(path, map_location)
    except (MissingDependencyError, WeightsError):
        raise
    except Exception as error:  # each reader has its own classes for a broken file
        raise WeightsError(
            f"{path}: {size} bytes that cannot be read as a checkpoint, it is truncated or another kind of file "
            f"({_first_line(error)}); fetch it again or give an older one"
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, expected a dict of tensors")
    return dict(content) if _is_wrapped(content) else {"state_dict": OrderedDict(content)}


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_local(filename: str, map_location: Any = "cpu") -> dict:
    """MMEngine's way to a local checkpoint (`load_from`, `resume`, `init_cfg`)."""
    return load_checkpoint_file(filename, map_location)


@CheckpointLoader.register_scheme(prefixes=("http://", "https://"), force=True)
def load_from_http(filename: str, map_location: Any = "cpu") -> dict:
    """The same for a checkpoint in the web, which is kept in torch's cache folder."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / filename.partition("?")[0].rsplit("/", 1)[-1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(filename, str(path))
        except OSError as error:
            raise WeightsError(f"{filename}: cannot be downloaded ({_first_line(error)}); give a local file") from error
    return load_checkpoint_file(path, map_location)


def fetch_checkpoint(source: str | Path, map_location: Any = "cpu") -> dict:
    """`load_checkpoint_file` of a path or an http(s) address; other schemes are refused: their readers may run code."""
    scheme, sign, _ = str(source).partition("://")
    if not sign:
        return load_checkpoint_file(source, map_location)
    if scheme not in ("http", "https"):
        raise WeightsError(f"{source}: checkpoints are read from files and http(s) addresses; download it first")
    return load_from_http(str(source), map_location)


def load_state(
    model: nn.Module,
    state: Mapping[str, Tensor],
    source: str = "the state dict",
    strict: bool = False,
    complete: bool = False,
) -> LoadReport:
    """Copy `state` into `model` and report what fitted.

    Args:
        model: receives the tensors.
        state: tensor name -> tensor.
        source: the file, for messages.
        strict: any key that does not fit is an error.
        complete: keys of the model that got nothing are an error, superfluous ones are not.

    Raises:
        WeightsError: nothing matched (with the prefix that would repair it), or what `strict`, `complete` forbid.
    """
    own = model.state_dict()
    wrong = tuple(
        (key, tuple(state[key].shape), tuple(own[key].shape))
        for key in own
        if key in state and state[key].shape != own[key].shape
    )
    skip = {key for key, _, _ in wrong}
    try:
        result = model.load_state_dict(OrderedDict((k, v) for k, v in state.items() if k not in skip), strict=False)
    except RuntimeError as error:  # shapes that differ only after a module renamed its keys
        raise WeightsError(f"{source}: does not fit {type(model).__name__}: {_last_line(error)}") from error
    missing = tuple(key for key in result.missing_keys if key not in skip)
    matched = tuple(key for key in own if key not in skip.union(missing))
    report = LoadReport(matched, missing, tuple(result.unexpected_keys), wrong)
    if not matched and own:
        raise WeightsError(
            f"{source}: none of its {len(state)} keys fits {type(model).__name__}: "
            f"{report.summary()}{_prefix_hint(list(state), set(own))}"
        )
    if wrong and (strict or complete) or missing and (strict or complete) or report.unexpected and strict:
        raise WeightsError(f"{source}: does not fit {type(model).__name__}: {report.summary()}")
    return report


def state_dict_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, without the ``module.`` that a distributed wrapper leaves."""
    state = checkpoint.get("state_dict", checkpoint.get("model", checkpoint))
    return {re.sub(r"^module\.", "", key): value for key, value in state.items() if isinstance(value, Tensor)}


def to_plain(checkpoint: dict) -> None:
    """Turn what a checkpoint holds besides tensors into plain data, in place: log histories and numpy numbers."""
    for key in checkpoint.keys() - {"state_dict", "ema_state_dict", "optimizer"}:
        checkpoint[key] = _plain(checkpoint[key])


def _plain(value: Any) -> Any:
    if isinstance(value, HistoryBuffer):
        log, count = (torch.from_numpy(np.asarray(a, dtype=np.float64)) for a in value.data)
        return dict(log=log, count=count, max_length=value.max_length)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(child) for key, child in value.items()}
    return type(value)(_plain(child) for child in value) if type(value) in (list, tuple) else value


def from_plain(checkpoint: dict) -> None:
    """Undo `to_plain`, in place."""
    scalars = checkpoint.get("message_hub", {}).get("log_scalars", {})
    for name, plain in list(scalars.items()):
        if isinstance(plain, Mapping):
            log, count = plain["log"].cpu().numpy(), plain["count"].cpu().numpy()
            scalars[name] = HistoryBuffer(log, count, plain["max_length"])


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """``init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')``: start a module from a file.

    Args:
        checkpoint: a file that `load_checkpoint_file` reads, or a URL.
        prefix: use the keys below it only, and without it.
        map_location: where the tensors are read to.

    The report is left on the module as ``load_report``; a file of which nothing fits raises `WeightsError`.
    """

    def __init__(self, checkpoint: str, prefix: str | None = None, map_location: str = "cpu") -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.map_location = map_location

    def __call__(self, module: nn.Module) -> None:
        state = state_dict_of(fetch_checkpoint(self.checkpoint, self.map_location))
        if self.prefix:
            prefix = self.prefix.rstrip(".") + "."
            kept = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            if not kept:
                raise WeightsError(
                    f'{self.checkpoint}: no key begins with "{prefix}"'
                    f"{nearest(prefix, {key.split('.')[0] + '.' for key in state})}"
                )
            state = kept
        module.load_report = load_state(module, state, source=self.checkpoint)  # type: ignore[assignment]

    def _get_init_info(self) -> str:
        return f"Pretrained: load from {self.checkpoint}"


class _History(HistoryBuffer):
    """MMEngine's log history, restored from its two arrays alone."""

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["_log_history"], state["_count_history"], int(state["max_length"]))  # type: ignore[misc]


def _history_method(owner: Any, name: str) -> Any:
    """Stands for the ``getattr`` in MMEngine's pickles: it names methods of the log history, nothing else."""
    if owner is _History and name in {"min", "max", "mean", "current"}:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f"WeightsUnpickler error: GLOBAL getattr of {name}")


def _safe_globals() -> list[Any]:
    """What MMEngine's own checkpoints hold besides tensors: log histories and numpy numbers."""
    core = np._core if hasattr(np, "_core") else np.core  # type: ignore[attr-defined]
    dtypes = {type(np.dtype(name)) for name in ("f8", "f4", "f2", "i8", "i4", "u4", "u1", "?", "U1")}
    modules = ("numpy._core.multiarray", "numpy.core.multiarray")
    named: list[Any] = [
        (getattr(core.multiarray, name), f"{module}.{name}")
        for module in modules
        for name in ("_reconstruct", "scalar")
    ]
    history = [(_History, "mmengine.logging.history_buffer.HistoryBuffer"), (_history_method, "builtins.getattr")]
    return [np.ndarray, np.dtype, *dtypes, *named, *history]


def _read_torch(path: Path, map_location: Any) -> Any:
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        if not re.search(r"GLOBAL|Can only|Trying to call|must be imported", str(error)):
            raise  # bytes that are no pickle at all
        named = re.search(r"(?:GLOBAL|function|got <class) [`']?([\w.]+)", str(error))
        raise WeightsError(
            f"{path}: refused, it asks to run {named.group(1) if named else 'code'} and not only to hold tensors; "
            "nothing was executed. Where its source is trusted, load it with torch and save its state_dict alone, "
            "or as .safetensors"
        ) from error


def _read_safetensors(path: Path, map_location: Any) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError(f"{path}: reading it needs: pip install safetensors") from error
    return load_file(str(path), device=str(map_location or "cpu"))


def _is_wrapped(content: Mapping) -> bool:
    return any(isinstance(content.get(key), Mapping) for key in ("state_dict", "model"))


def _prefix_hint(given: list[str], own: set[str]) -> str:
    """Which prefix to remove from, or to add to, the keys of the file so that they fit."""
    heads = {key.split(".")[0] + "." for key in given} | set(PREFIXES)
    removed = {p: sum(key.removeprefix(p) in own for key in given if key.startswith(p)) for p in heads}
    added = {p: sum(p + key in own for key in given) for p in {key.split(".")[0] + "." for key in own}}
    for verb, counts in (("removed", removed), ("added", added)):
        prefix = max(counts, key=lambda p: counts[p], default="")
        if counts.get(prefix):
            return f'; {counts[prefix]} keys fit with the prefix "{prefix}" {verb}'
    return "; is this the checkpoint of another model?"


def _some(names: Iterable[Any], kind: str, limit: int = 3) -> str:
    names = list(names)
    shown = ", ".join(str(n) for n in names[:limit]) + (", ..." if len(names) > limit else "")
    return f"{len(names)} {kind} ({shown})"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
