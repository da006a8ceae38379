"""Models by name: every config file is one."""

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

import visionpatch
from visionpatch.engine.checkpoint import fetch_checkpoint, load_state, state_dict_of
from visionpatch.engine.config import load_config
from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import MODELS, SCOPE


def list_models(pattern: str | None = None) -> list[str]:
    """Names of the configs, sorted: ``list_models("crossformer*fpn*")``; a plain word may stand anywhere in them."""
    if pattern is not None and not any(c in pattern for c in "*?["):
        pattern = f"*{pattern}*"
    return [name for name in sorted(_configs()) if pattern is None or fnmatch(name, pattern)]


def get_config(name_or_path: str | Path, cfg_options: Mapping[str, Any] | None = None) -> Config:
    """The checked config of a name of `list_models`, or of a file, with the overrides of `load_config`.

    Raises:
        ConfigError: neither a name nor a file; the message holds the nearest name.
    """
    name = str(name_or_path)
    if Path(name).suffix or "/" in name:
        return load_config(name, cfg_options)
    configs = _configs()
    if name not in configs:
        raise ConfigError(f'no config is called "{name}"{nearest(name, configs)}')
    return load_config(configs[name], cfg_options)


def get_model(config: str | Path | Config, weights: str | Path | None = None, device: str = "cpu") -> nn.Module:
    """Build the model of a config, in evaluation mode.

    Args:
        config: a name, a file or a Config.
        weights: a checkpoint, of which every key of the model must get its value; None leaves the model as built.
            What the checkpoint says of its dataset (classes, palette) is left on the model as ``dataset_meta``.
        device: such as ``"cuda:0"``.

    Raises:
        ConfigError: no such config.
        WeightsError: the checkpoint cannot be read or does not fit.
    """
    cfg = config if isinstance(config, Config) else get_config(config)
    if cfg.get("model") is None:
        raise ConfigError(f"{cfg.filename}: has no model")
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(cfg.model)
    if weights is not None:
        checkpoint = fetch_checkpoint(weights)
        load_state(model, state_dict_of(checkpoint), source=str(weights), complete=True)
        model.dataset_meta = dict(checkpoint.get("meta", {}).get("dataset_meta") or {})
    return model.to(device).eval()


def _configs() -> dict[str, Path]:
    """Name -> file, of the configs beside the package, inside it, and below the working directory."""
    package = Path(visionpatch.__file__).parent
    roots = [root for root in (Path("configs"), package / "configs", package.parent / "configs") if root.is_dir()]
    files = [path for root in roots for path in sorted(root.rglob("*.py")) if "_base_" not in path.parts]
    return {path.stem: path for path in reversed(files)}
