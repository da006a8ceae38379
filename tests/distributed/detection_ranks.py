"""Started by torchrun with a folder: every process evaluates its share of made-up detections, ``<rank>.json``."""

import json
import logging
import sys
from pathlib import Path

import torch
from evaluation.scenes import CLASSES, scene
from mmengine.dataset import DefaultSampler
from mmengine.dist import get_rank
from mmengine.evaluator import Evaluator

from visionpatch.apis.cli import leave_group
from visionpatch.evaluation import CocoMetric, VOCMetric

CASES = [(1, 1), (5, 1), (5, 2), (8, 2)]


def evaluate(length: int, batch_size: int, prefix: Path) -> dict[str, float]:
    """The numbers of `length` pictures, in batches; the files of results begin with `prefix`."""
    coco = CocoMetric(metric=["bbox", "segm", "proposal"], classwise=True, outfile_prefix=str(prefix))
    evaluator = Evaluator([coco, VOCMetric(iou_thrs=[0.5, 0.75], classwise=True)])
    evaluator.dataset_meta = dict(classes=CLASSES)
    samples = [scene(number) for number in range(length)]
    order = list(DefaultSampler(samples, shuffle=False))
    for start in range(0, len(order), batch_size):
        evaluator.process([samples[index] for index in order[start : start + batch_size]])
    return evaluator.evaluate(length)


def main(folder: Path) -> None:
    logging.disable(logging.INFO)
    torch.distributed.init_process_group("gloo")
    found = {f"{n} {size}": evaluate(n, size, folder / f"two_{n}_{size}") for n, size in CASES}
    (folder / f"{get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_group()
