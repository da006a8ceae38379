"""Building the parts of a model and checking that they fit."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from visionpatch.errors import ConfigError
from visionpatch.registry import MODELS


def build(part: Any) -> Any:
    """The module itself, or the one its config describes; of several in a list, a chain of them."""
    if isinstance(part, list | tuple):
        return Chain([build(one) for one in part])
    return part if isinstance(part, nn.Module) else MODELS.build(part)


class Chain(nn.Sequential):
    """Necks one after the other: reads what the first reads and publishes what the last does.

    Raises:
        ConfigError: no neck, or one whose `in_channels` are not those of the maps before it.
    """

    def __init__(self, necks: Sequence[Any]) -> None:
        super().__init__(*necks)
        if not necks:
            raise ConfigError("model.neck = []; leave it out, or list one neck or more")
        for index in range(1, len(necks)):
            check_channels(f"model.neck.{index}", necks[index], necks[index - 1])
        self.in_channels = necks[0].in_channels
        self.out_channels, self.out_strides = necks[-1].out_channels, necks[-1].out_strides


def check_channels(path: str, reader: Any, source: Any) -> None:
    """Compares `reader.in_channels` with the maps `source` gives, those of `reader.in_index` where it has one.

    Raises:
        ConfigError: naming `path`, what was given and what the source gives.
    """
    given = getattr(reader, "in_channels", None)
    offered = tuple(source.out_channels)
    if given is None:
        return
    index = getattr(reader, "in_index", None)
    if index is None:
        index = range(len(offered)) if isinstance(given, Sequence) else -1
    indices = [index] if isinstance(index, int) else list(index)
    given = [given] if isinstance(given, int) else list(given)
    name = type(source).__name__
    if not all(-len(offered) <= i < len(offered) for i in indices):
        raise ConfigError(
            f"{path}.in_index = {indices}, but {name} gives {len(offered)} maps (indices 0..{len(offered) - 1})"
        )
    expected = [offered[i] for i in indices]
    if given != expected:
        raise ConfigError(
            f"{path}.in_channels = {given}, but {name} gives {expected} channels; set in_channels to that"
        )


def check_levels(
    path: str, channels: int, strides_path: str, strides: Sequence[int], source: Any, *, exact: bool
) -> None:
    """Compares what a detection head reads, `channels` on levels of `strides`, with the maps `source` gives.

    `exact`: it reads all maps; otherwise the first ones.

    Raises:
        ConfigError: naming `path`, what was given and what the source gives.
    """
    name, number = type(source).__name__, len(strides)
    offered = tuple(source.out_channels) if exact else tuple(source.out_channels)[:number]
    if set(offered) != {channels}:
        raise ConfigError(f"{path} reads maps of {channels} channels, but {name} gives {list(source.out_channels)}")
    given = tuple(source.out_strides) if exact else tuple(source.out_strides)[:number]
    if tuple(strides) != given:
        raise ConfigError(
            f"{strides_path} = {list(strides)}, but {name} gives maps of strides {list(source.out_strides)}; set the "
            "former to that (the strides of a neck follow from its in_strides, start_level and num_outs)"
        )
