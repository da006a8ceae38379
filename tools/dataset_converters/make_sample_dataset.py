"""Draw a small segmentation set in the layout of PASCAL VOC: 21 classes, no download.

python tools/dataset_converters/make_sample_dataset.py data/sample
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.progress import track

from visionpatch.datasets.sample_set import CLASSES, make_sample_dataset


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="draw a sample set in the layout of PASCAL VOC")
    parser.add_argument("out", help="folder to write VOCdevkit/VOC2012 into")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=240, help="number of training pictures")
    parser.add_argument("--val", type=int, default=60, help="number of validation pictures")
    parser.add_argument("--size", type=int, default=128, help="side of a picture in pixels")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    console = Console()
    try:
        root = make_sample_dataset(
            args.out,
            train=args.train,
            val=args.val,
            size=args.size,
            seed=args.seed,
            progress=lambda numbers: track(numbers, description="drawing"),
        )
    except (OSError, ValueError) as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        return 1
    console.print(f"{root}: {args.train} training and {args.val} validation pictures, {len(CLASSES)} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
