"""Draw a small segmentation set in the layout of PASCAL VOC: 21 classes, no download.

python tools/dataset_converters/make_sample_dataset.py data/sample
"""

import argparse
from collections.abc import Sequence

from visionpatch.apis import cli


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("out", help="folder to write VOCdevkit/VOC2012 into")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--train", type=int, default=1200, help="number of training pictures")
    p.add_argument("--val", type=int, default=100, help="number of validation pictures")
    p.add_argument("--size", type=int, default=96, help="side of a picture in pixels")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from rich.console import Console
    from rich.progress import track

    from visionpatch.datasets.sample_set import CLASSES, make_sample_dataset

    root = make_sample_dataset(
        args.out, args.train, args.val, args.size, args.seed, lambda numbers: track(numbers, description="drawing")
    )
    counts = f"{args.train} training and {args.val} validation pictures, {len(CLASSES)} classes"
    Console(soft_wrap=True).print(f"{root}: {counts}", highlight=False)
    return 0


if __name__ == "__main__":
    cli.run(main)
