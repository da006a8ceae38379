"""Config files: read with errors of one line, overridden from the command line, checked key by key."""

import ast
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from visionpatch.engine.config_keys import KNOWN, check_section, check_top_level
from visionpatch.errors import ConfigError, VisionpatchError, nearest
from visionpatch.registry import SCOPE

SUFFIXES = (".py", ".json", ".yaml", ".yml")


def load_config(path: str | Path, cfg_options: Mapping[str, Any] | None = None, work_dir: str | None = None) -> Config:
    """Read a config file, merge the overrides, settle its work_dir and check every key.

    Args:
        path: ``.py``, ``.json``, ``.yaml`` or ``.yml``. A ``.py`` config is a program: run only those you trust.
        cfg_options: dotted path -> value, as ``--cfg-options`` gives them.
        work_dir: goes before ``work_dir`` of the config, which goes before ``./work_dirs/<config name>``.

    Raises:
        ConfigError: no such file, a syntax error (with its line), a missing or cyclic ``_base_``, an override or a key
            that nothing reads.
    """
    path = Path(path)
    _check_files(path)
    cfg = _execute(path)
    _merge(cfg, cfg_options or {})
    if cfg.get("default_scope") is None:
        cfg.default_scope = SCOPE
    cfg.work_dir = work_dir or cfg.get("work_dir") or str(Path("work_dirs") / path.stem)
    check_config(cfg)
    _fit_to_loop(cfg)
    _fit_loaders(cfg)
    return cfg


def check_config(cfg: Config) -> None:
    """Raise `ConfigError` at the first key that nothing reads and the first ``type`` that is not registered.

    Top-level names: those a Runner or a tool reads, and helper variables, which may have any other name unless it is
    nearly a known one. Below them every dict with a ``type`` is compared with the signature of what it builds.
    """
    source = str(cfg.filename or "config")
    check_top_level(cfg, source)
    for name in KNOWN:
        if cfg.get(name) is not None:
            check_section(cfg[name], name, source)


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["a.b=1", "c=[1,2]"]`` -> ``{"a.b": 1, "c": [1, 2]}``, the values read as OpenMMLab's tools read them."""
    options = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f'--cfg-options {pair}: expected KEY=VALUE, e.g. train_cfg.max_iters=1000 or "a.b=[1,2]"')
        if any(value.count(both[0]) != value.count(both[1]) for both in ("()", "[]")):
            raise ConfigError(f"--cfg-options {pair}: brackets do not match")
        options[key.strip()] = DictAction._parse_iterable(value)
    return options


def _fit_to_loop(cfg: Config) -> None:
    """An iteration-based run logs and saves by iterations unless its config says otherwise."""
    loop = cfg.get("train_cfg") or {}
    if not loop or loop.get("by_epoch", loop.get("type") not in (None, "IterBasedTrainLoop")):
        return
    cfg.log_processor = dict(by_epoch=False) | (cfg.get("log_processor") or {})
    hooks: dict[str, Any] = dict(
        logger=dict(type="LoggerHook"), checkpoint=dict(type="CheckpointHook", interval=loop.get("val_interval", 1000))
    )
    hooks |= cfg.get("default_hooks") or {}
    for name, key in (("logger", "log_metric_by_epoch"), ("checkpoint", "by_epoch")):
        if hooks[name]:
            hooks[name] = {key: False, **hooks[name]}
    cfg.default_hooks = hooks


def _fit_loaders(cfg: Config) -> None:
    """A loader without worker processes keeps none alive and prefetches nothing, whatever its config says of them."""
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg.get(name)
        if loader and not loader.get("num_workers"):
            cfg[name] = {k: v for k, v in loader.items() if k not in ("persistent_workers", "prefetch_factor")}


def _check_files(path: Path, chain: tuple[Path, ...] = ()) -> None:
    """Existence and syntax of the file and of its bases."""
    source = f'{chain[-1]}: _base_ = "{path}"' if chain else str(path)
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*") if p.suffix in SUFFIXES] if path.parent.is_dir() else []
        raise ConfigError(f"{source}: no such config file{nearest(path.name, siblings)}")
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{source}: a config file ends in {', '.join(SUFFIXES)}")
    if path.resolve() in [p.resolve() for p in chain]:
        raise ConfigError(f"{' -> '.join(str(p) for p in (*chain, path))}: _base_ goes round in a circle")
    for base in _bases(path):
        if "::" not in base:
            _check_files(path.parent / base, (*chain, path))


def _bases(path: Path) -> list[str]:
    if path.suffix != ".py":
        return []
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}") from error
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_base_":
            try:
                value = ast.literal_eval(node.value)
            except ValueError as error:
                raise ConfigError(f"{path}, line {node.lineno}: _base_ must be a path or a list of paths") from error
            return [value] if isinstance(value, str) else list(value)
    return []


def _execute(path: Path) -> Config:
    try:
        return Config.fromfile(str(path))
    except VisionpatchError:
        raise
    except Exception as error:  # whatever the program in the file raises
        frames = traceback.extract_tb(sys.exc_info()[2])
        line = next((f", line {f.lineno}" for f in reversed(frames) if f.filename == str(path)), "")
        text = " ".join(str(error).split())
        raise ConfigError(f"{path}{line}: {type(error).__name__}: {text}") from error


def _merge(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge the overrides; one that would change nothing is an error."""
    for key, value in options.items():
        head = key.split(".")[0]
        if head not in cfg and head not in KNOWN:
            raise ConfigError(
                f"--cfg-options {key}={value}: {cfg.filename} has no {head}{nearest(head, [*cfg, *KNOWN])}"
            )
        if head not in KNOWN:
            users = [path for path, used in _leaves(cfg) if used == cfg[head] and path != head][:3]
            hint = f"; override what it was used for: {', '.join(users)}" if users else ""
            raise ConfigError(
                f"--cfg-options {key}={value}: {head} is a helper variable of {cfg.filename}, "
                f"its value has been used already{hint}"
            )
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            text = re.sub(r"\s+", " ", str(error.args[0] if error.args else error))[:160]
            raise ConfigError(f"--cfg-options {key}={value}: does not fit {cfg.filename}: {text}") from error


def _leaves(cfg: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything below the known names."""
    items = cfg.items() if isinstance(cfg, Mapping | Config) else enumerate(cfg)
    for key, value in items:
        here = f"{path}.{key}" if path else str(key)
        if not path and key not in KNOWN:
            continue
        yield here, value
        if isinstance(value, Mapping | list | tuple):
            yield from _leaves(value, here)
