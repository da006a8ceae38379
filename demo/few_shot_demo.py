"""Find the class that a few annotated pictures show in other pictures, and draw it over them.

python demo/few_shot_demo.py photo.jpg --support FOLDER                     with FOLDER/images and FOLDER/masks
python demo/few_shot_demo.py photo.jpg --image dog.jpg --box 40 60 300 280  or --polygon x y x y x y, or --mask dog.png
python demo/few_shot_demo.py photos --support-file dog.safetensors          what --save-support wrote before
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionpatch.apis import cli


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("query", help="a picture, or a folder of pictures")
    given = p.add_mutually_exclusive_group(required=True)
    given.add_argument("--support", metavar="DIR", help="folder with images/ and masks/, PNGs of the same stems")
    given.add_argument("--image", help="a single annotated picture; its class is given by the next three")
    given.add_argument("--support-file", metavar="FILE", help="a set that --save-support wrote, with the same model")
    p.add_argument("--mask", help="mask of --image, a PNG of its size")
    p.add_argument("--box", nargs=4, type=float, action="append", default=[], metavar=("X1", "Y1", "X2", "Y2"))
    p.add_argument("--polygon", nargs="+", type=float, action="append", default=[], metavar="X Y")
    p.add_argument("--mask-value", type=int, help="value of the class in masks that hold several")
    p.add_argument("--class-name", default="class", help="for the legend (default: class)")
    p.add_argument("--config", help="a config file or name; default: prototypes, which need no weights")
    p.add_argument("--weights", metavar="CKPT", help="checkpoint of the config's model")
    p.add_argument("--device", help="cpu, cuda, cuda:1 ...; default: a GPU if there is one")
    p.add_argument("--save-support", metavar="FILE", help="write the encoded support set, .safetensors")
    p.add_argument("--out-dir", default="outputs", metavar="DIR", help="folder of the pictures (default: outputs)")
    p.add_argument("--opacity", type=float, default=0.5, help="of the colour, 0 to 1 (default: 0.5)")
    cli.add_trust_flag(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    shapes = bool(args.mask) + bool(args.box or args.polygon)
    cli.need(not (shapes and not args.image), "--mask, --box and --polygon go with --image")
    cli.need(not (args.image and shapes != 1), "--image needs either --mask, or --box and --polygon, for its class")
    queries, skipped = cli.find_pictures(Path(args.query))
    import cv2
    from rich.console import Console

    console = Console(soft_wrap=True)
    with cli.trusting(args):
        inferencer = build(args)
    if args.save_support:
        inferencer.save_support(args.save_support)
        console.print(f"wrote the support set to {args.save_support}", highlight=False)
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    for path in queries:
        sample = inferencer(path)[0]
        picture = inferencer.draw(cv2.imread(str(path), cv2.IMREAD_COLOR), sample, args.opacity)
        cv2.imwrite(str(out_dir / f"{path.stem}.png"), picture)
    for reason in skipped:
        console.print(f"skipped {reason}", markup=False, highlight=False)
    console.print(f"wrote {len(queries)} picture(s) to {out_dir}/", highlight=False)
    return 0


def build(args: argparse.Namespace) -> Any:
    """The inferencer with the support set that the flags describe."""
    from visionpatch.apis import FewShotInferencer

    common = dict(weights=args.weights, device=args.device, class_name=args.class_name)
    if args.config:
        common["config"] = args.config
    if args.support_file:
        return FewShotInferencer.from_file(args.support_file, **common)
    images, masks = ([args.image], [args.mask]) if args.image else find_support(Path(args.support))
    if args.image and not args.mask:
        from visionpatch.apis.few_shot import draw_mask
        from visionpatch.datasets.transforms.decode import decode_image, read_bytes

        shape = decode_image(read_bytes(args.image), args.image).shape
        masks = [draw_mask(shape, args.box, args.polygon)]
    return FewShotInferencer(images, masks, mask_value=args.mask_value, **common)


def find_support(folder: Path) -> tuple[list[Path], list[Path]]:
    """The pictures of a support folder and the mask of each."""
    there = all((folder / name).is_dir() for name in ("images", "masks"))
    cli.need(there, f"{folder}: no folders images and masks in it")
    images, _ = cli.find_pictures(folder / "images")
    masks = [folder / "masks" / f"{path.stem}.png" for path in images]
    missing = [str(path) for path in masks if not path.is_file()]
    cli.need(not missing, f"{folder}: no mask {', '.join(missing[:3])}; every picture needs one")
    return images, masks


if __name__ == "__main__":
    cli.run(main)
