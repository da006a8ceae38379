"""Nothing that is not finite reaches an optimiser."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer

from visionpatch.engine.bad_samples import allowed
from visionpatch.engine.resuming import bare, optim_wrappers
from visionpatch.engine.stopping import any_process
from visionpatch.errors import NonFiniteLossError

ADVICE = "lower the learning rate, clip gradients (optim_wrapper.clip_grad) or check these samples"
COUNT = "non_finite_in_a_row"  # in the message hub, so that a resumed run counts on


class FiniteGuard:
    """Looks at the loss and at every gradient right before an optimiser would step.

    A step of mixed precision whose gradients overflowed is left to its scaler, which skips it and lowers the scale.

    Args:
        policy: ``"raise"``, or ``"skip(n)"``: leave out up to n steps in a row. A skipped iteration changes neither
            weights, optimiser nor buffers (running statistics).
    """

    def __init__(self, policy: str = "raise") -> None:
        self.allowed = allowed(policy)
        self._handles: list[Any] = []
        self._batch: Any = None
        self._buffers: dict[str, Tensor] = {}
        self._losses: dict[str, Any] = {}
        self._skipped = False

    def attach(self, runner: Runner) -> None:
        """Watch the model's losses and the optimisers of a run."""
        self.runner, self.model = runner, bare(runner.model)
        self._owner: Any = getattr(runner.model, "module", runner.model)
        parse = self._owner.parse_losses

        def parse_losses(losses: dict[str, Any]) -> Any:
            self._losses |= {name: _detached(value) for name, value in losses.items()}
            return parse(losses)

        self._owner.parse_losses = parse_losses
        for wrapper in optim_wrappers(runner.optim_wrapper).values():
            self._handles.append(wrapper.optimizer.register_step_pre_hook(self._before_step))

    def detach(self) -> None:
        """Leave the model and its optimisers as they were."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._owner.__dict__.pop("parse_losses", None)

    def before_iteration(self, data_batch: Any) -> None:
        self._batch, self._losses, self._skipped = data_batch, {}, False
        if self.allowed:
            self._buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}

    def after_iteration(self, outputs: Any) -> None:
        """Count, and look at the log values too: an accumulating iteration makes no step."""
        if not self._skipped and any_process(bool(_not_finite(outputs))):
            self._handle(_not_finite(outputs), outputs)
            for wrapper in optim_wrappers(self.runner.optim_wrapper).values():
                wrapper.optimizer.zero_grad(set_to_none=True)
        hub = self.runner.message_hub
        if self._skipped:
            hub.update_info(COUNT, hub.runtime_info.get(COUNT, 0) + 1)
        elif COUNT in hub.runtime_info:
            hub.pop_info(COUNT)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not any_process(not (_finite([p.grad for p in parameters]) and not _not_finite(self._losses))):
            return
        names = {id(p): name for name, p in self.model.named_parameters()}
        bad = [f"the gradient of {names.get(id(p), '?')}" for p in parameters if not _finite([p.grad])]
        self._handle(_not_finite(self._losses) or bad[:3], self._losses)
        for parameter in parameters:
            parameter.grad = None  # the step that follows changes nothing

    def _handle(self, bad: list[str], losses: Any) -> None:
        """Raise, or undo what the iteration did to the buffers."""
        hub = self.runner.message_hub
        what = self._description(bad, losses)
        in_a_row = hub.runtime_info.get(COUNT, 0) + 1
        if in_a_row > self.allowed:
            raise NonFiniteLossError(
                what + (f", {in_a_row} iterations in a row" if self.allowed else "") + "; the weights are those before "
                f"this step; {ADVICE}"
            )
        if not self._skipped:
            self.runner.logger.warning(f"{what}; skipped, {in_a_row} of at most {self.allowed} in a row")
        self._skipped = True
        for name, buffer in self.model.named_buffers():
            buffer.copy_(self._buffers[name])

    def _description(self, bad: list[str], losses: Any) -> str:
        """What is not finite; of several processes those are heard whose loss it is, or all where it is none's."""
        own = (bool(_not_finite(self._losses)), _what(bad, losses, self.runner.iter + 1), _files(self._batch))
        told = all_gather_object(own)
        told = [one for one in told if one[0]] or told
        return f"{told[0][1]}; samples: {', '.join(file for one in told for file in one[2])}"


def check_losses(losses: Any, iteration: int, data_batch: Any) -> None:
    """Raise `NonFiniteLossError` when a loss (name -> scalar) is NaN or infinite."""
    bad = _not_finite(losses)
    if bad:
        samples = ", ".join(_files(data_batch))
        raise NonFiniteLossError(f"{_what(bad, losses, iteration)}; samples: {samples}; {ADVICE}")


def _what(bad: list[str], losses: Any, iteration: int) -> str:
    shown = ", ".join(f"{name} = {value:g}" for name, value in _scalars(losses).items())
    return f"iteration {iteration}: {', '.join(bad) or 'a value'} is not finite ({shown})"


def _finite(tensors: list[Any]) -> bool:
    """Whether all values are finite; one look at the device."""
    return not tensors or bool(torch.isfinite(torch.nn.utils.get_total_norm(tensors, norm_type=math.inf)))


def _detached(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_detached(v) for v in value]
    return value.detach() if isinstance(value, Tensor) else value


def _not_finite(losses: Any) -> list[str]:
    """Names of the losses that are not finite; other log values, such as an accuracy of nothing, may be anything."""
    return [name for name, value in _scalars(losses).items() if "loss" in name and not math.isfinite(value)]


def _scalars(losses: Any) -> dict[str, float]:
    """Name -> value of scalars and lists of tensors (their sum); one look at the device."""
    found: dict[str, Any] = {}
    for name, value in losses.items() if isinstance(losses, Mapping) else ():
        values = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, float):
            found[name] = torch.tensor(value)
        elif values and all(isinstance(v, Tensor) and (v.numel() == 1 or "loss" in name) for v in values):
            found[name] = torch.stack([v.detach().float().mean() for v in values]).sum()
    if not found:
        return {}
    device = next((v.device for v in found.values() if v.device.type != "cpu"), torch.device("cpu"))
    return dict(zip(found, torch.stack([v.to(device) for v in found.values()]).tolist()))


def _files(data_batch: Any) -> list[str]:
    samples = data_batch.get("data_samples", []) if isinstance(data_batch, Mapping) else []
    named = [str(sample.get("img_path", sample.get("img_id", "?"))) for sample in samples if hasattr(sample, "get")]
    return named or ["unknown"]
