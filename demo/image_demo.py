"""Predict a picture, or all pictures of a folder, and write them with the classes or the objects drawn over them.

python demo/image_demo.py photo.jpg CONFIG_OR_NAME --weights work_dirs/NAME/best.pth --out-dir pictures
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from visionpatch.apis import cli


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("image", help="a picture, or a folder of pictures")
    p.add_argument("config", help="a config file, or a name that visionpatch.apis.list_models() gives")
    p.add_argument("--weights", metavar="CKPT", help="checkpoint; without it the model is untrained")
    p.add_argument("--device", help="cpu, cuda, cuda:1 ...; default: a GPU if there is one")
    p.add_argument("--out-dir", default="outputs", metavar="DIR", help="folder of the pictures (default: outputs)")
    p.add_argument("--opacity", type=float, default=0.5, help="of the colours, 0 to 1 (default: 0.5)")
    p.add_argument("--score-thr", type=float, default=0.3, help="objects from this score on are drawn (default: 0.3)")
    cli.add_trust_flag(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    pictures, skipped = cli.find_pictures(Path(args.image))
    import cv2
    from rich.console import Console
    from rich.progress import track

    from visionpatch.apis import build_inferencer
    from visionpatch.errors import BadSampleError

    with cli.trusting(args):
        inferencer = build_inferencer(args.config, args.weights, args.device)
    inferencer.score_thr = args.score_thr
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    console, written = Console(soft_wrap=True), 0
    for path in track(pictures, description="predicting", console=console):
        try:
            sample = inferencer(path)[0]
        except BadSampleError as error:
            if len(pictures) == 1:
                raise
            skipped.append(cli.one_line(error))
            continue
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        cv2.imwrite(str(out_dir / f"{path.stem}.png"), inferencer.draw(image, sample, args.opacity))
        written += 1
    for reason in skipped:
        console.print(f"skipped {reason}", markup=False, highlight=False)
    console.print(f"wrote {written} picture(s) to {out_dir}/", highlight=False)
    return 0


if __name__ == "__main__":
    cli.run(main)
