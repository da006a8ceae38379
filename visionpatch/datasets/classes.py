"""Class names and colours of a dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

from visionpatch.errors import ConfigError, nearest
from visionpatch.palette import Palette, colour_map


def resolve_classes(
    owner: str, default: Mapping[str, Any], given: Mapping[str, Any] | None, most: int = 255
) -> tuple[dict[str, Any], dict[int, int]]:
    """dict(classes, palette) out of a format's and the user's metainfo, and the map from old to chosen indices.

    The map is empty when all classes of the format are used in their order, or the user names classes of their own.
    More than `most` classes are an error; in a mask 255 itself means ignored.
    """
    if not isinstance(given, Mapping | None):
        raise ConfigError(f"{owner}: metainfo is dict(classes=(...), palette=[...]), not {given!r}")
    given = dict(given or {})
    known = tuple(default.get("classes", ()))
    classes = checked_names(owner, given.get("classes", known))
    if not classes:
        raise ConfigError(f'{owner} needs metainfo=dict(classes=("name of class 0", "name of class 1", ...))')
    if len(classes) > most:
        reason = "a mask can tell 255 apart (255 itself means ignored)" if most == 255 else f"at most {most} will do"
        raise ConfigError(f"{owner}: {len(classes)} classes; {reason}")
    selection: dict[int, int] = {}
    palette = given.get("palette")
    if classes == known:
        palette = default.get("palette") if palette is None else palette
    elif _is_selection(owner, classes, known):
        selection = {i: classes.index(name) if name in classes else 255 for i, name in enumerate(known)}
        colours = default.get("palette") or colour_map(len(known))
        palette = [colours[known.index(name)] for name in classes] if palette is None else palette
    return dict(classes=classes, palette=_palette(owner, palette, classes)), selection


def hex_palette(text: str) -> Palette:
    """Colours written as blank-separated rrggbb."""
    return [(int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in text.split()]


def checked_names(owner: str, classes: Any) -> tuple[str, ...]:
    """`classes` as a tuple of different names. Raises ConfigError."""
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(c, str) for c in classes):
        raise ConfigError(f"{owner}: metainfo.classes is a tuple of names, not {classes!r}")
    twice = sorted({name for name in classes if list(classes).count(name) > 1})
    if twice:
        raise ConfigError(f"{owner}: metainfo.classes names {', '.join(twice)} more than once")
    return tuple(classes)


def _is_selection(owner: str, classes: Sequence[str], known: Sequence[str]) -> bool:
    """Whether `classes` are some of `known`. Half or more but not all known: a spelling error."""
    unknown = [name for name in classes if name not in known]
    if unknown and 2 * len(unknown) <= len(classes):
        raise ConfigError(
            f'{owner}: metainfo.classes has "{unknown[0]}", no class of this format{nearest(unknown[0], known)}'
        )
    return not unknown


def _palette(owner: str, palette: Any, classes: Sequence[str]) -> Palette:
    if palette is None:
        return colour_map(len(classes))
    try:
        colours = [tuple(int(v) for v in colour) for colour in palette]
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{owner}: metainfo.palette is a list of (r, g, b), not {str(palette)[:80]}") from None
    if len(colours) != len(classes) or not all(len(c) == 3 and all(0 <= v <= 255 for v in c) for c in colours):
        raise ConfigError(
            f"{owner}: metainfo.palette has {len(colours)} colours for {len(classes)} classes; "
            "it takes one (r, g, b) of 0..255 for each class"
        )
    return [(c[0], c[1], c[2]) for c in colours]
