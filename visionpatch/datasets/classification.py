"""Images with one class each: a list file, or a folder for each class."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visionpatch.errors import ConfigError, DataError, nearest
from visionpatch.paths import data_path
from visionpatch.registry import DATASETS

from .base import BaseDataset, take
from .classes import checked_names
from .detection import image_folder
from .list_file import read_list
from .paths import list_images, require_folder, suffix_counts

SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
NO_CLASSES = ("__MACOSX",)  # what archives made on a Mac hold besides


class ClassificationDataset(BaseDataset):
    """Base: samples are (file, class index); gives ``img_path`` and ``gt_label``."""

    def __init__(
        self,
        folder: str,
        samples: list[tuple[str, int]],
        metainfo: dict[str, Any],
        pipeline: Sequence[Mapping[str, Any] | Callable],
        test_mode: bool,
        indices: int | Sequence[int] | None,
    ) -> None:
        super().__init__(pipeline, test_mode)
        self.img_dir = folder
        self.metainfo = metainfo
        self.samples = take(samples, indices)

    def __len__(self) -> int:
        return len(self.samples)

    def get_data_info(self, index: int) -> dict[str, Any]:
        name, label = self.samples[index]
        return dict(
            img_path=os.path.join(self.img_dir, name),
            img_id=name,
            sample_idx=index,
            gt_label=label,
            classes=self.metainfo["classes"],
        )


@DATASETS.register_module()
class ListFileDataset(ClassificationDataset):
    """Images listed in a CSV file with the columns ``file`` and ``class_index``, and optionally ``name``.

    The classes in the file are indices in every line, or names in every line.

    Args:
        ann_file: the CSV file, relative to `data_root`; see `read_list` for what it may look like.
        data_root: folder the other paths are relative to.
        data_prefix: dict(img_path=folder the files are relative to); absolute ones stay as they are.
        file_column, label_column: names of the columns with the files and the classes.
        num_classes: number of classes; None takes the number of `metainfo` classes, or the largest index plus one.
        metainfo: dict(classes=...), the names in the order of the indices. Without it the names of the file count:
            those of the column ``name``, and "class k" for the rest; or class names in sorted order.
        pipeline, test_mode, indices: as SegmentationDataset.

    Raises:
        DataError: the file or a column is missing, a row is wrong, or an image does not exist.
        ConfigError: a wrong argument.
    """

    def __init__(
        self,
        *,
        ann_file: str,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        file_column: str = "file",
        label_column: str = "class_index",
        num_classes: int | None = None,
        metainfo: Mapping[str, Any] | None = None,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        root, folder = image_folder("ListFileDataset", data_root, data_prefix)
        ann_path = os.path.join(root, ann_file) if root else data_path(ann_file)
        given = _given_classes("ListFileDataset", metainfo)
        listed, names = read_list(ann_path, file_column, label_column, None if given else "name")
        missing = [name for name, _ in listed if not os.path.isfile(os.path.join(folder, name))]
        if missing:
            raise DataError(
                f"{ann_path}: {len(missing)} of {len(listed)} images are not in {folder}: {', '.join(missing[:5])}; "
                "files are relative to data_prefix=dict(img_path=...) below data_root"
            )
        classes, samples = _indexed(ann_path, listed, names, given, num_classes)
        super().__init__(folder, samples, dict(classes=classes), pipeline, test_mode, indices)


@DATASETS.register_module()
class ImageFolderDataset(ClassificationDataset):
    """One folder of images for each class; the classes are the folder names in sorted order ("10" before "2").

    Images may lie in folders below. Hidden files and folders, whose names begin with a dot, do not count.

    Args:
        data_root: the folder of folders.
        metainfo: dict(classes=...): the folder names in the order wanted, others are left out; None takes all, sorted.
            An evaluation set that lacks a class of the training needs it, for the others to keep their indices.
        allow_empty: classes may have no image, or no folder.
        pipeline, test_mode, indices: as SegmentationDataset.

    Raises:
        DataError: no folders, a class without a folder or without images, or folders that are splits.
        ConfigError: `metainfo` is wrong.
    """

    def __init__(
        self,
        *,
        data_root: str,
        metainfo: Mapping[str, Any] | None = None,
        allow_empty: bool = False,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        root = require_folder(data_path(data_root), "data_root")
        folders = _class_folders(root)
        given = _given_classes("ImageFolderDataset", metainfo)
        classes = folders if given is None else checked_names("ImageFolderDataset", given)
        if given is None and set(folders) <= SPLITS:
            raise DataError(
                f"{root}: the folders {', '.join(folders)} are splits, not classes; set data_root to one of them "
                f'("{root}/{folders[-1]}"), or metainfo=dict(classes=...) if they are the classes'
            )
        samples: list[tuple[str, int]] = []
        for label, name in enumerate(classes):
            if name in folders:
                samples += [(f"{name}/{file}", label) for file in _images(os.path.join(root, name), allow_empty)]
            elif not allow_empty:
                raise DataError(
                    f'{root}: no folder for the class "{name}"{nearest(name, folders)}; allow_empty=True takes it as '
                    "one without pictures"
                )
        super().__init__(root, samples, dict(classes=tuple(classes)), pipeline, test_mode, indices)


def _class_folders(root: str) -> list[str]:
    folders = sorted(
        entry.name
        for entry in os.scandir(root)
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in NO_CLASSES
    )
    if not folders:
        raise DataError(f"{root}: a folder for each class is expected; it holds {suffix_counts(root)}")
    return folders


def _images(folder: str, allow_empty: bool) -> list[str]:
    files = list_images(folder)
    if not files and not allow_empty:
        raise DataError(
            f"{folder}: no images; it holds {suffix_counts(folder)}; remove the folder, name the other classes in "
            "metainfo=dict(classes=...), or set allow_empty=True"
        )
    return files


def _given_classes(owner: str, metainfo: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """The classes of `metainfo`; a name may stand for two of them, as "crane" does in ImageNet."""
    classes = (metainfo or {}).get("classes") if isinstance(metainfo, Mapping | None) else metainfo
    if classes is None:
        return None
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(c, str) for c in classes):
        raise ConfigError(f"{owner}: metainfo is dict(classes=(name, ...)), not {metainfo!r}")
    return tuple(classes)


def _indexed(
    path: str,
    listed: list[tuple[str, int | str]],
    names: Mapping[int, str],
    given: tuple[str, ...] | None,
    num_classes: int | None,
) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    """The classes, and the samples with class indices."""
    if isinstance(listed[0][1], str):
        classes = given or tuple(sorted({str(label) for _, label in listed}))
        for _, label in listed:
            if label not in classes:
                raise DataError(f'{path}: the class "{label}" is none of the classes{nearest(str(label), classes)}')
        index = {name: k for k, name in reversed(list(enumerate(classes)))}
        samples = [(file, index[str(label)]) for file, label in listed]
    else:
        samples = [(file, int(label)) for file, label in listed]
        total = num_classes or max(label for _, label in samples) + 1
        classes = given or tuple(names.get(k, f"class {k}") for k in range(total))
    if num_classes is not None and num_classes != len(classes):
        raise DataError(f"{path}: num_classes = {num_classes}, but there are {len(classes)} classes")
    top = max(label for _, label in samples)
    if top >= len(classes):
        raise DataError(
            f"{path}: class indices go up to {top}, but there are {len(classes)} classes (0..{len(classes) - 1})"
        )
    return classes, samples
