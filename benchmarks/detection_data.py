"""Time what happens to a detection sample between its files and the model: images per second of one thread.

    python benchmarks/detection_data.py data/coco [--split train2017] [--images 100] [--rounds 3]

Every pipeline reads the same pictures; of several rounds the fastest counts.
"""

import argparse
import sys
import time

from rich.console import Console
from rich.table import Table

from visionpatch.datasets import CocoDataset, MultiImageMixDataset

BOXES = [dict(type="LoadImage"), dict(type="LoadAnnotations", with_bbox=True)]
MASKS = [dict(type="LoadImage"), dict(type="LoadAnnotations", with_bbox=True, with_mask=True)]
USUAL = [dict(type="Resize", scale=(1333, 800), keep_ratio=True), dict(type="RandomFlip")]
SCALES = [(480 + 32 * step, 1333) for step in range(11)]
PACK = [dict(type="PackInputs")]
PIPELINES = {
    "read, boxes": (BOXES + PACK, None),
    "read, boxes and masks": (MASKS + PACK, None),
    "1333 x 800, boxes": (BOXES + USUAL + PACK, None),
    "1333 x 800, boxes and masks": (MASKS + USUAL + PACK, None),
    "multi-scale, boxes and masks": (
        [*MASKS, dict(type="RandomChoiceResize", scales=SCALES, keep_ratio=True), dict(type="RandomFlip"), *PACK], None
    ),
    "large-scale jitter 1024, boxes and masks": ([*MASKS, dict(type="LargeScaleJitter"), *PACK], None),
    "mosaic and mixup 640, boxes": (BOXES, [dict(type="Mosaic"), dict(type="MixUp"), *PACK]),
}  # fmt: skip


def seconds(dataset, images: int, rounds: int) -> float:
    """CPU time of a picture, in the fastest round."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for index in range(images):
            dataset[index]
        best = min(best, (time.process_time() - start) / images)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", help="folder with annotations/instances_SPLIT.json and SPLIT")
    parser.add_argument("--split", default="train2017")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    data = dict(
        data_root=args.root,
        ann_file=f"annotations/instances_{args.split}.json",
        data_prefix=dict(img=args.split),
        indices=args.images,
    )
    table = Table("pipeline", "ms", "images/s")
    for name, (inner, outer) in PIPELINES.items():
        dataset = CocoDataset(**data, pipeline=inner)
        mixed = dataset if outer is None else MultiImageMixDataset(dataset, outer)
        cost = seconds(mixed, min(args.images, len(dataset)), args.rounds)
        table.add_row(name, f"{1000 * cost:.1f}", f"{1 / cost:.0f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
