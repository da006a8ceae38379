"""Fitting a state dict into a model: what matched, what did not, and what to write so that it does."""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from visionpatch.errors import WeightsError, nearest

ENOUGH = 0.95  # share of the keys of a backbone that a file to start from must fill
WRAPPERS = re.compile(r"^(module\.)+|(?:^|(?<=\.))_orig_mod\.")


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


def state_dict_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, without what distributed (``module.``) and compiled (``_orig_mod.``) models add."""
    state = next((checkpoint[k] for k in ("state_dict", "model") if isinstance(checkpoint.get(k), Mapping)), checkpoint)
    return {
        _bare(key): value
        for key, value in state.items()
        if isinstance(value, Tensor) and isinstance(key, str) and key.isprintable()
    }


def load_state(
    model: nn.Module,
    state: Mapping[str, Tensor],
    source: str = "the state dict",
    strict: bool = False,
    complete: bool = False,
    allow_partial: bool = True,
    prefix: str = "",
    whole: bool = False,
) -> LoadReport:
    """Copy `state` into `model` and report what fitted.

    Args:
        model: receives the tensors.
        state: tensor name -> tensor.
        source: the file, for messages.
        strict: any key that does not fit is an error.
        complete: keys of the model that got nothing are an error, superfluous ones are not.
        allow_partial: False makes it an error when less than 95 % of the keys of ``model.backbone`` (of a model
            without one: of its own) got their value.
        prefix: use the keys below it only, and without it.
        whole: `model` is the part that an ``init_cfg`` fills; all its keys count.

    Raises:
        WeightsError: nothing matched, or what `strict`, `complete`, `allow_partial` forbid; the message says what to
            write where another prefix would repair it.
    """
    own = model.state_dict()
    given = _below(prefix, state, source)
    report = _copy(model, own, given, source)
    if not report.matched and own:
        fault = f"none of its {len(given)} keys fits {type(model).__name__}: {report.summary()}"
    elif (strict or complete) and (report.missing or report.wrong_shape) or strict and report.unexpected:
        fault = f"does not fit {type(model).__name__}: {report.summary()}"
    else:
        fault = "" if allow_partial else _shortage(report, model, own, whole)
    if fault:
        raise WeightsError(f"{source}: {fault}{_hint(state, own, source, len(report.matched), whole)}")
    return report


def differences(model: nn.Module, state: Mapping[str, Tensor], limit: int = 3) -> str:
    """The first keys in which `state` differs from the state dict of `model`, with their shapes; "" if none."""
    own = model.state_dict()
    lines = []
    for key in [*own, *(key for key in state if key not in own)]:
        here, there = (tuple(side[key].shape) if key in side else None for side in (own, state))
        if here is None or there is None:
            side, shape = ("model", here) if there is None else ("file", there)
            lines.append(f"{key} {shape} is in the {side} only")
        elif here != there:
            lines.append(f"{key} is {there} in the file and {here} in the model")
    more = [f"{len(lines) - limit} more"] if len(lines) > limit else []
    return "; ".join(lines[:limit] + more)


def _bare(key: str) -> str:
    while (shorter := WRAPPERS.sub("", key)) != key:
        key = shorter
    return key


def _below(prefix: str, state: Mapping[str, Tensor], source: str) -> Mapping[str, Tensor]:
    if not prefix:
        return state
    kept = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not kept:
        heads = {key.split(".")[0] + "." for key in state}
        raise WeightsError(f'{source}: no key begins with "{prefix}"{nearest(prefix, heads)}')
    return kept


def _copy(model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> LoadReport:
    wrong = tuple(
        (key, tuple(state[key].shape), tuple(own[key].shape))
        for key in own
        if key in state and state[key].shape != own[key].shape
    )
    skip = {key for key, _, _ in wrong}
    try:
        result = model.load_state_dict(OrderedDict((k, v) for k, v in state.items() if k not in skip), strict=False)
    except RuntimeError as error:  # shapes that differ only after a module renamed its keys
        reason = str(error).strip().splitlines()[-1].strip()
        raise WeightsError(f"{source}: does not fit {type(model).__name__}: {reason}") from error
    missing = tuple(key for key in result.missing_keys if key not in skip)
    matched = tuple(key for key in own if key not in skip.union(missing))
    return LoadReport(matched, missing, tuple(result.unexpected_keys), wrong)


def _shortage(report: LoadReport, model: nn.Module, own: Mapping[str, Tensor], whole: bool) -> str:
    """What is wrong when less than 95 % of the keys that count were filled, else ""."""
    part = "" if whole or not isinstance(getattr(model, "backbone", None), nn.Module) else "backbone."
    total = sum(key.startswith(part) for key in own)
    filled = sum(key.startswith(part) for key in report.matched)
    if filled >= ENOUGH * total:
        return ""
    missing = _some([f"{key} {tuple(own[key].shape)}" for key in report.missing if key.startswith(part)], "missing")
    wrong = [f"{key} {given} for {expected}" for key, given, expected in report.wrong_shape if key.startswith(part)]
    allow = "allow_partial=True in this init_cfg" if whole else "allow_partial_load = True in the config"
    return (
        f"fills {filled} of the {total} keys of {'the backbone' if part else type(model).__name__} "
        f"({filled / total:.0%}, {ENOUGH:.0%} are needed): {missing}, {_some(wrong, 'of wrong shape')}; "
        f"if that is meant, write {allow}"
    )


def _hint(state: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str, matched: int, whole: bool) -> str:
    """Which prefix to remove from and add to the keys of the file so that more of them fit, and how to write it."""
    given, wanted = ({(key, tuple(v.shape)) for key, v in side.items()} for side in (state, own))
    stripped = {prefix: _strip(given, prefix) for prefix in _heads(state)}
    bare = {prefix: _strip(wanted, prefix) for prefix in _heads(own)}
    fits = {(a, b): len(stripped[a] & bare[b]) for a in stripped for b in bare}

    def worth(pair: tuple[str, str]) -> tuple[float, int]:  # a part that is filled needs no further permission
        filled = fits[pair] >= ENOUGH * len(bare[pair[1]])
        return fits[pair] * (1 if filled else 0.9), -len("".join(pair))

    removed, added = max(fits, key=worth)
    possible = min(len(stripped[removed]), len(bare[added]))
    if fits[removed, added] <= matched or 2 * fits[removed, added] < possible:
        return (
            ""
            if 2 * matched > len(own)
            else "; is this the checkpoint of another model? Published names: tools/convert_checkpoint.py"
        )
    what = " and ".join([f'"{removed}" removed'] * bool(removed) + [f'"{added}" added'] * bool(added)) or "no prefix"
    place = ("" if whole else "model.") + f"{added}init_cfg"
    given_prefix = f', prefix="{removed}"' if removed else ""
    return (
        f"; {fits[removed, added]} keys would fit with the prefix {what}: write {place} = "
        f'dict(type="Pretrained", checkpoint="{source}"{given_prefix})'
    )


def _heads(keys: Iterable[str]) -> list[str]:
    """The commonest beginnings of one or two parts, and no beginning at all."""
    counts: Counter[str] = Counter()
    for key in keys:
        parts = key.split(".")[:-1]
        counts.update(".".join(parts[:n]) + "." for n in range(1, min(len(parts), 2) + 1))
    return ["", *(prefix for prefix, _ in counts.most_common(20))]


def _strip(keys: set[tuple[str, tuple]], prefix: str) -> set[tuple[str, tuple]]:
    return {(key.removeprefix(prefix), shape) for key, shape in keys if key.startswith(prefix)}


def _some(names: Iterable[Any], kind: str, limit: int = 3) -> str:
    names = list(names)
    shown = ", ".join(str(n) for n in names[:limit]) + (", ..." if len(names) > limit else "")
    return f"{len(names)} {kind}" + (f" ({shown})" if names else "")
