"""``--cfg-options``: read as OpenMMLab's tools read them, and merged so that each one changes something."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from visionpatch.engine.config_files import one_line
from visionpatch.engine.config_keys import KNOWN
from visionpatch.errors import ConfigError, nearest

BRACKETS = {"(": ")", "[": "]"}


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["a.b=1", "c=[1,2]"]`` -> ``{"a.b": 1, "c": [1, 2]}``.

    Values are numbers, true, false, None, or else text; ``[a,b]`` and ``a,b`` are lists, ``(a,b)`` is a tuple. Quotes
    around a value are dropped.

    Raises:
        ConfigError: not KEY=VALUE, brackets or quotes that do not match, a dict.
    """
    options = {}
    for pair in pairs:
        key, sign, value = (part.strip() for part in pair.partition("="))
        where = one_line(f"--cfg-options {pair}")
        if not sign or not all(key.split(".")) or len(key.split()) != 1:
            raise ConfigError(f'{where}: expected KEY=VALUE, e.g. train_cfg.max_iters=1000 or "a.b=[1,2]"')
        if not _quotes_match(value):
            raise ConfigError(f"{where}: quotes do not match")
        if not _brackets_match(value):
            raise ConfigError(f"{where}: brackets do not match")
        if value.startswith("{") and value.endswith("}"):
            raise ConfigError(f"{where}: the keys of a dict are set one by one: {key}.KEY=VALUE")
        options[key] = _read(value)
    return options


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge the overrides into `cfg`; one that would change nothing or leads nowhere is a `ConfigError`."""
    for key, value in options.items():
        where = one_line(f"--cfg-options {key}={value}")
        _check_head(cfg, key.split(".")[0], where)
        _check_path(cfg, key, where)
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AttributeError, IndexError) as error:  # a dict where there is none, and the like
            text = one_line(error.args[0] if error.args else error)[:160]
            raise ConfigError(f"{where}: does not fit {cfg.filename}: {text}") from error


def _check_head(cfg: Config, head: str, where: str) -> None:
    """The first name must be one that is read, not a variable whose value the config has used already."""
    if head in KNOWN:
        return
    if head not in cfg:
        raise ConfigError(f"{where}: {cfg.filename} has no {head}{nearest(head, {*cfg, *KNOWN})}")
    users = [path for path, used in _leaves(cfg) if used == cfg[head] and path != head][:3]
    hint = f"; override what it was used for: {', '.join(users)}" if users else ""
    raise ConfigError(f"{where}: {head} is a helper variable of {cfg.filename}, its value has been used already{hint}")


def _check_path(cfg: Config, key: str, where: str) -> None:
    """Each name before the last must lead to a dict, or to an item of a list."""
    node: Any = cfg
    names = key.split(".")
    for depth, name in enumerate(names):
        here = ".".join(names[:depth])
        if isinstance(node, list | tuple):
            if not name.isdecimal() or int(name) >= len(node):
                indices = f"indices 0 to {len(node) - 1}" if node else "no item"
                raise ConfigError(
                    f'{where}: does not fit {cfg.filename}: {here} is a list with {indices}, not "{name}"'
                )
            node = node[int(name)]
            if depth == len(names) - 1:
                raise ConfigError(f"{where}: an item is not replaced alone; give the whole list, {here}=[...]")
        elif isinstance(node, Mapping | Config):
            if name not in node:
                return  # a new key, checked with all others
            node = node[name]
        else:
            raise ConfigError(f"{where}: does not fit {cfg.filename}: {here} is {node!r}, not a dict")


def _leaves(cfg: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything below the known names."""
    items = cfg.items() if isinstance(cfg, Mapping | Config) else enumerate(cfg)
    for key, value in items:
        here = f"{path}.{key}" if path else str(key)
        if not path and key not in KNOWN:
            continue
        yield here, value
        if isinstance(value, Mapping | list | tuple):
            yield from _leaves(value, here)


def _read(text: str) -> Any:
    text = text.strip().strip("'\"").strip()
    items = _split(text)
    if len(items) == 1 and BRACKETS.get(text[:1]) == text[-1:] and text:
        inner = text[1:-1]
        values = [_read(item) for item in _split(inner)] if inner.strip() else []
        return tuple(values) if text[0] == "(" else values
    return [_read(item) for item in items] if len(items) > 1 or text.endswith(",") else _scalar(text)


def _split(text: str) -> list[str]:
    """The parts between the commas that stand outside all brackets; a last empty one does not count."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "([") - (char in ")]")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts[:-1] if len(parts) > 1 and not parts[-1].strip() else parts


def _scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), None if text == "None" else text)


def _brackets_match(text: str) -> bool:
    expected: list[str] = []
    for char in text:
        if char in BRACKETS:
            expected.append(BRACKETS[char])
        elif char in BRACKETS.values() and (not expected or expected.pop() != char):
            return False
    return not expected


def _quotes_match(text: str) -> bool:
    """Whether every quote that opens an item closes it; one inside a word (``it's``) is a letter."""
    inside = ""
    for index, char in enumerate(text):
        if char not in "'\"":
            continue
        before, after = text[:index].rstrip()[-1:], text[index + 1 :].lstrip()[:1]
        if inside:
            inside = "" if char == inside and after in ("", ",", ")", "]") else inside
        elif before in ("", ",", "(", "["):
            inside = char
        elif after in ("", ",", ")", "]"):
            return False
    return not inside
