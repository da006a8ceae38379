"""Turn a picture into codes and back, draw a box of it anew, or draw new pictures.

python demo/tokenizer_demo.py photo.jpg --config CONFIG --weights CKPT                        its codes, and back
python demo/tokenizer_demo.py photo.jpg --config CONFIG --weights CKPT --box 40 60 120 140    by a MaskedTokenGenerator
python demo/tokenizer_demo.py --generate 16 --config CONFIG --weights CKPT                    by a MaskedTokenGenerator
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionpatch.apis import cli


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("picture", nargs="?", help="a picture, or a folder of pictures")
    p.add_argument("--config", required=True, help="a config file or name, of a tokenizer or a generator")
    p.add_argument("--weights", metavar="CKPT", help="checkpoint of the config's model; without it all is noise")
    p.add_argument("--device", help="cpu, cuda, cuda:1 ...; default: a GPU if there is one")
    p.add_argument("--tile", type=int, metavar="CODES", help="decode large pictures by squares of so many codes a side")
    p.add_argument("--box", nargs=4, type=float, metavar=("X1", "Y1", "X2", "Y2"), help="what to draw anew, in pixels")
    p.add_argument("--generate", type=int, metavar="NUMBER", help="draw so many new pictures")
    p.add_argument("--label", type=int, metavar="INDEX", help="of the class of what is drawn; default: none is told")
    p.add_argument("--steps", type=int, help="in which the codes are drawn (default: the model's)")
    p.add_argument("--guidance", type=float, help="above 1 follows the class more closely (default: the model's)")
    p.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    p.add_argument("--out-dir", default="outputs", metavar="DIR", help="folder of the pictures (default: outputs)")
    cli.add_trust_flag(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    draws = args.generate is not None
    cli.need(draws != bool(args.picture), "give either a picture or --generate NUMBER")
    cli.need(not draws or args.generate > 0, f"--generate {args.generate}; expected 1 or more")
    cli.need(not (args.box and draws), "--box goes with a picture")
    options = [name for name in ("label", "steps", "guidance") if getattr(args, name) is not None]
    cli.need(draws or args.box or not options, f"--{' --'.join(options)}: goes with --box or --generate")
    cli.need(args.tile is None or not (draws or args.box), "--tile goes with a picture alone")
    pictures, skipped = ([], []) if draws else cli.find_pictures(Path(args.picture))
    import cv2
    from rich.console import Console

    from visionpatch.apis import TokenizerInferencer

    console = Console(soft_wrap=True)
    with cli.trusting(args):
        model = TokenizerInferencer(args.config, args.weights, args.device)
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    found = [generated(model, args)] if draws else (predicted(model, path, args) for path in pictures)
    for name, picture, text in found:
        cv2.imwrite(str(out_dir / name), picture)
        console.print(f"{text}; wrote {out_dir / name}", markup=False, highlight=False)
    for reason in skipped:
        console.print(f"skipped {reason}", markup=False, highlight=False)
    return 0


def generated(model: Any, args: argparse.Namespace) -> tuple[str, Any, str]:
    """File name, picture and line of the grid."""
    from visionpatch.visualization import draw_grid

    drawn = model.generate(args.generate, args.label, args.seed, args.steps, args.guidance)
    return f"generated_{args.seed}.png", draw_grid(drawn), f"{args.generate} picture(s), seed {args.seed}"


def predicted(model: Any, path: Path, args: argparse.Namespace) -> tuple[str, Any, str]:
    """File name, picture and line of one picture."""
    from visionpatch.evaluation.image_quality import psnr
    from visionpatch.visualization import draw_inpainting, draw_reconstruction

    if args.box:
        sample = model.inpaint(path, args.box, args.label, args.seed, args.steps, args.guidance)
        cut = " ".join(map(str, sample.cut))
        return f"{path.stem}_inpainted.png", draw_inpainting(sample), f"{path.name}: the part {cut} with the box anew"
    sample = model.reconstruct(path, args.tile)
    pred, gt = (image.round().cpu().numpy() for image in (sample.pred_image, sample.gt_image))
    height, width, channels = sample.pred_codes.shape
    used = len(sample.pred_codes.unique())
    text = f"{path.name}: {height} x {width} x {channels} codes, {used} different ones; PSNR {psnr(pred, gt):.2f} dB"
    return f"{path.stem}_reconstructed.png", draw_reconstruction(sample), text


if __name__ == "__main__":
    cli.run(main)
