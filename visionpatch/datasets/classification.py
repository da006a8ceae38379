"""Images with one class each: a list file, or a folder for each class."""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visionpatch.errors import DataError, nearest
from visionpatch.paths import data_path
from visionpatch.registry import DATASETS

from .base import BaseDataset, take
from .paths import list_images, require_folder, suffix_counts


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
            img_path=f"{self.img_dir}/{name}",
            img_id=name,
            sample_idx=index,
            gt_label=label,
            classes=self.metainfo["classes"],
        )


@DATASETS.register_module()
class ListFileDataset(ClassificationDataset):
    """Images listed in a CSV file with the columns ``file`` and ``class_index``, and optionally ``name``.

    Args:
        ann_file: the CSV file, relative to `data_root`.
        data_root: folder the other paths are relative to.
        data_prefix: dict(img_path=folder the column ``file`` is relative to).
        num_classes: number of classes; None takes the number of `metainfo` classes, or the largest index plus one.
        metainfo: dict(classes=...); without it the column ``name`` is used, and "class k" for the rest.
        pipeline, test_mode, indices: as SegmentationDataset.

    Raises:
        DataError: the file or a column is missing, a row is wrong, or an image does not exist.
    """

    def __init__(
        self,
        *,
        ann_file: str,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        num_classes: int | None = None,
        metainfo: Mapping[str, Any] | None = None,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        root = data_path(data_root) if data_root else ""
        folder = os.path.join(root, (data_prefix or {}).get("img_path", "")) or "."
        require_folder(folder, "data_prefix.img_path")
        ann_path = os.path.join(root, ann_file)
        samples, names = _read_csv(ann_path)
        missing = [name for name, _ in samples if not os.path.isfile(f"{folder}/{name}")]
        if missing:
            raise DataError(
                f"{ann_path}: {len(missing)} of {len(samples)} images are not in {folder}: {', '.join(missing[:5])}"
            )
        top = max(label for _, label in samples)
        classes = tuple((metainfo or {}).get("classes", ()))
        classes = classes or tuple(names.get(k, f"class {k}") for k in range(num_classes or top + 1))
        total = len(classes)
        if top >= total or (num_classes is not None and num_classes != total):
            raise DataError(f"{ann_path}: class indices go up to {top}, but there are {total} classes (0..{total - 1})")
        super().__init__(folder, samples, dict(classes=classes), pipeline, test_mode, indices)


@DATASETS.register_module()
class ImageFolderDataset(ClassificationDataset):
    """One folder of images for each class; the classes are the folder names in sorted order.

    Args:
        data_root: the folder of folders.
        metainfo: dict(classes=...): the folder names in the order wanted; None takes all, sorted.
        pipeline, test_mode, indices: as SegmentationDataset.

    Raises:
        DataError: no folders, or a class without a folder or without images.
    """

    def __init__(
        self,
        *,
        data_root: str,
        metainfo: Mapping[str, Any] | None = None,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        root = require_folder(data_path(data_root), "data_root")
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
        if not folders:
            raise DataError(f"{root}: a folder for each class is expected; it holds {suffix_counts(root)}")
        classes = tuple((metainfo or {}).get("classes", folders))
        samples = []
        for label, name in enumerate(classes):
            if name not in folders:
                raise DataError(f'{root}: no folder for the class "{name}"{nearest(name, folders)}')
            files = list_images(os.path.join(root, name))
            if not files:
                raise DataError(f"{root}/{name}: no images; it holds {suffix_counts(os.path.join(root, name))}")
            samples += [(f"{name}/{file}", label) for file in files]
        super().__init__(root, samples, dict(classes=classes), pipeline, test_mode, indices)


def _read_csv(path: str) -> tuple[list[tuple[str, int]], dict[int, str]]:
    """[(file, class index)] and {class index: name} of a list file."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: list file (ann_file) cannot be read: {error}") from None
    for column in ("file", "class_index"):
        if column not in columns:
            raise DataError(f'{path}: the first line has no column "{column}"{nearest(column, columns)}')
    if not rows:
        raise DataError(f"{path}: list file (ann_file) is empty: 0 samples")
    samples, names = [], {}
    for number, row in enumerate(rows, start=2):
        label, name = (row["class_index"] or "").strip(), (row["file"] or "").strip().replace("\\", "/")
        if not name or not label.isdecimal() or len(label) > 6:
            raise DataError(
                f"{path}, line {number}: a file and a class index 0..999999 are expected, not {str(dict(row))[:200]}"
            )
        samples.append((name, int(label)))
        if row.get("name"):
            names[int(label)] = row["name"]
    return samples, names
