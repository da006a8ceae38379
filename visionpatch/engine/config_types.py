"""What a call takes, and whether a value of a config fits the annotation of the parameter it goes to."""

import enum
import inspect
import os
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping, MutableSequence, MutableSet, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from numbers import Number
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModule
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import nn

from visionpatch.errors import nearest

UNKNOWN = inspect.Parameter.empty
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
LITERALS = (str, int, float, bytes, types.NoneType)
ROWS = (Sequence, MutableSequence, Set, MutableSet, Collection, Iterable)
LOOSE = re.compile(r"mm(?!engine)\w*\.")  # OpenMMLab's libraries, whose own configs often break their annotations
SINKS: dict[Any, Callable] = {CheckpointHook: Runner.save_checkpoint}  # what takes the **kwargs


@dataclass(frozen=True)
class Taken:
    """One argument of a call: its annotation, no longer a string, its default, and whether the caller must give it."""

    annotation: Any = UNKNOWN
    default: Any = UNKNOWN
    required: bool = False


CORRECTED: dict[Any, dict[str, Taken]] = {AmpOptimWrapper: {"loss_scale": Taken()}}  # annotated as str, not only that


@dataclass(frozen=True)
class Signature:
    """The arguments a call takes; an open one hands those it does not know on to something unseen."""

    taken: Mapping[str, Taken]
    is_open: bool = False


@cache
def signature_of(built: Callable) -> Signature:
    """The arguments a class or function takes; those of base classes too, where ``**kwargs`` hand them on."""
    if not inspect.isclass(built):
        return Signature(*_own_signature(built))
    taken: dict[str, Taken] = {}
    is_open = False
    for klass in built.__mro__:
        if klass in (object, nn.Module, BaseModule) and is_open:
            break
        if klass is object or "__init__" not in klass.__dict__:
            continue
        own, handed_on = _own_signature(klass.__dict__["__init__"])
        taken = (_optional(own) if is_open else own) | taken
        is_open = handed_on
        if not is_open:
            break
    for klass in set(built.__mro__) & set(SINKS):
        taken, is_open = _optional(_own_signature(SINKS[klass])[0]) | taken, False
    return Signature(taken | CORRECTED.get(built, {}), is_open)


def _optional(taken: dict[str, Taken]) -> dict[str, Taken]:
    """Arguments that a class further down may give."""
    return {name: replace(argument, required=False) for name, argument in taken.items()}


def wrong_type(value: Any, taken: Taken) -> str:
    """Why `value` cannot be the argument: ``expects int, not str; ...``; empty where it can or nothing is known."""
    annotation = taken.annotation
    if value is taken.default or value is None and taken.default is None:
        return ""
    if annotation is UNKNOWN:  # a default says little: 1 may become 0.5 or (1, 2), but never the text "1"
        annotation = type(taken.default)
        if annotation not in (bool, int, float) or not _unquoted(value):
            return ""
    if fits(value, annotation):
        return ""
    return f"expects {describe(annotation)}, not {_kind(value)}{_hint(value, annotation)}"


def fits(value: Any, annotation: Any) -> bool:
    """Whether a call with `value` can work, lists and tuples being the same in a config."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return fits(value, arguments[0])
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    kind = origin or annotation
    if kind is None or kind is types.NoneType:
        return value is None
    if kind is Any or kind is object or not inspect.isclass(kind) or getattr(kind, "_is_protocol", False):
        return True
    return _fits_class(value, kind, arguments)


def describe(annotation: Any) -> str:
    """An annotation in words: ``int or None``, ``tuple[float, ...]``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0])
    if origin is Literal:
        return " or ".join(f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(choice) for choice in arguments))
    kind = origin or annotation
    if kind is None or kind is types.NoneType:
        return "None"
    name = getattr(kind, "__name__", str(kind))
    inner = [] if kind is Callable else ["..." if a is Ellipsis else describe(a) for a in arguments]
    return f"{name}[{', '.join(inner)}]" if inner else name


def _own_signature(function: Callable) -> tuple[dict[str, Taken], bool]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # of a function written in C
        return {}, True
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    loose = LOOSE.match(scope.get("__name__", ""))
    taken = {}
    for p in parameters:
        if p.kind in NAMED and p.name != "self":
            known = Taken(_resolve(p.annotation, scope), p.default, required=p.default is UNKNOWN)
            taken[p.name] = Taken(default=p.default) if loose else known
    return taken, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _resolve(annotation: Any, scope: dict) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, scope)  # the text stands in the code of the function
    except Exception:  # a name imported only for type checkers
        return Any


def _fits_class(value: Any, kind: type, inner: tuple) -> bool:
    if kind in (bool, int, float):
        return isinstance(value, (int, float) if kind is float else kind) and (kind is bool) == isinstance(value, bool)
    if kind is str or issubclass(kind, os.PathLike):
        return isinstance(value, str | os.PathLike)
    if issubclass(kind, Number):
        return isinstance(value, Number) and not isinstance(value, bool)
    if issubclass(kind, Mapping | Config):
        items = value.items() if inner and isinstance(value, Mapping) else ()
        return isinstance(value, Mapping | Config) and all(fits(v, inner[-1]) for _, v in items)
    if kind is Callable:
        return callable(value) or isinstance(value, str | Mapping)
    if issubclass(kind, type):
        return isinstance(value, type | str)
    if kind in ROWS or issubclass(kind, list | tuple | set | frozenset):
        return _fits_row(value, kind, inner)
    if issubclass(kind, torch.Tensor | np.ndarray):
        if isinstance(value, list | tuple):
            return all(fits(item, kind) for item in value)
        return not isinstance(value, bool | str | Mapping | None)
    if issubclass(kind, enum.Enum | torch.device | torch.dtype):
        return not isinstance(value, Mapping | list | tuple | None)
    return isinstance(value, kind) or _can_be_built(value)


def _fits_row(value: Any, kind: type, inner: tuple) -> bool:
    """Lists, tuples, sets and the like, with each of their items."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        return isinstance(value, kind) and not inner
    if not inner or not isinstance(value, list | tuple | set | frozenset | range):
        return True
    if issubclass(kind, tuple) and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(fits(item, choice) for item, choice in zip(value, inner))
    return all(fits(item, inner[0]) for item in value)


def _can_be_built(value: Any) -> bool:
    """Whether a value may stand for an object of any class: a config of it, several, or an object."""
    if isinstance(value, list | tuple):
        return all(_can_be_built(item) for item in value)
    return not isinstance(value, LITERALS)


def _kind(value: Any) -> str:
    """The type of a value in words, with the items of a list."""
    if isinstance(value, list | tuple | set):
        inner = [_kind(item) for item in value]
        shown = ", ".join(inner if len(inner) <= 4 else [*dict.fromkeys(inner), "..."])
        return f"{type(value).__name__}[{shown}]" if inner else f"empty {type(value).__name__}"
    if isinstance(value, Mapping):
        return "dict"
    return "None" if value is None else type(value).__name__


def _unquoted(value: Any) -> str:
    """The number or truth value a text holds; empty where it holds none."""
    if isinstance(value, str):
        text = value.strip()
        if text.title() in ("True", "False", "None"):
            return text.title()
        with suppress(ValueError):
            float(text)
            return text if text[-1].isdigit() or text[-1] == "." else ""  # "inf" may be a word
    return ""


def _hint(value: Any, annotation: Any) -> str:
    if isinstance(value, int) and value in (0, 1) and fits(bool(value), annotation):
        return f"; write {bool(value)}"
    if isinstance(value, float) and value.is_integer() and fits(int(value), annotation):
        return f"; write {int(value)}"
    text = _unquoted(value)
    if text:
        return f"; write {text} without quotes" if fits(_read(text), annotation) else ""
    words = [word for word in _words(annotation) if isinstance(word, str)]
    if isinstance(value, str) and words:
        return nearest(value, words)
    return f"; put it into a list: [{value!r}]" if isinstance(value, LITERALS) and fits([value], annotation) else ""


def _read(text: str) -> Any:
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    number = float(text)
    return int(number) if text.lstrip("+-").isdigit() else number


def _words(annotation: Any) -> tuple:
    """The words of a ``Literal``, also inside a union."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return arguments
    return tuple(word for argument in arguments for word in _words(argument))
