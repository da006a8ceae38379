"""What a checkpoint holds so that a run goes on to the last bit, and how it is put back."""

import copy
import hashlib
import platform
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn

import visionpatch
from visionpatch import random_state
from visionpatch.engine.checkpoint import fetch_checkpoint, from_plain
from visionpatch.engine.state_dicts import differences, load_state, state_dict_of
from visionpatch.errors import WeightsError

POINTER = "last_checkpoint"


def bare(model: Any) -> nn.Module:
    """The model without distributed wrappers; where its parts have one each, a copy that shares their tensors."""
    model = model.module if is_model_wrapper(model) else model
    parts = {name: part.module for name, part in model.named_children() if is_model_wrapper(part)}
    if parts:
        model = copy.copy(model)
        model._modules = {**model._modules, **parts}
    return model


def optim_wrappers(wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, OptimWrapper]:
    """Name -> wrapper; one alone has the name ``""``."""
    return dict(wrapper.optim_wrappers) if isinstance(wrapper, OptimWrapperDict) else {"": wrapper}


def meta_of(runner: Runner) -> dict[str, Any]:
    """What a checkpoint tells of its run, as plain data."""
    text = runner.cfg.pretty_text
    scalars = runner.message_hub.log_scalars
    dataset = runner.train_dataloader.dataset
    return dict(
        cfg=text,
        config_file=str(getattr(runner.cfg, "filename", None) or ""),
        config_sha256=hashlib.sha256(text.encode()).hexdigest(),
        command=shlex.join(sys.argv),
        versions=dict(
            visionpatch=visionpatch.__version__,
            torch=str(torch.__version__),
            mmengine=mmengine.__version__,
            numpy=np.__version__,
            python=platform.python_version(),
        ),
        metrics={key[4:]: history.current() for key, history in scalars.items() if _is_metric(key)},
        data=data_of(runner),
        dataset_meta=getattr(dataset, "metainfo", None),
        seed=runner.seed,
        experiment_name=runner.experiment_name,
        time=time.strftime("%Y%m%d_%H%M%S"),
        mmengine_version=mmengine.__version__,
    )


def _is_metric(key: str) -> bool:
    return key.startswith("val/") and key not in ("val/time", "val/data_time")


def data_of(runner: Runner) -> dict[str, int]:
    """What the meaning of a position in the data depends on."""
    loader = runner.train_dataloader
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", 0)
    return dict(samples=len(loader.dataset), batch_size=int(size), processes=get_world_size())


def states_of_ranks(runner: Runner) -> list[dict[str, Any]]:
    """What differs between processes, in the order of the ranks; every process must call it.

    Random states; the gradients that an accumulation is in the midst of; buffers that differ from the first rank's.
    """
    model = bare(runner.model)
    own = dict(
        random=random_state.get_state(),
        gradients={name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None},
        counts={name: w.inner_count for name, w in optim_wrappers(runner.optim_wrapper).items()},
    )
    if get_world_size() == 1:
        return [own]
    own["buffers"] = {name: buffer.cpu() for name, buffer in model.named_buffers()}
    states = all_gather_object(own)
    first = states[0]["buffers"]
    for state in states:
        state["buffers"] = {k: v for k, v in state["buffers"].items() if not torch.equal(v, first[k])}
    return states


def states_of_schedulers(schedulers: Any) -> Any:
    """The states of parameter schedulers, in a list or, for several optimisers, a dict of lists."""
    if isinstance(schedulers, Mapping):
        return {name: [s.state_dict() for s in part] for name, part in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers]


def find_resumable(work_dir: str | Path, logger: Any) -> tuple[str, dict]:
    """The checkpoint to go on from: the one ``last_checkpoint`` names, or the newest that is intact.

    Raises:
        WeightsError: there is none.
    """
    broken: list[str] = []
    for path in _candidates(Path(work_dir)):
        try:
            checkpoint = fetch_checkpoint(path)
            if "optimizer" in checkpoint and "iter" in checkpoint.get("meta", {}):
                if broken:
                    logger.warning(f"{'; '.join(broken)}; going on from {path} instead")
                return str(path), checkpoint
        except WeightsError as error:
            broken.append(str(error))
    found = f" ({'; '.join(broken)})" if broken else ""
    raise WeightsError(
        f"work_dir {work_dir}: holds no checkpoint to resume from{found}; leave out --resume to start afresh, or give "
        "the --work-dir of the run to go on with"
    )


def check_resumable(runner: Runner, checkpoint: Mapping[str, Any], source: str) -> None:
    """Raise `WeightsError` unless the checkpoint is of this model, optimiser and dataset, naming what differs first."""
    meta = checkpoint.get("meta", {})
    _check_form(checkpoint, source)
    if "optimizer" not in checkpoint or not {"iter", "epoch"} <= meta.keys():
        raise WeightsError(f"{source}: holds weights only, no training to resume; give it as load_from instead")
    other = differences(bare(runner.model), state_dict_of(checkpoint))
    if other:
        raise WeightsError(f"{source}: of another model: {other}; give the config of the run it is from, or load_from")
    classes = [tuple((m or {}).get("classes") or ()) for m in (meta.get("dataset_meta"), _metainfo(runner))]
    if all(classes) and classes[0] != classes[1]:
        place = next((i for i, (a, b) in enumerate(zip(*classes)) if a != b), min(map(len, classes)))
        first = [c[place] if place < len(c) else "nothing" for c in classes]
        raise WeightsError(
            f"{source}: trained on another dataset: its {len(classes[0])} classes differ from the {len(classes[1])} of "
            f"this one, first at {place} ({first[0]}, here {first[1]}); start a new training by load_from instead"
        )
    before, now = meta.get("data"), data_of(runner)
    if before and before["samples"] != now["samples"]:
        raise WeightsError(
            f"{source}: trained on another dataset, of {before['samples']} samples and not {now['samples']}; "
            "start a new training by load_from instead"
        )
    if before and before != now:
        runner.logger.warning(f"{source}: saved with {before}, resumed with {now}: the run goes on, but not bit by bit")
    for name, wrapper in optim_wrappers(runner.optim_wrapper).items():
        saved = checkpoint["optimizer"].get(name) if name else checkpoint["optimizer"]
        _check_optimizer(wrapper, saved, bare(runner.model), f"{source}: optimizer {name}".rstrip())
    _check_schedulers(runner.param_schedulers, checkpoint.get("param_schedulers"), source)


def load_training(runner: Runner, checkpoint: dict, source: str) -> None:
    """Put back weights, optimisers, schedulers, log and random states; `checkpoint` was checked."""
    from_plain(checkpoint)
    runner.call_hook("after_load_checkpoint", checkpoint=checkpoint)
    model = bare(runner.model)
    load_state(model, state_dict_of(checkpoint), source=source, strict=True)
    runner.message_hub.load_state_dict(checkpoint["message_hub"])
    runner.optim_wrapper.load_state_dict(checkpoint["optimizer"])
    for scheduler, state in zip(_flat(runner.param_schedulers), _flat(checkpoint.get("param_schedulers"))):
        scheduler.load_state_dict(state)
    states = checkpoint.get("ranks") or []
    state = states[get_rank()] if len(states) == get_world_size() else {}
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for name, gradient in state.get("gradients", {}).items():
        parameters[name].grad = gradient.to(parameters[name])
    for name, buffer in state.get("buffers", {}).items():
        buffers[name].copy_(buffer)
    if not state:
        runner.logger.warning(f"{source}: holds no random states for these processes: the run goes on, not bit by bit")
    runner.train_loop.restore(checkpoint["meta"], state)


def _candidates(work_dir: Path) -> Iterator[Path]:
    """Checkpoint files, the one pointed to first, then by the number in their names."""
    pointer = work_dir / POINTER
    named = Path(pointer.read_text(encoding="utf-8").strip()) if pointer.is_file() else None
    first = [path for path in (named, named and work_dir / named.name) if path and path.is_file()][:1]
    yield from first
    numbered = [(int(found[1]), path) for path in work_dir.glob("*.pth") if (found := re.search(r"_(\d+)$", path.stem))]
    newest = [path for _, path in sorted(numbered, key=lambda pair: (-pair[0], pair[1].name))]
    yield from (path for path in newest if path.resolve() not in [p.resolve() for p in first])


def _check_form(checkpoint: Mapping[str, Any], source: str) -> None:
    """Raise `WeightsError` for a file that only looks like a checkpoint of a training."""
    meta, ranks = checkpoint.get("meta", {}), checkpoint.get("ranks") or []
    forms = {
        "optimizer": isinstance(checkpoint.get("optimizer", {}), Mapping),
        "message_hub": isinstance(checkpoint.get("message_hub", {}), Mapping),
        "meta.iter": isinstance(meta.get("iter", 0), int) and isinstance(meta.get("epoch", 0), int),
        "meta.dataset_meta": isinstance(meta.get("dataset_meta") or {}, Mapping),
        "meta.data": not meta.get("data") or isinstance(meta["data"], Mapping) and "samples" in meta["data"],
        "ranks": isinstance(ranks, list) and all(isinstance(state, Mapping) for state in ranks),
    }
    wrong = [name for name, right in forms.items() if not right]
    if wrong:
        raise WeightsError(f"{source}: its {wrong[0]} is not what a training saves; give another checkpoint")


def _check_optimizer(wrapper: OptimWrapper, saved: Mapping | None, model: nn.Module, where: str) -> None:
    groups = wrapper.optimizer.param_groups
    advice = "give the config of the run it is from, or start a new training by load_from"
    if saved is None or len(saved["param_groups"]) != len(groups):
        count = 0 if saved is None else len(saved["param_groups"])
        raise WeightsError(f"{where}: {count} parameter groups saved, {len(groups)} here; {advice}")
    names = {id(p): name for name, p in model.named_parameters()}
    for number, (before, now) in enumerate(zip(saved["param_groups"], groups)):
        other = sorted((set(before) ^ set(now)) - {"initial_lr"})  # a scheduler's
        if other:
            kind = type(wrapper.optimizer).__name__
            raise WeightsError(
                f"{where}: saved by another optimizer than {kind}: {', '.join(other[:3])} differ; {advice}"
            )
        if len(before["params"]) != len(now["params"]):
            counts = f"{len(before['params'])} parameters saved, {len(now['params'])} here"
            raise WeightsError(f"{where}: group {number}: {counts}; {advice}")
        for key, parameter in zip(before["params"], now["params"]):
            for field, value in saved["state"].get(key, {}).items():
                if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                    shapes = f"{field} {tuple(value.shape)} saved, {tuple(parameter.shape)} here"
                    raise WeightsError(f"{where}: {names.get(id(parameter), '?')}: {shapes}; {advice}")


def _check_schedulers(schedulers: Any, saved: Any, source: str) -> None:
    now, before = _flat(schedulers), _flat(saved)
    if len(now) != len(before):
        raise WeightsError(
            f"{source}: {len(before)} parameter schedulers saved, {len(now)} here; give the config of its run"
        )
    for number, (scheduler, state) in enumerate(zip(now, before)):
        other = sorted(set(scheduler.state_dict()) ^ set(state))
        if other:
            raise WeightsError(
                f"{source}: param_scheduler.{number} is not the {type(scheduler).__name__} of this config: "
                f"{', '.join(other[:3])} differ; give the config of the run it is from"
            )


def _flat(schedulers: Any) -> list:
    """Schedulers, or their states, in one list."""
    if isinstance(schedulers, Mapping):
        return [item for part in schedulers.values() for item in part]
    return list(schedulers or ())


def _metainfo(runner: Runner) -> Mapping[str, Any] | None:
    return getattr(runner.train_dataloader.dataset, "metainfo", None)
