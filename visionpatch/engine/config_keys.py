"""Which keys a config may have, and which values: what a Runner reads, and the signatures of what its dicts build."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
from mmengine.utils.dl_utils import set_multi_processing
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

from visionpatch import registry as r
from visionpatch.engine.config_files import one_line
from visionpatch.engine.config_types import UNKNOWN, Signature, Taken, signature_of, wrong_type
from visionpatch.errors import ConfigError, VisionpatchError, nearest


def _taken(**annotations: Any) -> dict[str, Taken]:
    return {name: Taken(annotation) for name, annotation in annotations.items()}


TOP_LEVEL = {name: taken for name, taken in signature_of(Runner).taken.items() if name != "cfg"} | _taken(
    model=dict,  # no list of dicts, as other places take them
    train_dataloader=dict | None,
    optim_wrapper=dict | None,
    data_preprocessor=dict | None,
    visualizer=dict | None,
    default_hooks=dict | None,  # of hooks, or None for one that is not wanted
    log_level=int | str,
    resume=bool | None,
    model_wrapper_cfg=dict | None,  # from here on what a Runner and the tools read besides
    find_unused_parameters=bool,
    sync_bn=str | None,
    activation_checkpointing=list[str] | None,
    compile=dict | bool,
    efficient_conv_bn_eval=list[str] | str | None,
    runner_type=str,
    custom_imports=dict | None,
    allow_partial_load=bool,
    tta=dict | None,
    strategy=dict | None,  # of a FlexibleRunner
)
KNOWN = tuple(TOP_LEVEL)
PIPELINES = ["train_pipeline", "val_pipeline", "test_pipeline", "tta_pipeline", "vis_backends"]

_DATA: dict[str, tuple[Registry, ...]] = {
    "dataset": (r.DATASETS,),
    "datasets": (r.DATASETS,),
    "pipeline": (r.TRANSFORMS,),
    "support_pipeline": (r.TRANSFORMS,),
    "transforms": (r.TRANSFORMS,),
    "sampler": (r.DATA_SAMPLERS,),
    "batch_sampler": (r.DATA_SAMPLERS,),
    "collate_fn": (r.FUNCTIONS,),
    "worker_init_fn": (r.FUNCTIONS,),
}
_EVALUATED = {"metrics": (r.METRICS,), "distance": (r.MODELS,), "extractor": (r.MODELS,)}
# top-level name -> (registry of its own dicts, registries of the dicts below certain names)
REGISTRIES: dict[str, tuple[tuple[Registry, ...], dict[str, tuple[Registry, ...]]]] = {
    "model": ((r.MODELS, r.TASK_UTILS), {"init_cfg": (r.WEIGHT_INITIALIZERS,)}),
    "data_preprocessor": ((r.MODELS,), {}),
    "model_wrapper_cfg": ((r.MODEL_WRAPPERS,), {}),
    **dict.fromkeys(["train_dataloader", "val_dataloader", "test_dataloader"], ((), _DATA)),
    **dict.fromkeys(["train_cfg", "val_cfg", "test_cfg"], ((r.LOOPS,), {})),
    **dict.fromkeys(["val_evaluator", "test_evaluator"], ((r.METRICS, r.EVALUATOR), _EVALUATED)),
    **dict.fromkeys(["default_hooks", "custom_hooks"], ((r.HOOKS,), {"switch_pipeline": (r.TRANSFORMS,)})),
    "optim_wrapper": ((r.OPTIM_WRAPPERS,), {"optimizer": (r.OPTIMIZERS,)}),
    "param_scheduler": ((r.PARAM_SCHEDULERS,), {}),
    "log_processor": ((r.LOG_PROCESSORS,), {}),
    "visualizer": ((r.VISUALIZERS,), {"vis_backends": (r.VISBACKENDS,)}),
}
NAMED = ("default_hooks", "param_scheduler", "optim_wrapper")  # may hold dicts under names of one's own
LAYER_CFGS = ("norm_cfg", "act_cfg", "conv_cfg", "upsample_cfg", "padding_cfg", "nms")  # of names no registry has
LOADER = _taken(
    dataset=dict,
    sampler=dict | None,
    batch_sampler=dict | None,
    collate_fn=Callable,
    worker_init_fn=Callable | None,
    num_batch_per_epoch=int | None,
    disable_subprocess_warning=bool,
    bad_samples=str,
)
EXTRA_KEYS = {  # read before the constructor sees the dict
    "default_hooks": _taken(priority=int | str),
    "custom_hooks": _taken(priority=int | str),
    "param_scheduler": _taken(convert_to_iter_based=bool, begin=float, end=float),  # which may be parts of an epoch
    "optim_wrapper": _taken(optimizer=dict, constructor=UNKNOWN, paramwise_cfg=dict | None),
    "visualizer": _taken(name=str),
}
PARAMWISE = _taken(
    custom_keys=dict[str, dict[str, float | bool]],
    bias_lr_mult=float | None,
    bias_decay_mult=float | None,
    norm_decay_mult=float | None,
    flat_decay_mult=float | None,
    dwconv_decay_mult=float | None,
    dcn_offset_lr_mult=float | None,
    bypass_duplicate=bool,
)
DEFAULT_HOOKS = {"runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint", "visualization"}
PLAIN: dict[str, Mapping[str, Taken]] = {  # dicts without a type whose keys are known
    "env_cfg": _taken(cudnn_benchmark=bool, mp_cfg=dict, dist_cfg=dict, resource_limit=int),
    "env_cfg.mp_cfg": {k: v for k, v in signature_of(set_multi_processing).taken.items() if k != "distributed"},
    "randomness": _taken(seed=int | None, diff_rank_seed=bool, deterministic=bool),
    "auto_scale_lr": _taken(enable=bool, base_batch_size=int),
    "optim_wrapper.paramwise_cfg": PARAMWISE,
    "custom_imports": _taken(imports=list[str] | str, allow_failed_imports=bool),
    "tta": _taken(scales=list[float], flip=bool),
}
DEFAULT_TYPES: dict[str, Callable] = {  # what a dict without a type builds
    "optim_wrapper": OptimWrapper,
    "val_cfg": ValLoop,
    "test_cfg": TestLoop,
    "log_processor": LogProcessor,
    "visualizer": Visualizer,
}
TYPED = re.compile(  # places whose dicts need a type
    r"model(\.(backbone|neck|\w*head)(\.\d+)?)?|(default|custom)_hooks\.\w+|param_scheduler\.\d+|optim_wrapper\.optimizer"
    r"|\w+_dataloader\.(dataset|sampler|batch_sampler)|.*pipeline\.\d+|\w+_evaluator(\.metrics)?\.\d+"
)
GIVEN = {"runner", "dataloader", "evaluator", "optimizer", "params", "dataset", "sampler", "batch_size"}  # by a Runner
COMPLETE = {"model", "train_cfg", "param_scheduler", "optim_wrapper", "default_hooks", "custom_hooks"}
COMPLETE |= {"val_evaluator", "test_evaluator"}  # where all arguments are given by the config or a Runner
AT_LEAST = {"batch_size": 1, "num_workers": 0, "prefetch_factor": 1, "timeout": 0, "val_interval": 1, "max_iters": 0}

Where = Callable[[str], str]  # dotted path -> the file and line, or the option, it comes from


def check_top_level(cfg: Config, where: Where) -> None:
    """Unknown names: nearly a known one, or a part that nothing uses. Known names: the type of their values."""
    for name, value in cfg.items():
        if name in TOP_LEVEL:
            _check_value(value, name, TOP_LEVEL[name], "a Runner", where)
        if name in KNOWN or name in PIPELINES:
            continue
        near = [k for k in KNOWN if difflib.SequenceMatcher(None, name, k).ratio() > 0.8]
        if near and not any(name.startswith(f"{k}_") for k in near):  # val_evaluator_full is a name of one's own
            raise _error(where, name, f" is not a key of a config{nearest(name, KNOWN)}")
        if isinstance(value, Mapping) and isinstance(value.get("type"), str) and not _is_used(name, value, cfg):
            text = f' = dict(type="{value["type"]}", ...) is read by nothing; put it where it belongs (model, '
            raise _error(where, name, f"{text}train_dataloader ...) or remove it")


def check_section(value: Any, path: str, where: Where) -> None:
    """Check one value of a config and everything below it; `path` is its dotted path."""
    if isinstance(value, list | tuple):
        for index, child in enumerate(value):
            check_section(child, f"{path}.{index}", where)
    if not isinstance(value, Mapping):
        return
    built = _built_by(value, path, where)
    signature = _arguments(built, value, path)
    title = _title(value, path)
    for key, child in value.items():
        if signature is None or str(key).startswith("_"):
            continue
        if key not in signature.taken and not signature.is_open:
            names = signature.taken
            raise _error(where, f"{path}.{key}", f" is not an argument of {title}{nearest(str(key), names)}")
        if key in signature.taken:
            _check_value(child, f"{path}.{key}", signature.taken[key], title, where)
    missing = _missing(built, value, path)
    if missing:
        raise _error(where, path, f"{'' if title == path else f' ({title})'} needs {' and '.join(missing)}")
    _check_names(value, path, where)
    for key, child in value.items():
        if not (key == "paramwise_cfg" and "constructor" in value):  # another constructor has keys of its own
            check_section(child, f"{path}.{key}", where)


def _check_value(value: Any, path: str, taken: Taken, title: str, where: Where) -> None:
    """The type of an argument, and its least value where every Runner agrees on it."""
    head, name = path.split(".")[0], path.split(".")[-1]
    whole = head in ("train_cfg", "param_scheduler") and isinstance(value, float) and value.is_integer()
    fault = wrong_type(int(value) if whole else value, taken)  # 1e5 iterations are a number of iterations
    if not fault and (head == "train_cfg" or path == f"{head}.{name}" and head.endswith("_dataloader")):
        least = AT_LEAST.get(name)
        if least is not None and isinstance(value, int | float) and value < least:
            fault = f"expects at least {least}"
    if fault:
        raise _error(where, path, f" = {_short(value)}: {title} {fault}")


def _arguments(built: Any, value: Mapping, path: str) -> Signature | None:
    """The keys the dict at `path` may have, and their types; None where that cannot be told."""
    if path in PLAIN:
        return Signature(PLAIN[path])
    if path.endswith("_dataloader"):
        return Signature({**signature_of(DataLoader).taken, **LOADER})
    if not callable(built):
        return None
    signature = signature_of(built)
    head, *below = _names_of(path)
    extra = EXTRA_KEYS.get(head, {}) if not below or head in NAMED[:2] and len(below) == 1 else {}
    own = _taken(by_epoch=bool) if path == "train_cfg" and "type" not in value else {}
    return Signature({**signature.taken, **extra, **own, "type": Taken()}, signature.is_open)


def _built_by(value: Mapping, path: str, where: Where) -> Any:
    """The class or function that is called with the dict at `path`; None where that cannot be told."""
    kind = value.get("type")
    if isinstance(kind, str):
        return _resolve(kind, path, where)
    if "type" in value:
        if not callable(kind) and path.split(".")[0] in REGISTRIES:
            raise _error(where, f"{path}.type", f" = {_short(kind)} is not a name")
        return kind
    if path == "train_cfg":
        return EpochBasedTrainLoop if value.get("by_epoch", "max_epochs" in value) else IterBasedTrainLoop
    if path == "optim_wrapper" and "constructor" in value:  # several optimisers, each a dict of its own
        return None
    return DEFAULT_TYPES.get(path)


def _missing(built: Any, value: Mapping, path: str) -> list[str]:
    """A type, and arguments without a default that neither the config nor a Runner gives."""
    if "type" not in value and TYPED.fullmatch(path):
        return ["type"]
    if path == "train_cfg" and not {"type", "by_epoch"} & set(value):
        return ["by_epoch"]
    names = _names_of(path)
    if names[0] not in COMPLETE and names[-1] != "dataset" or "init_cfg" in names or not callable(built):
        return []
    given = set(value) if names[0] == "model" else {*value, *GIVEN}
    needed = {name for name, taken in signature_of(built).taken.items() if taken.required}
    if path == "train_cfg":  # its length may stand in the base class
        needed |= {"max_epochs", "max_iters"} & set(signature_of(built).taken)
    return sorted(needed - given)


def _resolve(name: str, path: str, where: Where) -> Any:
    """What the registry that belongs to `path` holds under `name`; None where no registry is known to belong to it."""
    head, *below = _names_of(path)
    own, inner = REGISTRIES.get(head, ((), {}))
    part = next((part for part in reversed(below) if part in inner), None)
    direct = len(below) <= (head in NAMED) or head == "model" and not any(part.endswith(LAYER_CFGS) for part in below)
    registries = inner[part] if part else own if direct else ()
    place = f"{path}.type"
    found = _find(name, registries, place, where)
    if found is None and r.TRANSFORMS in registries and find_spec("mmcv") is not None:
        import_module("mmcv.transforms")  # registers them
        found = _find(name.removeprefix("mmcv."), registries, place, where)
    if found is None and registries:
        raise _error(where, place, f' = "{name}" is not registered{_registered_like(name, registries)}')
    return found


def _find(name: str, registries: tuple[Registry, ...], place: str, where: Where) -> Any:
    for registry in registries:
        try:
            found = registry.get(name)
        except RuntimeError:  # MMEngine's answer to a name it can neither find nor import
            continue
        except VisionpatchError:
            raise
        except Exception as error:  # whatever the package that the name begins with raises on being imported
            raise _error(where, place, f' = "{name}": {type(error).__name__}: {error}') from error
        if found is not None:
            return found
    return None


def _registered_like(name: str, registries: tuple[Registry, ...]) -> str:
    """The nearest names and the first of all; where none is near, how a part of one's own gets registered."""
    own = sorted({n for registry in registries for n in registry.module_dict})
    valid = {n for registry in registries for n in _registered(registry)}
    near = nearest(name, valid)
    listed = own or sorted(valid)
    shown = ", ".join(listed[:12]) + (f", ... ({len(valid)} in all)" if len(valid) > 12 else "")
    if "did you mean" in near:
        return f"{near} registered: {shown}"
    return f'; registered: {shown}; a part of your own needs custom_imports = dict(imports=["its.module"])'


def _names_of(path: str) -> list[str]:
    """The names of a dotted path, without the list indices."""
    return [part for part in path.split(".") if not part.isdigit()]


def _registered(registry: Registry) -> Iterator[str]:
    node: Registry | None = registry
    while node is not None:
        yield from node.module_dict
        node = node.parent


def _is_used(name: str, value: Mapping, cfg: Config) -> bool:
    """Whether a helper variable stands somewhere below a known name: under its own name, or with all its items."""

    def search(node: Any) -> bool:
        if isinstance(node, Mapping):
            same = all(k in node and node[k] == v for k, v in value.items())
            return same or name in node or any(search(child) for child in node.values())
        return isinstance(node, list | tuple) and any(search(child) for child in node)

    return any(search(cfg[known]) for known in KNOWN if known in cfg)


def _check_names(value: Mapping, path: str, where: Where) -> None:
    """Names that are nearly those of default hooks; loader keys that are for training alone."""
    if path in ("val_dataloader", "test_dataloader") and "bad_samples" in value:
        text = ": evaluation never skips samples; only train_dataloader has bad_samples"
        raise _error(where, f"{path}.bad_samples", text)
    for name in value if path == "default_hooks" else ():
        if name not in DEFAULT_HOOKS and difflib.get_close_matches(str(name), DEFAULT_HOOKS, n=1, cutoff=0.8):
            text = f" is not one of the default hooks{nearest(name, DEFAULT_HOOKS)}"
            raise _error(where, f"{path}.{name}", text)


def _error(where: Where, path: str, text: str) -> ConfigError:
    return ConfigError(one_line(f"{where(path)}: {path}{text}"))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _title(value: Mapping, path: str) -> str:
    kind = value.get("type")
    return kind if isinstance(kind, str) else getattr(kind, "__name__", path)
