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

FIELDS = ("sem_seg", "label", "score", "bboxes", "labels", "scores")


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
    record |= {name: value.detach().cpu().numpy() for name, value in found.items()}
    if "sem_seg" in record:
        record["sem_seg"] = record["sem_seg"].astype(np.uint8 if record["sem_seg"].max(initial=0) < 256 else np.uint16)
    return record


def write_predictions(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as `record_of` makes them; the file is whole or not there.

    ``.npz``: ``img_path`` (n,) text and, for sample i, ``<i>/<field>``. ``.json``: a list of objects; a label map is
    ``{"shape": [H, W], "runs": [[label, length], ...]}``, row by row.
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
                    if field in record:
                        _write_array(archive, f"{index}/{field}", record[field])
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
    return _numbers(field, value) if isinstance(value, list) or field in FIELDS else value


def _unpacked(record: dict) -> dict:
    if "sem_seg" in record:
        record["sem_seg"] = cv2.imdecode(record["sem_seg"], cv2.IMREAD_UNCHANGED)
    return record
