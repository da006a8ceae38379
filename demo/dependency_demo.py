"""Draw what depends on what in a picture, or in all pictures of a folder: the tree of a DependencyViT, parts cut from
it, and saliency.

python demo/dependency_demo.py photo.jpg CONFIG_OR_NAME --weights work_dirs/NAME/best.pth --parts 6 --out-dir pictures
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from visionpatch.apis import cli


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("image", help="a picture, or a folder of pictures")
    p.add_argument("config", help="a config file or a name, of a model whose backbone is a DependencyViT")
    p.add_argument("--weights", metavar="CKPT", help="checkpoint; without it the model is untrained")
    p.add_argument("--device", help="cpu, cuda, cuda:1 ...; default: a GPU if there is one")
    p.add_argument("--out-dir", default="outputs", metavar="DIR", help="folder of the pictures (default: outputs)")
    p.add_argument("--parts", type=int, default=5, help="number of parts (default: 5)")
    p.add_argument(
        "--saliency",
        choices=["message", "received"],
        default="message",
        help="what stands out: tokens that still send late in the network, or that receive much (default: message)",
    )
    p.add_argument("--opacity", type=float, default=0.5, help="of the colours, 0 to 1 (default: 0.5)")
    cli.add_trust_flag(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    cli.need(args.parts >= 1, f"--parts {args.parts}; expected 1 or more")
    pictures, skipped = cli.find_pictures(Path(args.image))
    import cv2
    from rich.console import Console

    from visionpatch.apis import DependencyInferencer

    with cli.trusting(args):
        inferencer = DependencyInferencer(args.config, args.weights, args.device)
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True)
    for path in pictures:
        found = inferencer.analyse(path, args.saliency)
        cv2.imwrite(str(out_dir / f"{path.stem}.png"), found.draw(args.parts, args.opacity))
        tree = found.tree
        row, column = divmod(tree.root, found.grid[1])
        console.print(f"{path.name}: root at row {row}, column {column}; depth {tree.depth.max()}", highlight=False)
    for reason in skipped:
        console.print(f"skipped {reason}", markup=False, highlight=False)
    console.print(f"wrote {len(pictures)} picture(s) to {out_dir}/", highlight=False)
    return 0


if __name__ == "__main__":
    cli.run(main)
