"""What every transform is, and the pipeline built of them.

A transform takes and returns one dict. Keys the toolbox uses:

| key | content |
|---|---|
| img | (H, W, 3) uint8, uint16 or (LoadImage's to_float32) float32, BGR |
| gt_seg_map | (H, W) uint8, class indices, 255 = ignored; its name is in ``seg_fields`` |
| gt_label | class index, int |
| seg_objects | the ImageObjects that a label map is painted from |
| class_id, class_name, ann_type | of an EpisodeDataset: the class to be found, and how a support picture is annotated |
| objects | the ImageObjects of a detection dataset, from which LoadAnnotations makes the next four |
| gt_bboxes, gt_bboxes_labels | (n, 4) float32 x1 y1 x2 y2 in pixels of `img`; (n,) int64 class indices |
| gt_ignore_flags | (n,) bool, objects that count neither way: crowds, difficult ones |
| gt_masks | (n, H, W) uint8, 0 or 1 |
| img_path, seg_path, img_id, sample_idx | where the sample comes from |
| ori_shape, img_shape, pad_shape | (H, W) of the file, before padding, after padding |
| scale_factor | (w, h) resized / original |
| flip, flip_direction | what RandomFlip did |
"""

import inspect
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from visionpatch.errors import ConfigError, nearest
from visionpatch.registry import TRANSFORMS

Results = dict[str, Any]
IGNORED = 255  # the label of pixels without a class, in memory


class BaseTransform(metaclass=ABCMeta):
    """A callable from dict to dict; mmcv's convention, so that mmcv's and other packages' transforms mix with ours."""

    def __call__(self, results: Results) -> Results | None:
        return self.transform(results)

    @abstractmethod
    def transform(self, results: Results) -> Results | None:
        """Change `results` (in place is fine) and return it; None means that the sample cannot be used."""

    def __repr__(self) -> str:
        shown = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


class Compose(BaseTransform):
    """Apply `transforms` one after the other.

    Args:
        transforms: dicts (``dict(type="Resize", scale=(2048, 512))``) or callables.

    Raises:
        ConfigError: a name or an argument is unknown; the message holds the position in the pipeline.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any] | Callable]) -> None:
        if isinstance(transforms, Mapping) or not isinstance(transforms, Sequence):
            raise ConfigError(f"a pipeline is a list of transforms, not a {type(transforms).__name__}: {transforms!r}")
        self.transforms = [_build(cfg, f"pipeline[{i}]") for i, cfg in enumerate(transforms)]

    def transform(self, results: Results) -> Results | None:
        out: Results | None = results
        for position in range(len(self.transforms)):
            assert out is not None
            out = self.apply(position, out)
            if out is None:
                return None
        return out

    def apply(self, position: int, results: Results) -> Results | None:
        """The step numbered `position` alone."""
        step = self.transforms[position]
        try:
            return step(results)
        except KeyError as error:
            have = ", ".join(map(str, results))
            raise ConfigError(
                f"pipeline[{position}] ({type(step).__name__}) needs the key {error}, which no transform before it "
                f"made; present: {have}"
            ) from error

    def __repr__(self) -> str:
        return "Compose(\n" + "".join(f"    {t!r},\n" for t in self.transforms) + ")"


def _build(cfg: Mapping[str, Any] | Callable, where: str) -> Callable:
    if callable(cfg):
        return cfg
    if not isinstance(cfg, Mapping) or "type" not in cfg:
        raise ConfigError(f'{where} must be a dict with a "type" or a callable, not {cfg!r}')
    args = {k: v for k, v in cfg.items() if k not in ("type", "_scope_")}
    kind = cfg["type"] if callable(cfg["type"]) else _lookup(str(cfg["type"]), where)
    where = f"{where} ({kind.__name__})"
    _check_arguments(kind, args, where)
    try:
        return kind(**args)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{where}: {str(error).removeprefix(kind.__name__ + ': ')}") from error


def _lookup(name: str, where: str) -> Callable:
    """The class registered as `name`; mmcv is imported only when nothing else has it. ``mmcv.X`` means mmcv's own X."""
    kind = None if name.startswith("mmcv.") else TRANSFORMS.get(name)
    remedy = ""
    if kind is None:
        try:
            import mmcv.transforms as extra
        except (ImportError, AssertionError):
            remedy = " (mmcv's own transforms need: pip install mmcv-lite)"
        else:
            kind = getattr(extra, name[5:], None) if name.startswith("mmcv.") else TRANSFORMS.get(name)
    if kind is None:
        known = {*TRANSFORMS.module_dict, *(TRANSFORMS.parent.module_dict if TRANSFORMS.parent else ())}
        raise ConfigError(f'{where}: unknown transform "{name}"{nearest(name.split(".")[-1], known)}{remedy}')
    return kind


def _check_arguments(kind: Callable, args: Mapping[str, Any], where: str) -> None:
    parameters = inspect.signature(kind).parameters
    named = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for name in args:
            if name not in named:
                raise ConfigError(f'{where} has no argument "{name}"{nearest(name, named)}')
    missing = [n for n in named if parameters[n].default is inspect.Parameter.empty and n not in args]
    if missing:
        raise ConfigError(f"{where} needs the argument {', '.join(missing)}")


def pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """`value` as two positive integers; one integer stands for both."""
    both = (value, value) if isinstance(value, int) else value
    if not _is_pair_of(int, both) or min(both) < 1:
        raise ConfigError(f"{name} takes a positive integer or two of them, not {value!r}")
    return both[0], both[1]


def span(name: str, value: Sequence[float], positive: bool = True) -> tuple[float, float]:
    """`value` as (low, high) with 0 < low <= high, or 0 <= low <= high."""
    if not _is_pair_of(int | float, value) or not 0 <= value[0] <= value[1] or (positive and value[0] == 0):
        raise ConfigError(f"{name} takes (low, high) with 0 {'<' if positive else '<='} low <= high, not {value!r}")
    return value[0], value[1]


def probability(name: str, value: float) -> float:
    """`value`, in [0, 1]."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{name} is in [0, 1], not {value!r}")
    return value


def colour(name: str, value: Sequence[float]) -> tuple[float, ...]:
    """`value` as three numbers, blue, green and red."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 3:
        raise ConfigError(f"{name} is three numbers (blue, green, red), not {value!r}")
    return tuple(value)


def _is_pair_of(kind: Any, value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, kind) for v in value)


def where(results: Results) -> str:
    """The file a sample came from, for messages."""
    return str(results.get("img_path") or results.get("img_id", "a sample without img_path"))


def need_8_bits(owner: str, results: Results) -> np.ndarray:
    """The picture of `results`, (H, W, 3) uint8; ConfigError for one of other than 8 bits."""
    image: np.ndarray = results["img"]
    if image.dtype != np.uint8:
        raise ConfigError(
            f"{owner} takes 8-bit images, but {where(results)} holds {image.dtype}; take it out of the pipeline for "
            "16-bit data"
        )
    return image
