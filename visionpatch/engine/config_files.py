"""The files of a config: whether they can be read, and where in them a value stands."""

import ast
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from visionpatch.errors import ConfigError, nearest

SUFFIXES = (".py", ".json", ".yaml", ".yml")


class Place(NamedTuple):
    """How many names of a dotted path were found, and where the last of them stands; line 0 where it is not known."""

    depth: int
    path: Path
    line: int


class Origin:
    """Called with a dotted path, names what it comes from: ``configs/a.py, line 12`` or ``--cfg-options a.b=1``."""

    def __init__(self, path: str | Path | None, options: Mapping[str, Any] | None = None) -> None:
        self.path, self.options = Path(path or "config"), dict(options or {})

    def __call__(self, dotted: str) -> str:
        names = tuple(dotted.split("."))
        place = Place(0, self.path, 0)
        if self.path.is_file():
            place = locate(self.path, names)
        for key, value in reversed(self.options.items()):
            above, below = f"{dotted}.".startswith(f"{key}."), f"{key}.".startswith(f"{dotted}.")
            if above or below and place.depth < len(names):
                return one_line(f"--cfg-options {key}={value}")
        return f"{place.path}, line {place.line}" if place.line else str(place.path)


def one_line(text: object) -> str:
    """A text whose line breaks and runs of blanks are single blanks."""
    return " ".join(str(text).split())


def check_files(path: Path, chain: tuple[Path, ...] = ()) -> list[Path]:
    """The file and its bases, all of them there, of a known kind and without syntax errors."""
    source = f'{chain[-1]}: _base_ = "{path}"' if chain else str(path)
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*") if p.suffix in SUFFIXES] if path.parent.is_dir() else []
        raise ConfigError(f"{source}: no such config file{nearest(path.name, siblings)}")
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{source}: a config file ends in {', '.join(SUFFIXES)}")
    if path.resolve() in [p.resolve() for p in chain]:
        raise ConfigError(f"{' -> '.join(str(p) for p in (*chain, path))}: _base_ goes round in a circle")
    files = [path]
    for base in _bases(path, _parse(path)):
        files += check_files(base, (*chain, path))
    return files


def locate(path: Path, names: tuple[str, ...]) -> Place:
    """Where the value under `names` was written: in this file, else in the base that knows most of the names."""
    found = Place(0, path, 0)
    with suppress(ConfigError, RecursionError):
        tree = _parse(path)
        found = _in_python(tree, names, path) if isinstance(tree, ast.Module) else _in_data(tree, names, found)
        for base in _bases(path, tree) if found.depth < len(names) else []:
            found = max(found, locate(base, names), key=lambda place: place.depth)
    return found


def _parse(path: Path) -> ast.Module | yaml.Node | None:
    """The syntax tree of a config file."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            return ast.parse(text)
        if path.suffix == ".json":
            json.loads(text)
            text = text.replace("\t", " ")  # which YAML does not allow
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise ConfigError(f"{path}{line}: {error.msg}: {one_line(error.text or '')}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not YAML: {error.problem}") from error
    except (OSError, ValueError, RecursionError, MemoryError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(tree, yaml.MappingNode):
        raise ConfigError(f"{path}: expected keys and their values on the top level")
    return tree


def _bases(path: Path, tree: Any) -> list[Path]:
    """The files a config is built on; those of other packages (``package::file``) are left to MMEngine."""
    given, line = _named_bases(tree, path)
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list | tuple) or not all(isinstance(base, str) for base in given):
        raise ConfigError(f"{path}, line {line}: _base_ must be a path or a list of paths")
    return [Path(os.path.normpath(path.parent / base)) for base in given if "::" not in base]


def _named_bases(tree: Any, path: Path) -> tuple[Any, int]:
    if isinstance(tree, yaml.Node):
        for key, value in tree.value:
            if key.value == "_base_":
                items = value.value if isinstance(value, yaml.SequenceNode) else [value]
                return [item.value for item in items], key.start_mark.line + 1
        return [], 0
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_base_":
            try:
                return ast.literal_eval(node.value), node.lineno
            except (ValueError, TypeError, SyntaxError):
                return None, node.lineno
        if isinstance(node, ast.With):  # with read_base(): from .base import *
            imports = [step for step in node.body if isinstance(step, ast.ImportFrom) and step.level and step.module]
            return ["../" * (i.level - 1) + str(i.module).replace(".", "/") + ".py" for i in imports], node.lineno
    return [], 0


def _in_data(node: Any, names: tuple[str, ...], found: Place) -> Place:
    """The same for the nodes of a YAML or JSON file."""
    if names and isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == names[0]:
                return _in_data(value, names[1:], Place(found.depth + 1, found.path, key.start_mark.line + 1))
    if names and isinstance(node, yaml.SequenceNode) and names[0].isdigit() and int(names[0]) < len(node.value):
        item = node.value[int(names[0])]
        return _in_data(item, names[1:], Place(found.depth + 1, found.path, item.start_mark.line + 1))
    return found


def _in_python(tree: ast.Module, names: tuple[str, ...], path: Path, seen: frozenset[str] = frozenset()) -> Place:
    """The last assignment of a Python file that holds most of `names`."""
    best = Place(0, path, 0)
    for node in [step for step in reversed(tree.body) if isinstance(step, ast.Assign)]:
        for target in node.targets:
            known = _target(target)
            if known and names[: len(known)] == known:
                found = _below(tree, node.value, names[len(known) :], Place(len(known), path, node.lineno), seen)
                best = max(best, found, key=lambda place: place.depth)
    return best


def _target(node: ast.expr) -> tuple[str, ...]:
    """``model["backbone"].depth`` -> ("model", "backbone", "depth"); () for anything else."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        above, name = _target(node.value), node.attr
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        above, name = _target(node.value), str(node.slice.value)
    else:
        return ()
    return (*above, name) if above else ()


def _below(tree: ast.Module, node: ast.expr, names: tuple[str, ...], at: Place, seen: frozenset[str]) -> Place:
    """Follow `names` into an expression: dicts, lists, sums of them, variables of the file and of its bases."""
    if not names:
        return at
    for key, value, line in _items(node):
        if key == names[0]:
            return _below(tree, value, names[1:], Place(at.depth + 1, at.path, line), seen)
    best = at
    for part, rest in _parts(tree, node, names):
        best = max(best, _below(tree, part, rest, at, seen), key=lambda place: place.depth)
    known = _target(node)
    if known and ".".join(known) not in seen:
        origin = (*known, *names)
        if known[0] == "_base_":
            origin = origin[1:]
            places = [locate(base, origin) for base in _bases(at.path, tree)]
        else:
            places = [_in_python(tree, origin, at.path, seen | {".".join(known)})]
        for place in places:
            depth = at.depth + place.depth - len(origin) + len(names)
            best = max(best, place._replace(depth=depth), key=lambda place: place.depth)
    return best


def _items(node: ast.expr) -> Iterator[tuple[str, ast.expr, int]]:
    """Key, value and line of what a dict or list expression spells out, the last first."""
    if isinstance(node, ast.Call):
        for keyword in reversed(node.keywords):
            if keyword.arg:
                yield keyword.arg, keyword.value, keyword.value.lineno
    elif isinstance(node, ast.Dict):
        for key, value in reversed(list(zip(node.keys, node.values))):
            if isinstance(key, ast.Constant):
                yield str(key.value), value, key.lineno
    elif isinstance(node, ast.List | ast.Tuple) and not any(isinstance(item, ast.Starred) for item in node.elts):
        for index, item in enumerate(node.elts):
            yield str(index), item, item.lineno


def _parts(tree: ast.Module, node: ast.expr, names: tuple[str, ...]) -> Iterator[tuple[ast.expr, tuple[str, ...]]]:
    """Expressions whose content a dict or list expression takes over, and the names to follow there."""
    if isinstance(node, ast.Call):
        for part in [k.value for k in node.keywords if k.arg is None] + node.args:
            yield part, names
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values):
            if key is None:
                yield value, names
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield node.right, names
        yield node.left, names
    elif isinstance(node, ast.BinOp):
        yield node.left, names
        if names[0].isdigit():
            yield node.right, (str(int(names[0]) - _length(tree, node.left)), *names[1:])


def _length(tree: ast.Module, node: ast.expr) -> int:
    """How many items a list expression has, as far as the file spells them out."""
    if isinstance(node, ast.BinOp):
        return _length(tree, node.left) + _length(tree, node.right)
    if isinstance(node, ast.Name):
        steps = [step for step in tree.body if isinstance(step, ast.Assign) and _target(step.targets[0]) == (node.id,)]
        return _length(tree, steps[-1].value) if steps else 0
    return len(node.elts) if isinstance(node, ast.List | ast.Tuple) else 0
