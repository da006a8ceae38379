"""Images and label maps in two folders: the base of every segmentation format."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from visionpatch.errors import ConfigError, DataError, nearest
from visionpatch.paths import data_path
from visionpatch.registry import DATASETS

from .base import BaseDataset, take
from .classes import resolve_classes
from .paths import index_files, require_folder, suffix_counts

LOST = "wrong data_root, data_prefix, ann_file or suffix?"


@DATASETS.register_module()
class SegmentationDataset(BaseDataset):
    """Pairs of an image and a label map with the same stem.

    Everything is checked here, before training: folders, suffixes, and that every sample has both files.

    Args:
        data_root: folder the other paths are relative to; ``data/...`` is also looked for below VISIONPATCH_DATA.
        data_prefix: dict(img_path=folder, seg_map_path=folder). Without ``seg_map_path`` there is no ground truth,
            which needs `test_mode`.
        ann_file: split list, one stem a line; empty takes every image of the folder, subfolders included.
        img_suffix, seg_map_suffix: endings of the file names, which may hold more than the dot part
            (``_gtFine_labelTrainIds.png``); None takes the format's.
        metainfo: dict(classes=(...), palette=[...]). Names of the format in another order or number select these
            classes (the others become ignored); entirely other names are taken as the folder's own.
        reduce_zero_label: 0 in the files means "no class", k means class k - 1. None takes the format's.
        ignore_index: value in the files of pixels without a class; it arrives as 255.
        label_map: {value in the file: class index, or 255}, e.g. ``{255: 1}`` for masks of 0 and 255.
        pipeline: transforms of a sample.
        test_mode: for evaluation.
        indices: the first n samples, or a list of indices.

    Raises:
        DataError: a folder, or an image or mask of the split, is missing, or the split is empty.
        ConfigError: an argument or the class names are wrong.
    """

    METAINFO: ClassVar[dict[str, Any]] = {}
    DATA_PREFIX: ClassVar[dict[str, str]] = {}
    IMG_SUFFIX: ClassVar[str | None] = ".jpg"
    SEG_MAP_SUFFIX: ClassVar[str | None] = ".png"
    REDUCE_ZERO_LABEL: ClassVar[bool] = False
    LABEL_MAP: ClassVar[dict[int, int]] = {}

    def __init__(
        self,
        *,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        ann_file: str = "",
        img_suffix: str | None = None,
        seg_map_suffix: str | None = None,
        metainfo: Mapping[str, Any] | None = None,
        reduce_zero_label: bool | None = None,
        ignore_index: int = 255,
        label_map: Mapping[int, int] | None = None,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(pipeline, test_mode)
        name = type(self).__name__
        self.metainfo, selection = resolve_classes(name, self.METAINFO, metainfo)
        self.reduce_zero_label = self.REDUCE_ZERO_LABEL if reduce_zero_label is None else reduce_zero_label
        if not isinstance(ignore_index, int) or not 0 <= ignore_index <= 255:
            raise ConfigError(f"{name}: ignore_index is a value in the masks, 0..255, not {ignore_index!r}")
        self.ignore_index = ignore_index
        own_map = self.LABEL_MAP if label_map is None else dict(label_map)
        self.label_map = _merge_maps(name, own_map, selection, self.reduce_zero_label)
        self.data_root = data_path(data_root) if data_root else ""
        self.ann_file = self._under_root(ann_file) if ann_file else ""
        prefix = _check_prefix(name, self.DATA_PREFIX if data_prefix is None else data_prefix, test_mode)
        if self.data_root:
            require_folder(self.data_root, "data_root")
        self.img_dir = require_folder(self._under_root(prefix["img_path"]), "data_prefix.img_path")
        seg_dir = prefix.get("seg_map_path")
        self.seg_dir = (
            None if seg_dir is None else require_folder(self._under_root(seg_dir), "data_prefix.seg_map_path")
        )
        self.img_suffix = self.IMG_SUFFIX if img_suffix is None else img_suffix
        self.seg_map_suffix = self.SEG_MAP_SUFFIX if seg_map_suffix is None else seg_map_suffix
        self.stems, self._images, self._masks = self._find(indices)

    def __len__(self) -> int:
        return len(self.stems)

    def get_data_info(self, index: int) -> dict[str, Any]:
        mask = None if self.seg_dir is None else f"{self.seg_dir}/{self._masks[index]}"
        return dict(
            img_path=f"{self.img_dir}/{self._images[index]}",
            seg_path=mask,
            seg_map_path=mask,  # the key mmcv's and MMSegmentation's transforms look for
            img_id=self.stems[index],
            sample_idx=index,
            classes=self.metainfo["classes"],
            reduce_zero_label=self.reduce_zero_label,
            ignore_index=self.ignore_index,
            label_map=self.label_map,
            seg_fields=[],
        )

    def _under_root(self, path: str) -> str:
        return os.path.join(self.data_root, path) if self.data_root else data_path(path)

    def _find(self, indices: int | Sequence[int] | None) -> tuple[list[str], list[str], list[str]]:
        """Stems, image files and mask files of the split, every one of them present."""
        images = self._index(self.img_dir, self.img_suffix, "img_suffix")
        if self.ann_file:
            stems = [strip_suffix(s, self.img_suffix, images) for s in read_split(self.ann_file)]
        else:
            stems = sorted(images)
        source = self.ann_file or self.img_dir
        require_all(stems, images, source, self.img_dir, "image", self.img_suffix)
        masks: dict[str, str] = {}
        if self.seg_dir is not None:
            masks = self._index(self.seg_dir, self.seg_map_suffix, "seg_map_suffix")
            require_all(stems, masks, source, self.seg_dir, "mask", self.seg_map_suffix)
        stems = take(stems, indices)
        return stems, [images[s] for s in stems], [masks[s] for s in stems] if masks else []

    @staticmethod
    def _index(folder: str, suffix: str | None, argument: str) -> dict[str, str]:
        found = index_files(folder, suffix)
        if not found:
            wanted = "is a common image" if suffix is None else f'ends with "{suffix}" ({argument})'
            raise DataError(f"{folder}: none of its files {wanted}; it holds {suffix_counts(folder)}")
        return found


def read_split(path: str) -> list[str]:
    """The stems listed in a text file, one a line; blank lines do not count."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            stems = [line.strip() for line in file]
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        others = nearest(os.path.basename(path), os.listdir(folder)) if os.path.isdir(folder) else ""
        raise DataError(f"{path}: split list (ann_file) does not exist{others}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: split list (ann_file) cannot be read: {error}") from None
    stems = [stem for stem in stems if stem]
    if not stems:
        raise DataError(f"{path}: split list (ann_file) is empty: 0 samples")
    return stems


def strip_suffix(stem: str, suffix: str | None, known: Mapping[str, str]) -> str:
    """A line of a split list as a stem; lines that carry the file suffix are understood."""
    stem = stem.replace("\\", "/")
    if stem in known:
        return stem
    short = stem.removesuffix(suffix) if suffix else os.path.splitext(stem)[0]
    return short if short in known else stem


def require_all(
    stems: Sequence[str], known: Mapping[str, str], source: str, folder: str, what: str, suffix: str | None
) -> None:
    missing = [stem for stem in stems if stem not in known]
    if not missing:
        return
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    example = f"{folder}/{missing[0]}{suffix or '.*'}"
    remedy = f"; {LOST} {folder} holds {suffix_counts(folder)}" if len(missing) == len(stems) else ""
    raise DataError(
        f"{source}: {len(missing)} of {len(stems)} samples have no {what}: {shown} (expected {example}){remedy}"
    )


def _check_prefix(name: str, prefix: Mapping[str, str], test_mode: bool) -> dict[str, str]:
    prefix = dict(prefix)
    keys = ("img_path", "seg_map_path")
    for key in prefix:
        if key not in keys:
            raise ConfigError(f'{name}: data_prefix has no key "{key}"{nearest(str(key), keys)}')
    if "img_path" not in prefix:
        raise ConfigError(f"{name} needs data_prefix=dict(img_path=folder of images, seg_map_path=folder of masks)")
    if prefix.get("seg_map_path") is None and not test_mode:
        raise ConfigError(f"{name}: data_prefix.seg_map_path is missing; only test_mode=True works without masks")
    return prefix


def _merge_maps(name: str, own: Mapping[int, int], selection: Mapping[int, int], reduced: bool) -> dict[int, int]:
    """One map from the file's values: the format's or user's own first, then the selection of classes."""
    for value, label in own.items():
        if not (isinstance(value, int) and isinstance(label, int) and 0 <= value <= 255 and 0 <= label <= 255):
            raise ConfigError(f"{name}: label_map maps 0..255 to 0..255, not {value!r} to {label!r}")
    if not selection:
        return dict(own)
    shift = 1 if reduced else 0
    merged = {old + shift: new for old, new in selection.items() if old + shift not in own}
    return {**merged, **{value: selection.get(label, label) for value, label in own.items()}}
