"""Variables of a config file: given another value before the file is run, so that all that is made of them follows."""

import ast
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from visionpatch.engine.config_files import one_line
from visionpatch.engine.config_keys import KNOWN
from visionpatch.errors import ConfigError

UNMOVABLE = "fileDirname"  # what MMEngine replaces by the folder of the file that it runs


def split_options(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The overrides of variables that the Python config `path` itself sets to a plain value, and all others.

    Raises:
        ConfigError: a value of another type than the variable's own.
    """
    own = dict(_settable(path)) if path.suffix == ".py" else {}
    variables = {name: _fitting(name, value, own[name], path) for name, value in options.items() if name in own}
    return variables, {name: value for name, value in options.items() if name not in own}


def _fitting(name: str, value: Any, own: Any, path: Path) -> Any:
    """The value in the type of the variable's own one; None may become anything."""
    kind = type(own)
    if own is None or type(value) is kind:
        return value
    if kind is float and type(value) is int or {kind, type(value)} == {list, tuple}:
        return kind(value)
    text = f"--cfg-options {name}={value}: {name} = {own!r} in {path}; expected a value of type {kind.__name__}"
    raise ConfigError(one_line(f"{text}, not {value!r}"))


def write_variant(path: Path, variables: Mapping[str, Any], folder: Path) -> Path:
    """A copy of the config in `folder` with these values, line for line; its bases stay where they are."""
    lines = path.read_text(encoding="utf-8").encode().splitlines(keepends=True)
    tree = ast.parse(b"".join(lines))
    values = {name: repr(variables[name]) for name in variables}
    for node in tree.body:
        if _target(node) == "_base_":
            bases = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            bases = [bases] if isinstance(bases, str) else bases
            values["_base_"] = repr([b if "::" in b else str((path.parent / b).resolve()) for b in bases])
    for node in reversed(tree.body):
        name = _target(node)
        if name in values:
            _replace(lines, node.value, values[name])  # type: ignore[attr-defined]
    copy = folder / path.name
    copy.write_bytes(b"".join(lines))
    return copy


def _settable(path: Path) -> Iterator[tuple[str, Any]]:
    """Names and values of the numbers, texts, lists and tuples that the file sets once on its top level and reads."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    names = [_target(node) for node in tree.body]
    for name, node in zip(names, tree.body):
        if name in read - set(KNOWN) and names.count(name) == 1 and UNMOVABLE not in text:
            with suppress(ValueError):
                value = ast.literal_eval(node.value)  # type: ignore[attr-defined]
                if not isinstance(value, dict | set):
                    yield name, value


def _target(node: ast.stmt) -> Any:
    single = isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    return node.targets[0].id if single else None  # type: ignore[attr-defined]


def _replace(lines: list[bytes], node: ast.expr, text: str) -> None:
    """Put `text` where `node` stands; the lines after it keep their numbers."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
    lines[first : last + 1] = [before + text.encode() + after] + [b"\n"] * (last - first)
