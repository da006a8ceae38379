"""Which keys a config may have: the names a Runner reads, and the signatures of what its dicts build."""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from mmengine.utils.dl_utils import set_multi_processing
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from visionpatch import registry as r
from visionpatch.errors import ConfigError, nearest

RUNNER = [name for name in inspect.signature(Runner).parameters if name != "cfg"]
BESIDE = ["model_wrapper_cfg", "find_unused_parameters", "sync_bn", "activation_checkpointing", "compile"]
BESIDE += ["efficient_conv_bn_eval", "runner_type", "custom_imports"]  # what a Runner reads of its cfg besides
TOOLS = ["tta"]
PIPELINES = ["train_pipeline", "val_pipeline", "test_pipeline", "tta_pipeline", "vis_backends"]
KNOWN = tuple(RUNNER + BESIDE + TOOLS)

_DATA: dict[str, tuple[Registry, ...]] = {
    "dataset": (r.DATASETS,),
    "datasets": (r.DATASETS,),
    "pipeline": (r.TRANSFORMS,),
    "transforms": (r.TRANSFORMS,),
    "sampler": (r.DATA_SAMPLERS,),
    "batch_sampler": (r.DATA_SAMPLERS,),
    "collate_fn": (r.FUNCTIONS,),
    "worker_init_fn": (r.FUNCTIONS,),
}
# top-level name -> (registry of its own dicts, registries of the dicts below certain names)
REGISTRIES: dict[str, tuple[tuple[Registry, ...], dict[str, tuple[Registry, ...]]]] = {
    "model": ((r.MODELS, r.TASK_UTILS), {"init_cfg": (r.WEIGHT_INITIALIZERS,)}),
    "data_preprocessor": ((r.MODELS,), {}),
    "model_wrapper_cfg": ((r.MODEL_WRAPPERS,), {}),
    **dict.fromkeys(["train_dataloader", "val_dataloader", "test_dataloader"], ((), _DATA)),
    **dict.fromkeys(["train_cfg", "val_cfg", "test_cfg"], ((r.LOOPS,), {})),
    **dict.fromkeys(["val_evaluator", "test_evaluator"], ((r.METRICS, r.EVALUATOR), {"metrics": (r.METRICS,)})),
    **dict.fromkeys(["default_hooks", "custom_hooks"], ((r.HOOKS,), {"switch_pipeline": (r.TRANSFORMS,)})),
    "optim_wrapper": ((r.OPTIM_WRAPPERS,), {"optimizer": (r.OPTIMIZERS,)}),
    "param_scheduler": ((r.PARAM_SCHEDULERS,), {}),
    "log_processor": ((r.LOG_PROCESSORS,), {}),
    "visualizer": ((r.VISUALIZERS,), {"vis_backends": (r.VISBACKENDS,)}),
}
NAMED = ("default_hooks", "param_scheduler", "optim_wrapper")  # may hold dicts under names of one's own
LAYER_CFGS = ("norm_cfg", "act_cfg", "conv_cfg", "upsample_cfg", "padding_cfg")  # layers, registered only by mmcv
LOADER = {
    "dataset",
    "sampler",
    "batch_sampler",
    "collate_fn",
    "worker_init_fn",
    "num_batch_per_epoch",
    "disable_subprocess_warning",
}
EXTRA_KEYS = {  # read before the constructor sees the dict
    "default_hooks": {"priority"},
    "custom_hooks": {"priority"},
    "param_scheduler": {"convert_to_iter_based"},
    "optim_wrapper": {"optimizer", "constructor", "paramwise_cfg"},
    "train_cfg": {"by_epoch"},
    "visualizer": {"name"},
}
PARAMWISE = {
    "custom_keys",
    "bias_lr_mult",
    "bias_decay_mult",
    "norm_decay_mult",
    "flat_decay_mult",
    "dwconv_decay_mult",
    "dcn_offset_lr_mult",
    "bypass_duplicate",
}
DEFAULT_HOOKS = {"runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint", "visualization"}
PLAIN: dict[str, set[str]] = {  # dicts without a type whose keys are known
    "env_cfg": {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"},
    "env_cfg.mp_cfg": set(inspect.signature(set_multi_processing).parameters) - {"distributed"},
    "randomness": {"seed", "diff_rank_seed", "deterministic"},
    "auto_scale_lr": {"enable", "base_batch_size"},
    "optim_wrapper.paramwise_cfg": PARAMWISE,
    "tta": {"scales", "flip"},
}
SINKS = {CheckpointHook: set(inspect.signature(Runner.save_checkpoint).parameters) - {"self"}}  # what **kwargs become
DEFAULT_TYPES: dict[str, Callable] = {  # what a dict without a type builds
    "optim_wrapper": OptimWrapper,
    "val_cfg": ValLoop,
    "test_cfg": TestLoop,
    "log_processor": LogProcessor,
    "visualizer": Visualizer,
}


def check_top_level(cfg: Config, source: str) -> None:
    """Unknown names: nearly a known one, or a part that nothing uses."""
    for name, value in cfg.items():
        if name in KNOWN or name in PIPELINES:
            continue
        near = [k for k in KNOWN if difflib.SequenceMatcher(None, name, k).ratio() > 0.8]
        if near:
            raise ConfigError(f"{source}: {name} is not a key of a config{nearest(name, KNOWN)}")
        if isinstance(value, Mapping) and isinstance(value.get("type"), str) and not _is_used(name, value, cfg):
            raise ConfigError(
                f'{source}: {name} = dict(type="{value["type"]}", ...) is read by nothing; put it where it '
                "belongs (model, train_dataloader ...) or remove it"
            )


def check_section(value: Any, path: str, source: str) -> None:
    """Check one value of a config and everything below it; `path` is its dotted path."""
    if isinstance(value, list | tuple):
        for index, child in enumerate(value):
            check_section(child, f"{path}.{index}", source)
    if not isinstance(value, Mapping):
        return
    names = _allowed_keys(value, path, source)
    if names is not None:
        for key in value:
            if key not in names and not key.startswith("_"):
                raise ConfigError(
                    f"{source}: {path}.{key} is not an argument of {_title(value, path)}{nearest(key, names)}"
                )
    missing = _missing(value, path, source)
    if missing:
        raise ConfigError(f"{source}: {path} ({_title(value, path)}) needs {' and '.join(missing)}")
    if path == "default_hooks":
        _check_hook_names(value, source)
    for key, child in value.items():
        if not (key == "paramwise_cfg" and "constructor" in value):  # another constructor has keys of its own
            check_section(child, f"{path}.{key}", source)


def _allowed_keys(value: Mapping, path: str, source: str) -> set[str] | None:
    """The keys the dict at `path` may have; None where that cannot be told."""
    if path in PLAIN:
        return PLAIN[path]
    if path.endswith("_dataloader"):
        return LOADER | (_parameters(DataLoader) or set())
    if isinstance(value.get("type"), str):
        built = _resolve(value["type"], path, source)
    elif "type" in value:
        built = value["type"]
    elif path == "train_cfg":
        built = EpochBasedTrainLoop if value.get("by_epoch") else IterBasedTrainLoop
    elif path == "optim_wrapper" and "constructor" in value:  # several optimisers, each a dict of its own
        built = None
    else:
        built = DEFAULT_TYPES.get(path)
    names = _parameters(built) if callable(built) else None
    head, *below = _names_of(path)
    extra = EXTRA_KEYS.get(head, set()) if not below or head in NAMED[:2] and len(below) == 1 else set()
    return None if names is None else names | extra | {"type"}


def _missing(value: Mapping, path: str, source: str) -> list[str]:
    """Arguments without a default that a part of the model is not given; elsewhere a Runner adds some of its own."""
    built = _resolve(value["type"], path, source) if isinstance(value.get("type"), str) else None
    if path.split(".")[0] != "model" or "init_cfg" in path or not callable(built):
        return []
    parameters = inspect.signature(built).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in kinds and p.default is p.empty and p.name not in value]


def _resolve(name: str, path: str, source: str) -> Any:
    """What the registry that belongs to `path` holds under `name`; None where no registry is known to belong to it."""
    head, *below = _names_of(path)
    own, inner = REGISTRIES.get(head, ((), {}))
    part = next((part for part in reversed(below) if part in inner), None)
    direct = len(below) <= (head in NAMED) or head == "model" and not any(part in LAYER_CFGS for part in below)
    registries = inner[part] if part else own if direct else ()
    found = _find(name, registries)
    if found is None and r.TRANSFORMS in registries and find_spec("mmcv") is not None:
        import_module("mmcv.transforms")  # registers them
        found = _find(name.removeprefix("mmcv."), registries)
    if found is not None:
        return found
    if not registries:
        return None
    valid = {n for registry in registries for n in _registered(registry)}
    raise ConfigError(f'{source}: {path}.type = "{name}" is not registered{nearest(name, valid)}')


def _find(name: str, registries: tuple[Registry, ...]) -> Any:
    for registry in registries:
        with suppress(RuntimeError):  # MMEngine's answer to a name it can neither find nor import
            found = registry.get(name)
            if found is not None:
                return found
    return None


def _names_of(path: str) -> list[str]:
    """The names of a dotted path, without the list indices."""
    return [part for part in path.split(".") if not part.isdigit()]


def _registered(registry: Registry) -> Iterator[str]:
    node: Registry | None = registry
    while node is not None:
        yield from node.module_dict
        node = node.parent


@cache
def _parameters(built: Callable) -> set[str] | None:
    """Names a call of `built` takes; None where it hands unknown ones on to something unseen."""
    if not inspect.isclass(built):
        return None if _is_open(built) else _names(built)
    names: set[str] = SINKS.get(built, set()).copy()
    open_ended = False
    for klass in built.__mro__:
        if klass in (object, nn.Module, BaseModule) and open_ended and built not in SINKS:
            return None
        init = klass.__dict__.get("__init__")
        if init is None or klass is object:
            continue
        names |= _names(init)
        open_ended = _is_open(init)
        if not open_ended:
            break
    return names


def _names(function: Callable) -> set[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds} - {"self"}


def _is_open(function: Callable) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def _is_used(name: str, value: Mapping, cfg: Config) -> bool:
    """Whether a helper variable stands somewhere below a known name: under its own name, or with all its items."""

    def search(node: Any) -> bool:
        if isinstance(node, Mapping):
            same = all(k in node and node[k] == v for k, v in value.items())
            return same or name in node or any(search(child) for child in node.values())
        return isinstance(node, list | tuple) and any(search(child) for child in node)

    return any(search(cfg[known]) for known in KNOWN if known in cfg)


def _check_hook_names(hooks: Mapping, source: str) -> None:
    for name in hooks:
        if name not in DEFAULT_HOOKS and difflib.get_close_matches(name, DEFAULT_HOOKS, n=1, cutoff=0.8):
            raise ConfigError(
                f"{source}: default_hooks.{name} is not one of the default hooks{nearest(name, DEFAULT_HOOKS)}"
            )


def _title(value: Mapping, path: str) -> str:
    kind = value.get("type")
    return kind if isinstance(kind, str) else getattr(kind, "__name__", path)
