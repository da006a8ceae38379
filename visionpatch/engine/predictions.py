"""Prediction files: plain arrays (.npz) or plain text (.json), written and read without pickle."""

import json
import math
import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dist import collect_results, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from numpy import ndarray
from torch import Tensor

from visionpatch.engine.atomic import atomic_path
from visionpatch.errors import DataError
from visionpatch.registry import HOOKS

FIELDS = ("sem_seg", "label", "score", "bboxes", "labels", "scores", "masks")


@HOOKS.register_module()
class SavePredictionsHook(Hook):
    """Collects the predictions of a test run and writes them to one file.

    Args:
        out_file: ``.npz`` or ``.json``, see `write_predictions`.
    """

    priority = "LOW"

    def __init__(self, out_file: str | Path) -> None:
        self.out_file = Path(out_file)
        self._packed: list[dict] = []

    def before_test_epoch(self, runner: Runner) -> None:
        self._packed = []

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        for sample in outputs or ():
            record = record_of(sample)
            if "sem_seg" in record:  # as PNG, a hundredth of the memory
                record["sem_seg"] = cv2.imencode(".png", record["sem_seg"])[1]
            self._packed.append(record)

    def after_test_epoch(self, runner: Runner, metrics: Any = None) -> None:
        packed = collect_results(self._packed, len(runner.test_dataloader.dataset), device="cpu")
        if is_main_process():
            write_predictions(self.out_file, (_unpacked(record) for record in packed))
            runner.logger.info(f"predictions of {len(packed)} samples written to {self.out_file}")


def record_of(sample: Any) -> dict[str, Any]:
    """The predictions of a DataSample: img_path, and those of `FIELDS` it has, as numpy arrays.

    ``sem_seg`` (H, W) uint8 or uint16; ``label`` (n,); ``score`` (C,); ``bboxes`` (n, 4); ``labels``, ``scores`` (n,).
    ``masks`` is a list of n run lengths in COCO's form, ``dict(size=[H, W], counts=(r,))``; see `mask_of`.
    """
    record: dict[str, Any] = dict(img_path=str(sample.get("img_path", sample.get("img_id", ""))))
    found: dict[str, Tensor] = {}
    if "pred_sem_seg" in sample:
        found["sem_seg"] = sample.pred_sem_seg.data.squeeze(0)
    for name in ("label", "score"):
        if f"pred_{name}" in sample:
            found[name] = getattr(sample, f"pred_{name}")
    if "pred_instances" in sample:
        found |= {
            name: sample.pred_instances[name]
            for name in ("bboxes", "labels", "scores")
            if name in sample.pred_instances
        }
        if "masks" in sample.pred_instances:
            record["masks"] = [run_lengths(mask) for mask in sample.pred_instances.masks.cpu().numpy()]
    record |= {name: value.detach().cpu().numpy() for name, value in found.items()}
    if "sem_seg" in record:
        record["sem_seg"] = record["sem_seg"].astype(np.uint8 if record["sem_seg"].max(initial=0) < 256 else np.uint16)
    return record


def write_predictions(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as `record_of` makes them; the file is whole or not there.

    ``.npz``: ``img_path`` (n,) text and, for sample i, ``<i>/<field>``; of masks ``<i>/masks`` are all run lengths in
    turn, ``<i>/mask_sizes`` (n, 3) height, width and how many runs. ``.json``: a list of objects; a label map is
    ``{"shape": [H, W], "runs": [[label, length], ...]}``, row by row; masks are objects of size and counts.
    """
    path = Path(path)
    with atomic_path(path) as part:
        if path.suffix == ".json":
            part.write_text(json.dumps([{k: _to_json(k, v) for k, v in record.items()} for record in records]))
            return
        names = []
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for index, record in enumerate(records):
                names.append(record["img_path"])
                for field in FIELDS:
                    if field not in record:
                        continue
                    value = record[field]
                    if field == "masks":
                        sizes = [[*mask["size"], len(mask["counts"])] for mask in value]
                        _write_array(archive, f"{index}/mask_sizes", np.array(sizes, np.int64).reshape(-1, 3))
                        value = np.concatenate([np.zeros(0, np.int32), *(mask["counts"] for mask in value)])
                    _write_array(archive, f"{index}/{field}", value)
            _write_array(archive, "img_path", np.array(names, dtype=np.str_))


def read_predictions(path: str | Path) -> list[dict[str, Any]]:
    """Read what `write_predictions` wrote; nothing in the file is executed.

    Raises:
        DataError: no such file, or not a prediction file.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such prediction file; tools/test.py --out writes one")
    try:
        return _read_json(path) if path.suffix == ".json" else _read_npz(path)
    except Exception as error:  # json, zipfile, zlib and numpy each have classes of their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{path}: not a prediction file of tools/test.py --out ({path.stat().st_size} bytes; {reason}); "
            "write it again"
        ) from error


def _read_npz(path: Path) -> list[dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        _check_size(sum(entry.file_size for entry in archive.infolist()))
    with np.load(path, allow_pickle=False) as arrays:
        if arrays["img_path"].ndim != 1 or arrays["img_path"].dtype.kind != "U":
            raise ValueError("img_path is no list of names")
        records: list[dict[str, Any]] = [dict(img_path=str(name)) for name in arrays["img_path"]]
        for key in arrays.files:
            index, _, field = key.partition("/")
            if field in FIELDS:
                if not index.isdecimal() or int(index) >= len(records):
                    raise ValueError(f"{key} is of no sample")
                records[int(index)][field] = _numbers(field, arrays[key])
                if field == "masks":
                    records[int(index)][field] = _split(arrays[key], arrays[f"{index}/mask_sizes"])
    return records


def _read_json(path: Path) -> list[dict[str, Any]]:
    content = json.loads(path.read_text())
    if not all(isinstance(record.get("img_path"), str) for record in content):
        raise ValueError("a record has no img_path")
    _check_size(sum(2 * math.prod(record["sem_seg"]["shape"]) for record in content if "sem_seg" in record))
    return [
        {key: value if key == "img_path" else _from_json(key, value) for key, value in record.items()}
        for record in content
    ]


def run_lengths(mask: ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's run lengths: of 0 and 1 in turn, column by column, the first one of 0."""
    flat = np.asarray(mask, dtype=bool).T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = np.concatenate([[0] if flat[:1].any() else [], changes, [flat.size]])
    return dict(size=list(mask.shape), counts=np.diff(ends, prepend=0).astype(np.int32))


def mask_of(runs: Mapping[str, Any]) -> ndarray:
    """The mask (H, W), bool, of `run_lengths`."""
    counts, (height, width) = runs["counts"], runs["size"]
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def _check_size(size: int) -> None:
    """Refuse a small file that unpacks to more than this machine holds."""
    if hasattr(os, "sysconf") and size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        raise ValueError(f"it unpacks to {size} bytes, more than the memory of this machine")


def _numbers(field: str, value: Any) -> ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{field} holds something else than numbers")
    return array


def _write_array(archive: zipfile.ZipFile, name: str, array: ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _to_json(field: str, value: Any) -> Any:
    if field != "sem_seg":
        if field == "masks":
            return [dict(size=mask["size"], counts=mask["counts"].tolist()) for mask in value]
        return value.tolist() if isinstance(value, ndarray) else value
    flat = value.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=np.int64(-1)))
    lengths = np.diff(starts, append=flat.size)
    return dict(shape=list(value.shape), runs=np.stack([flat[starts], lengths], 1).tolist())


def _from_json(field: str, value: Any) -> Any:
    if field == "sem_seg":
        labels, lengths = np.array(value["runs"], dtype=np.int64).reshape(-1, 2).T
        height, width = value["shape"]
        if not 0 <= labels.min(initial=0) <= labels.max(initial=0) < 1 << 16 or lengths.sum() != height * width:
            raise ValueError("the runs of sem_seg do not fill its shape, or its labels are not 0 to 65535")
        labels = labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
        return np.repeat(labels, lengths).reshape(height, width)
    if field == "masks":
        return [_checked_mask(mask["size"], np.array(mask["counts"], dtype=np.int64)) for mask in value]
    return _numbers(field, value) if isinstance(value, list) or field in FIELDS else value


def _split(counts: ndarray, sizes: ndarray) -> list[dict[str, Any]]:
    """The masks of a sample out of their joined run lengths."""
    ends = sizes.reshape(-1, 3)[:, 2].cumsum()
    if counts.ndim != 1 or (ends[-1] if len(ends) else 0) != len(counts):
        raise ValueError("the run lengths of masks are not as many as mask_sizes says")
    parts = np.split(counts, ends[:-1])
    return [_checked_mask(size[:2].tolist(), part) for size, part in zip(sizes, parts)]


def _checked_mask(size: Any, counts: ndarray) -> dict[str, Any]:
    height, width = size
    filled = counts.ndim == 1 and counts.dtype.kind in "iu" and counts.min(initial=0) >= 0
    if not filled or min(height, width) < 0 or not counts.sum() == height * width < 1 << 31:
        raise ValueError("the run lengths of a mask do not fill its size")
    return dict(size=[int(height), int(width)], counts=counts.astype(np.int32))


def _unpacked(record: dict) -> dict:
    if "sem_seg" in record:
        record["sem_seg"] = cv2.imdecode(record["sem_seg"], cv2.IMREAD_UNCHANGED)
    return record
