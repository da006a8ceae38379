"""Config files: read with errors of one line, overridden from the command line, checked key by key."""

import traceback
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config

from visionpatch.engine.config_files import Origin, check_files, one_line
from visionpatch.engine.config_keys import KNOWN, Where, check_section, check_top_level
from visionpatch.engine.config_options import merge_options, parse_options
from visionpatch.engine.config_variables import split_options, write_variant
from visionpatch.errors import ConfigError, VisionpatchError
from visionpatch.registry import SCOPE

__all__ = ["check_config", "load_config", "parse_options"]
WITH_WORKERS = ("persistent_workers", "prefetch_factor", "timeout")  # what a loader only takes with num_workers > 0
LOADER_TIMEOUT = 600  # seconds; a loader that gives nothing for so long hangs, and an error is better than to wait on


def load_config(path: str | Path, cfg_options: Mapping[str, Any] | None = None, work_dir: str | None = None) -> Config:
    """Read a config file, merge the overrides, import its ``custom_imports``, settle its work_dir, check every key.

    Args:
        path: ``.py``, ``.json``, ``.yaml`` or ``.yml``. A ``.py`` config is a program: run only those you trust.
        cfg_options: dotted path -> value, as `parse_options` reads them from ``--cfg-options``. The name of a variable
            that a Python config sets to a number, text, list or tuple runs the file with the other value.
        work_dir: goes before ``work_dir`` of the config, which goes before ``./work_dirs/<config name>``.

    Raises:
        ConfigError: no such file, a syntax error (with its line), a missing or cyclic ``_base_``, a module that cannot
            be imported, an override or a key that nothing reads, a value of the wrong type.
    """
    path = Path(path)
    check_files(path)
    variables, options = split_options(path, cfg_options or {})
    cfg = _execute(path, variables)
    merge_options(cfg, options)
    where = Origin(path, cfg_options)
    _import_modules(cfg.get("custom_imports"), where)
    if cfg.get("default_scope") is None:
        cfg.default_scope = SCOPE
    cfg.work_dir = work_dir or cfg.get("work_dir") or str(Path("work_dirs") / path.stem)
    _check(cfg, where)
    _fit_to_loop(cfg)
    _fit_loaders(cfg)
    return cfg


def check_config(cfg: Config) -> None:
    """Raise `ConfigError` at the first key that nothing reads, unregistered ``type``, or value of a wrong type.

    Top-level names: those a Runner or a tool reads, and helper variables, which may have any other name unless it is
    nearly a known one. Below them every dict with a ``type`` is compared with the signature of what it builds: its
    keys with the arguments, their values with the annotations.
    """
    _check(cfg, Origin(cfg.filename))


def _check(cfg: Config, where: Where) -> None:
    check_top_level(cfg, where)
    for name in KNOWN:
        if cfg.get(name) is not None:
            check_section(cfg[name], name, where)


def _execute(path: Path, variables: Mapping[str, Any]) -> Config:
    files = {str(file.resolve()): file for file in check_files(path)}
    with TemporaryDirectory() as folder:
        run = write_variant(path, variables, Path(folder)) if variables else path
        files[str(run.resolve())] = path
        try:
            cfg = Config.fromfile(str(run), import_custom_modules=False)
        except VisionpatchError:
            raise
        except Exception as error:  # whatever the program in the file raises
            frames = traceback.extract_tb(error.__traceback__)
            places = [(files.get(str(Path(frame.filename).resolve())), frame.lineno) for frame in frames]
            where = next((f"{file}, line {line}" for file, line in reversed(places) if file), str(path))
            raise ConfigError(f"{where}: {_summary(error)}") from error
    return Config(cfg.to_dict(), cfg_text=cfg.text, filename=str(path)) if variables else cfg


def _import_modules(given: Any, where: Where) -> None:
    """Import what ``custom_imports`` names, which registers parts of one's own."""
    if not isinstance(given, Mapping):
        return
    check_section(given, "custom_imports", where)
    imports = given.get("imports") or []
    for name in [imports] if isinstance(imports, str) else imports:
        try:
            import_module(name)
        except VisionpatchError:
            raise
        except Exception as error:  # whatever the module raises
            text = f'custom_imports: "{name}": {_summary(error)}'
            if not given.get("allow_failed_imports") or not isinstance(error, ImportError):
                raise ConfigError(f"{where('custom_imports.imports')}: {text}") from error
            warnings.warn(f"{text}; left out, as allow_failed_imports says", stacklevel=2)


def _summary(error: Exception) -> str:
    """Type and message of an error in one line, with the remedy of those that a module of one's own may meet."""
    text = one_line(error.args[0] if isinstance(error, KeyError) and error.args else error)
    remedy = "; choose another name, or register it with force=True" if "is already registered in" in text else ""
    if isinstance(error, ModuleNotFoundError):
        remedy = "; install it, or put the folder it lies in on PYTHONPATH"
    return f"{type(error).__name__}: {text}{remedy}"


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
    """A loader without worker processes gets nothing that is for them; one with workers does not wait for ever."""
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg.get(name)
        if not isinstance(loader, Mapping):
            continue
        if loader.get("num_workers"):
            cfg[name] = {"timeout": LOADER_TIMEOUT, **loader}
        else:
            cfg[name] = {key: value for key, value in loader.items() if key not in WITH_WORKERS}
