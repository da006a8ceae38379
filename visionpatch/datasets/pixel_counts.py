"""How many pixels each class has in each picture of a data set, counted once and kept in a file."""

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from typing import Any

import numpy as np
from mmengine.logging import print_log

from visionpatch.errors import DataError

from .base import BaseDataset
from .transforms import LoadAnnotations
from .transforms.loading import value_counts


def count_pixels(dataset: BaseDataset, cache: str = "") -> np.ndarray:
    """(N, C) int32: the pixels of each class in the label map of each picture, at the size of the file.

    Args:
        dataset: one that gives label maps; its pipeline is not used.
        cache: a ``.npz`` file to keep the numbers in. It holds those of one state of the label maps (their names,
            sizes and times, and the classes): of another state they are counted anew and replace it. Several processes
            may share it. A file that cannot be read or written costs time, no more. Empty: none is kept.

    Raises:
        DataError: the data set gives no label maps.
        BadSampleError: one of them cannot be read.
    """
    if not cache:
        return _count(dataset)
    state = _state(dataset)
    counts = _read(cache, state, (len(dataset), len(dataset.metainfo["classes"])))
    if counts is None:
        counts = _count(dataset)
        _write(cache, state, counts)
    return counts


def _count(dataset: BaseDataset) -> np.ndarray:
    classes, load = len(dataset.metainfo["classes"]), LoadAnnotations()
    counts = np.zeros((len(dataset), classes), np.int32)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if info.get("seg_path") is None:
            raise DataError(
                f"{info.get('img_path')}: {type(dataset).__name__} gives no label map (seg_path); episodes need one of "
                "each picture: set data_prefix.seg_map_path, or take CocoSegDataset for a file in COCO's format"
            )
        counts[index] = value_counts(load.transform(info)["gt_seg_map"])[:classes]
    return counts


def _state(dataset: BaseDataset) -> str:
    """A digest of everything the counts depend on."""
    digest, known = hashlib.sha256(), dict[str, tuple[int, int]]()
    digest.update(json.dumps([type(dataset).__name__, list(dataset.metainfo["classes"])]).encode())
    for index in range(len(dataset)):
        info: dict[str, Any] = dataset.get_data_info(index)
        path = str(info.get("seg_path"))
        if path not in known:
            status = os.stat(path) if os.path.exists(path) else None
            known[path] = (status.st_size, status.st_mtime_ns) if status else (0, 0)
        rules = [info.get(key) for key in ("img_id", "label_map", "ignore_index", "reduce_zero_label")]
        digest.update(repr([path, known[path], rules]).encode())
    return digest.hexdigest()


def _read(path: str, state: str, shape: tuple[int, int]) -> np.ndarray | None:
    """The numbers of that state in the file, None if it has none."""
    if not os.path.exists(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["state"]) != state:
                print_log(f"{path}: of other label maps; their pixels are counted again", "current", logging.INFO)
                return None
            counts = file["counts"]
        if counts.shape != shape or counts.dtype != np.int32:
            raise ValueError(f"it holds {counts.dtype} {counts.shape}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        print_log(f"{path}: cannot be used ({error}); the pixels are counted again", "current", logging.WARNING)
        return None
    return counts


def _write(path: str, state: str, counts: np.ndarray) -> None:
    """Put the file in place as a whole, or say why not."""
    folder, name = os.path.split(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{name}.", delete=False) as file:
            try:
                np.savez_compressed(file, state=np.array(state), counts=counts)
                file.close()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        print_log(f"{path}: the counted pixels cannot be kept ({error})", "current", logging.WARNING)
