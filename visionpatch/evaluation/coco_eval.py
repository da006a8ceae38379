"""COCO's evaluation: the two evaluators that compute it, and the numbers they give.

Letters: T IoU thresholds, R recall levels, K categories, A area ranges, M limits of detections per picture.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from visionpatch.errors import ConfigError, MissingDependencyError, nearest
from visionpatch.evaluation.common import as_text
from visionpatch.evaluation.instances import mask_codec

BACKENDS = ("faster-coco-eval", "pycocotools")
AREAS = ("", "_s", "_m", "_l")  # all, small (below 32 x 32 pixels), medium, large (from 96 x 96)
IOU_50, IOU_75 = 0, 5  # places among the thresholds 0.50, 0.55, ... 0.95


@dataclass
class Evaluation:
    """What an evaluator found: -1 where there is nothing to find.

    Attributes:
        precision: (T, R, K, A, M); K in the order of sorted category ids.
        recall: (T, K, A, M).
        max_dets: the limits M.
    """

    precision: np.ndarray
    recall: np.ndarray
    max_dets: tuple[int, ...]

    def numbers(self) -> dict[str, float]:
        """COCO's twelve numbers, fractions: AP as `mAP`, `mAP_50`, `mAP_75`, `mAP_s`, ..., recalls as `AR@100`, ..."""
        last = self.max_dets[-1]
        first = self.max_dets.index(100) if 100 in self.max_dets else -1  # the limit of the headline number
        found = {
            "mAP": _mean(self.precision[..., 0, first]),
            "mAP_50": _mean(self.precision[IOU_50, ..., 0, -1]),
            "mAP_75": _mean(self.precision[IOU_75, ..., 0, -1]),
        }
        found |= {f"mAP{name}": _mean(self.precision[..., a, -1]) for a, name in enumerate(AREAS) if a}
        found |= {f"AR@{limit}": _mean(self.recall[..., 0, m]) for m, limit in enumerate(self.max_dets)}
        return found | {f"AR{name}@{last}": _mean(self.recall[..., a, -1]) for a, name in enumerate(AREAS) if a}

    def per_class(self, place: int) -> list[float]:
        """mAP, mAP_50, mAP_75, mAP_s, mAP_m, mAP_l and the average recall of the category at `place`."""
        precision = self.precision[:, :, place]
        values = [precision[..., 0, -1], precision[IOU_50, :, 0, -1], precision[IOU_75, :, 0, -1]]
        values += [precision[..., a, -1] for a in range(1, len(AREAS))]
        return [_mean(value) for value in [*values, self.recall[:, place, 0, -1]]]


def evaluate(
    truth: dict[str, list],
    detections: list[dict],
    kind: str,
    backend: str,
    max_dets: Sequence[int] = (1, 10, 100),
    by_category: bool = True,
) -> Evaluation:
    """Run an evaluator over all pictures and categories of `truth`.

    Args:
        truth: images, annotations and categories as in a COCO file; ids are integers, those of annotations from 1.
        detections: records of COCO's results format; they are written to.
        kind: "bbox" or "segm".
        backend: one of `BACKENDS`.
        by_category: False lets any detection match any object.
    """
    coco, evaluator = load_backend(backend)
    for number, entry in enumerate(detections, 1):
        area = entry["bbox"][2] * entry["bbox"][3] if kind == "bbox" else int(mask_codec().area(entry["segmentation"]))
        entry |= dict(id=number, area=area, iscrowd=0)
    given, found = coco(), coco()
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells of every step
        for tables, annotations in ((given, truth["annotations"]), (found, detections)):
            tables.dataset = {**truth, "annotations": annotations}
            tables.createIndex()
        run = evaluator(given, found, kind)
        run.params.maxDets = list(max_dets)
        run.params.useCats = int(by_category)
        run.evaluate()
        run.accumulate()
    return Evaluation(np.asarray(run.eval["precision"]), np.asarray(run.eval["recall"]), tuple(max_dets))


def load_backend(name: str) -> tuple[Any, Any]:
    """The classes COCO and COCOeval of a backend.

    Raises:
        MissingDependencyError: it is not installed.
        ConfigError: no such backend.
    """
    if name not in BACKENDS:
        raise ConfigError(f'CocoMetric: backend = "{name}"{nearest(name, BACKENDS)}')
    other = next(backend for backend in BACKENDS if backend != name)
    try:
        if name == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval

            return COCO, COCOeval
        import faster_coco_eval as faster

        # one thread: a task for another one costs more than its IoUs
        return faster.COCO, partial(faster.COCOeval_faster, rle_iou_max_workers=1)
    except ImportError as error:
        raise MissingDependencyError(
            f'CocoMetric: backend = "{name}" is not installed ({error}): pip install {name}; or set '
            f'backend="{other}", which gives the same numbers'
        ) from None


def class_table(classes: Sequence[str], category_ids: Sequence[int], evaluation: Evaluation) -> str:
    """One row per class, percentages with one decimal, "-" where there is nothing to find."""
    table = Table("Class", box=box.ASCII)
    last = evaluation.max_dets[-1]
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", f"AR@{last}"):
        table.add_column(name, justify="right")
    places = {category: place for place, category in enumerate(sorted(category_ids))}
    for name, category in zip(classes, category_ids, strict=True):
        values = evaluation.per_class(places[category])
        table.add_row(str(name), *("-" if value < 0 else f"{100 * value:.1f}" for value in values))
    return as_text(table)


def _mean(values: np.ndarray) -> float:
    """The mean of those that are defined, -1 without any."""
    known = values[values > -1]
    return float(np.mean(known)) if known.size else -1.0
