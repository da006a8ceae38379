"""Time COCO's evaluation with faster-coco-eval, the default of CocoMetric, against pycocotools.

    python benchmarks/evaluation.py                      # 500 made-up pictures; about two minutes
    python benchmarks/evaluation.py --pictures 2000 --rounds 1

80 classes, 7 objects and 100 detections a picture on average. Both sides go from the same results to the numbers,
reading included, in turn; the medians of their processor times and the ratio are printed, and the largest difference
between their numbers.
"""

import argparse
import copy
import logging
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from visionpatch.evaluation import CocoMetric
from visionpatch.evaluation.coco_eval import BACKENDS

CLASSES = tuple(f"class {i}" for i in range(80))
SIZE = (480, 640)  # (H, W)


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pictures", type=int, default=500, help="how many (default: 500)")
    p.add_argument("--rounds", type=int, default=3, help="measurements of each (default: 3)")
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    table = Table("metric", *(f"{backend} (s)" for backend in BACKENDS), "ratio", "largest difference")
    for kind in ("bbox", "segm"):
        metrics = {backend: prepared(kind, backend, args.pictures) for backend in BACKENDS}
        times: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
        found: dict[str, dict[str, float]] = {}
        for _ in range(args.rounds):
            for backend, metric in metrics.items():
                results = copy.deepcopy(metric.results)
                start = time.process_time()
                found[backend] = metric.compute_metrics(results)
                times[backend].append(time.process_time() - start)
        ours, theirs = (statistics.median(times[backend]) for backend in BACKENDS)
        first, second = (found[backend] for backend in BACKENDS)
        difference = max(abs(first[name] - second[name]) for name in first)
        table.add_row(kind, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}", f"{difference:.1e}")
    Console().print(table)


def prepared(kind: str, backend: str, pictures: int) -> CocoMetric:
    """A metric that has seen all samples."""
    metric = CocoMetric(metric=kind, backend=backend)
    metric.dataset_meta = dict(classes=CLASSES)
    rng = np.random.default_rng(0)
    for number in range(pictures):
        metric.process({}, [sample(rng, number, with_masks=kind == "segm")])
    return metric


def sample(rng: np.random.Generator, number: int, with_masks: bool) -> dict[str, Any]:
    """Objects of any size, and detections near them or anywhere."""
    truth, labels = boxes(rng, rng.integers(1, 14)), rng.integers(0, 80, 13)
    near = truth[rng.integers(0, len(truth), 60)]
    found = np.vstack([near + rng.normal(0, 0.05, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2), boxes(rng, 40)])
    instances = dict(
        gt_instances=dict(bboxes=truth, labels=labels[: len(truth)]),
        pred_instances=dict(bboxes=found, labels=rng.integers(0, 80, 100), scores=rng.random(100)),
    )
    instances["pred_instances"]["labels"][:60:2] = labels[rng.integers(0, len(truth), 30)]
    for fields in instances.values():
        fields["bboxes"] = fields["bboxes"].clip(0, [640, 480, 640, 480])
        if with_masks:
            fields["masks"] = np.stack([filled(box) for box in fields["bboxes"]])
    return dict(img_id=number, ori_shape=SIZE, **instances)


def boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    centres, sides = rng.uniform(0, 1, (number, 2)) * [640, 480], np.exp(rng.uniform(2, 6, (number, 2)))
    return np.hstack([centres - sides / 2, centres + sides / 2])


def filled(box: np.ndarray) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    x1, y1, x2, y2 = box.round().astype(int)
    mask[y1:y2, x1:x2] = True
    return mask


if __name__ == "__main__":
    main()
