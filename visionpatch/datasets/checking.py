"""Looking through a whole dataset before training: what is in it and what is wrong with it."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionpatch.errors import BadSampleError

from .base import BaseDataset
from .transforms import Compose, LoadAnnotations, LoadImage
from .transforms.decode import read_bytes
from .transforms.loading import value_counts

SOURCES = dict(image="img_path", mask="seg_path", annotation="objects")  # keys of what a loader reads
LOADERS = ("LoadImage", "LoadImageFromFile", "LoadAnnotations")


@dataclass
class Report:
    """What one pass over a dataset found. `problems` maps a kind of fault to its cases, one line each."""

    classes: tuple[str, ...]
    samples: int
    images: np.ndarray  # (C,) pictures in which the class occurs
    pixels: np.ndarray  # (C,) pixels of the class; zeros where there are no label maps
    objects: np.ndarray  # (C,) objects of the class, without the ignored ones; zeros where there are none
    ignored_pixels: int = 0
    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    names: dict[str, str] = field(default_factory=dict)  # img_id -> path
    digests: dict[str, str] = field(default_factory=dict)  # digest of the image file -> path

    @property
    def ok(self) -> bool:
        return not any(self.problems.values())


def check_dataset(
    dataset: BaseDataset,
    loading: Sequence[Callable] | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Report:
    """Read every sample of `dataset` once.

    Args:
        dataset: a segmentation, detection or classification dataset.
        loading: the transforms that read image and mask; see `loading_steps`.
        progress: wraps the range of indices, e.g. ``rich.progress.track``.
    """
    classes = tuple(dataset.metainfo["classes"])
    report = Report(classes, len(dataset), *np.zeros((3, len(classes)), np.int64))
    steps = loading_steps(()) if loading is None else loading
    for index in progress(range(len(dataset))):
        _check_sample(dataset.get_data_info(index), steps, report)
    return report


def loading_steps(pipeline: Sequence[Mapping[str, Any]]) -> list[Callable]:
    """The loading transforms a pipeline of dicts names, in their order; the two standard ones if it has none."""
    named = [cfg for cfg in pipeline if isinstance(cfg, Mapping) and cfg.get("type") in LOADERS]
    return Compose(named).transforms if named else [LoadImage(), LoadAnnotations()]


def find_overlap(a: Report, b: Report) -> list[str]:
    """Pictures that are in both, by name or by content, one line each."""
    by_name = [path for name, path in a.names.items() if name in b.names and b.names[name] == path]
    same = [f"{path} = {b.digests[d]}" for d, path in a.digests.items() if d in b.digests and path != b.digests[d]]
    return by_name + same


def _check_sample(info: dict[str, Any], steps: Sequence[Callable], report: Report) -> None:
    path, name = info["img_path"], str(info["img_id"])
    if name in report.names:
        report.problems["listed twice"].append(path)
    report.names[name] = path
    try:
        digest = hashlib.sha1(read_bytes(path), usedforsecurity=False).hexdigest()
    except BadSampleError as error:
        report.problems["unusable image"].append(str(error))
        return
    twin = report.digests.setdefault(digest, path)
    if twin != path:
        report.problems["same content"].append(f"{path} = {twin}")
    for step in steps:
        what = _reads(step)
        if info.get(SOURCES[what]) is None:
            continue
        try:
            info = step(info)
        except BadSampleError as error:
            report.problems[f"unusable {what}"].append(str(error))
            return
    _count(info, report)


def _reads(step: Callable) -> str:
    if not isinstance(step, LoadAnnotations):
        return "image"
    return "mask" if step.with_seg else "annotation"


def _count(info: Mapping[str, Any], report: Report) -> None:
    number = len(report.classes)
    if "objects" in info:
        objects = info["objects"]
        counts = np.bincount(objects.labels[~(objects.crowd | objects.difficult)], minlength=number)
        report.objects += counts
        report.images += counts > 0
    elif "gt_seg_map" in info:
        counts = value_counts(info["gt_seg_map"]).astype(np.int64)
        report.pixels += counts[:number]
        report.images += counts[:number] > 0
        report.ignored_pixels += int(counts[255])
        if not counts[:number].any():
            report.problems["mask without any class"].append(str(info["seg_path"]))
    elif "gt_label" in info:
        report.images[info["gt_label"]] += 1
