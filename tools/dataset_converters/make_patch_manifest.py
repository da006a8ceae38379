"""Cut patch pairs out of aligned visible and thermal pictures: protocol RS-LWIR, written down once as manifests.

python tools/dataset_converters/make_patch_manifest.py data/lwir_visible data/rs_lwir --splits splits
python tools/dataset_converters/make_patch_manifest.py data/mine data/mine/manifests
python tools/dataset_converters/make_patch_manifest.py data/drawn data/drawn/manifests --synthetic 40

Pairs lie in SCENE/vis/NAME and SCENE/ir/NAME, or in vis/NAME and ir/NAME. Without --splits whole groups of neighbouring
frames are drawn for testing. The same command gives the same files.
"""

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from visionpatch.apis import cli
from visionpatch.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from visionpatch.datasets.pair_folder import PairFolder

Splits = dict[str, tuple[str, list[str]]]  # name: ("train" or "test", images)


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("root", help="folder of the pictures")
    p.add_argument("out", help="folder to write the manifests into")
    p.add_argument(
        "--splits",
        nargs="+",
        help="text files with one SCENE/NAME a line, or a folder of them, also below root; those called *train.txt "
        "give a training and a validation manifest, all others one for testing",
    )
    p.add_argument("--test-only", nargs="*", default=[], help="scenes kept out of training, one test manifest each")
    p.add_argument("--test-share", type=float, default=0.25, help="of the images, without --splits (default: 0.25)")
    p.add_argument("--val-share", type=float, default=0.1, help="of the training groups (default: 0.1)")
    p.add_argument("--gap", type=int, default=60, help="a larger jump of frame numbers begins a group (default: 60)")
    p.add_argument(
        "--one-group", nargs="*", default=["FLIR_video_"], help="beginnings of names that are one group each"
    )
    p.add_argument("--max-patches", type=int, default=48, help="of one picture (default: 48)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--synthetic", type=int, default=0, help="draw so many scenes into root/synthetic first")
    p.add_argument("--thermal-bits", type=int, choices=(8, 16), default=8, help="of drawn scenes")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from rich.console import Console
    from rich.progress import track

    from visionpatch.datasets.pair_folder import PairFolder
    from visionpatch.datasets.patch_protocol import make_manifests
    from visionpatch.datasets.synthetic_pairs import make_synthetic_pairs

    for name, value in (("--test-share", args.test_share), ("--val-share", args.val_share)):
        if not 0 <= value < 1:
            raise ConfigError(f"{name} is a share in 0..1, below 1, not {value}")
    if args.max_patches < 2 or args.gap < 0 or args.seed < 0:
        raise ConfigError("--max-patches is 2 or more, --gap and --seed 0 or more")
    if args.synthetic:
        make_synthetic_pairs(args.root, args.synthetic, thermal_bits=args.thermal_bits, seed=args.seed)
    folder = PairFolder(args.root)
    splits = splits_given(args, folder) if args.splits else splits_by_time(args, folder)
    warn_of_shared_groups(splits, args)
    made = make_manifests(
        splits, args.root, args.out, args.max_patches, args.seed, lambda images: track(images, description="corners")
    )
    console = Console(soft_wrap=True)
    for name, pairs in made.items():
        counts = {kind: sum(pair.set == kind for pair in pairs) for kind in dict.fromkeys(pair.set for pair in pairs)}
        text = ", ".join(f"{kind} {number}" for kind, number in counts.items())
        images = len({pair.image for pair in pairs})
        console.print(f"{os.path.join(args.out, name)}.csv: {images} images, pairs: {text}", highlight=False)
    return 0


def splits_by_time(args: argparse.Namespace, folder: "PairFolder") -> Splits:
    """Whole groups go to testing until `test_share` of the images are there, one in ten of the others to validation."""
    from visionpatch.datasets.patch_protocol import take_groups, time_groups

    scenes = folder.scenes()
    for name in args.test_only:
        if name not in scenes:
            raise ConfigError(f"--test-only: {args.root} has no scene {name}{nearest(name, scenes)}")
    images = [image for scene in scenes if scene not in args.test_only for image in folder.images(scene)]
    if not images:
        raise ConfigError("--test-only names every scene; nothing is left to train on")
    chosen, rest = take_groups(
        time_groups(images, args.gap, args.one_group), round(args.test_share * len(images)), args.seed
    )
    splits = with_validation("train", "val", [image for group in rest for image in group], args)
    if chosen:
        splits["test"] = "test", sorted(image for group in chosen for image in group)
    splits |= {f"{name or 'pairs'}_test": ("test", folder.images(name)) for name in args.test_only}
    return splits


def splits_given(args: argparse.Namespace, folder: "PairFolder") -> Splits:
    """The lists of --splits; validation is taken from those called train."""
    splits: Splits = {}
    for path in list_files(args.splits, folder.root):
        name = os.path.splitext(os.path.basename(path))[0]
        with open(path, encoding="utf-8-sig") as file:
            images = [line.strip() for line in file if line.strip()]
        if not images:
            raise DataError(f"{path}: the list names no image")
        if name.endswith("train"):
            splits |= with_validation(name, f"{name[:-5]}val", images, args)
        else:
            splits[name] = "test", images
    return splits


def list_files(given: Sequence[str], root: str) -> list[str]:
    """The files named, and those in the folders named, as they are or below `root`."""
    files: list[str] = []
    for name in given:
        path = name if os.path.exists(name) else os.path.join(root, name)
        if os.path.isdir(path):
            files += sorted(os.path.join(path, entry) for entry in os.listdir(path) if entry.endswith(".txt"))
        elif os.path.isfile(path):
            files.append(path)
        else:
            raise DataError(f"--splits: neither {name} nor {path} exists")
    if not files:
        raise DataError(f"--splits: no .txt file in {' '.join(given)}")
    return files


def with_validation(train: str, val: str, images: Sequence[str], args: argparse.Namespace) -> Splits:
    from visionpatch.datasets.patch_protocol import time_groups, validation_groups

    held, rest = validation_groups(time_groups(images, args.gap, args.one_group), args.val_share, args.seed)
    return {train: ("train", rest)} | ({val: ("test", held)} if held else {})


def warn_of_shared_groups(splits: Splits, args: argparse.Namespace) -> None:
    """Say so when frames of one group are in two splits: neighbours are nearly the same picture."""
    from rich.console import Console

    from visionpatch.datasets.patch_protocol import time_groups

    where = {image: name for name, (_, images) in splits.items() for image in images}
    for group in time_groups(where, args.gap, args.one_group):
        names = sorted({where[image] for image in group})
        if len(names) > 1:
            Console(stderr=True, soft_wrap=True).print(
                f"warning: frames {group[0]} ... {group[-1]} are one group, and in {' and '.join(names)}",
                highlight=False,
            )


if __name__ == "__main__":
    cli.run(main)
