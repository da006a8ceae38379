"""Several optimisers that train one loss, each its part of the model."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS

KEYS = ("optimizer", "parts", "clip_grad")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OptimizerPerPart:
    """``optim_wrapper=dict(constructor="OptimizerPerPart", NAME=dict(optimizer=..., parts=[...]), ...)``.

        optim_wrapper = dict(
            constructor="OptimizerPerPart",
            transformer=dict(parts=["decode_head.transformer"], optimizer=dict(type="AdamW", lr=6e-5)),
            convs=dict(optimizer=dict(type="SGD", lr=0.05, momentum=0.9, weight_decay=1e-4)),
        )
        param_scheduler = dict(transformer=[], convs=[dict(type="PolyLR", power=0.9, by_epoch=False, end=1000)])

    Each entry trains the parameters below its `parts` (paths of modules); the one without `parts` trains all others.
    `clip_grad` is that of `OptimWrapper`. All step after each backward pass of the loss. Without mixed precision.

    Raises:
        ConfigError: an unknown key, parts without a parameter that trains, two entries for one parameter, a parameter
            without entry.
    """

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        if paramwise_cfg:
            raise ConfigError("optim_wrapper: OptimizerPerPart takes no paramwise_cfg; give parts their own entry")
        self.entries = {name: dict(entry) for name, entry in optim_wrapper_cfg.items() if name != "type"}
        for name, entry in self.entries.items():
            for key in entry:
                if key not in KEYS:
                    raise ConfigError(f'optim_wrapper.{name} has no key "{key}"{nearest(str(key), KEYS)}')
            if "optimizer" not in entry:
                raise ConfigError(f"optim_wrapper.{name} has no optimizer; give dict(type=..., lr=...)")
        open_entries = [name for name, entry in self.entries.items() if not entry.get("parts")]
        if not self.entries or len(open_entries) > 1:
            raise ConfigError(f"optim_wrapper: at most one entry goes without parts, but these do: {open_entries}")

    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        model = getattr(model, "module", model)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        owners = {name: self._owner(name) for name in trained}
        wrappers = {}
        for name, entry in self.entries.items():
            parameters = [p for key, p in trained.items() if owners[key] == name]
            if not parameters:
                parts = entry.get("parts", "the rest of the model")
                raise ConfigError(f"optim_wrapper.{name}: no parameter that trains in {parts}")
            optimizer = OPTIMIZERS.build(dict(entry["optimizer"]), default_args=dict(params=parameters))
            clip = entry.get("clip_grad")
            wrappers[name] = OptimWrapper(optimizer, clip_grad=clip and dict(clip))  # it takes `type` out
        return JointOptimWrapper(**wrappers)

    def _owner(self, parameter: str) -> str:
        """The entry that trains a parameter."""
        found = [name for name, entry in self.entries.items() if _below(parameter, entry.get("parts") or ())]
        found = found or [name for name, entry in self.entries.items() if not entry.get("parts")]
        if len(found) != 1:
            raise ConfigError(f"optim_wrapper: {parameter} belongs to {len(found)} entries {found}; expected one")
        return found[0]


class JointOptimWrapper(OptimWrapperDict):
    """Wrappers that step together, so that a model's own `train_step` need not know of them."""

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None) -> None:  # type: ignore[override]
        loss.backward()
        for wrapper in self.optim_wrappers.values():
            wrapper._inner_count += 1
            wrapper.step(**(step_kwargs or {}))
            wrapper.zero_grad(**(zero_kwargs or {}))

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        yield


def _below(parameter: str, parts: Sequence[str]) -> bool:
    return any(parameter == part or parameter.startswith(f"{part.rstrip('.')}.") for part in parts)
