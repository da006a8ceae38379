"""Find points of a visible picture in the thermal one of the same scene, or match a whole grid of them.

python demo/matching_demo.py visible.jpg thermal.png --point 120 80 --point 200 90 --config CONFIG --weights CKPT
python demo/matching_demo.py visible.jpg thermal.png --grid 16 --config CONFIG --weights CKPT
python demo/matching_demo.py visible.jpg thermal.png --grid 16 --shift 6 -4     how many are found when thermal is moved
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionpatch.apis import cli

DEFAULT = "gradient-ncc_rs-lwir-64x64"  # needs no training


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("visible", help="picture with the points; of 8 or 16 bits")
    p.add_argument("thermal", help="picture to search in")
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--point", nargs=2, type=int, action="append", metavar=("X", "Y"), help="may be given often")
    what.add_argument("--grid", type=int, metavar="PIXELS", help="match points that lie so far apart")
    p.add_argument("--config", default=DEFAULT, help="a config file or name; default: gradients, which need no weights")
    p.add_argument("--weights", metavar="CKPT", help="checkpoint of the config's model")
    p.add_argument("--device", help="cpu, cuda, cuda:1 ...; default: a GPU if there is one")
    p.add_argument("--radius", type=int, help="of the search window (default: 32, with --grid 16)")
    p.add_argument("--step", type=int, help="between the places of a search window (default: 2, with --grid 4)")
    p.add_argument(
        "--shift",
        nargs=2,
        type=int,
        metavar=("DX", "DY"),
        help="with --grid: move the thermal picture of an aligned pair",
    )
    p.add_argument(
        "--tolerance", type=float, default=4.0, help="pixels, of the search back and of --shift (default: 4)"
    )
    p.add_argument(
        "--share",
        action="store_true",
        help="encode whole pictures, also where that gives near scores and not equal ones",
    )
    p.add_argument("--out-dir", default="outputs", metavar="DIR", help="folder of the pictures (default: outputs)")
    cli.add_trust_flag(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    cli.need(args.grid or not args.shift, "--shift goes with --grid")
    cli.need(args.grid is None or args.grid > 0, f"--grid {args.grid}; expected 1 or more")
    from rich.console import Console

    from visionpatch.apis import MatchingInferencer

    with cli.trusting(args):
        matcher = MatchingInferencer(args.config, args.weights, args.device)
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    search: dict[str, Any] = {k: getattr(args, k) for k in ("radius", "step") if getattr(args, k) is not None}
    search["share"] = True if args.share else None
    for line in (match_grid if args.grid else match_points)(matcher, args, out_dir, search):
        Console(soft_wrap=True).print(line, highlight=False)
    return 0


def match_points(matcher: Any, args: argparse.Namespace, out_dir: Path, search: dict[str, Any]) -> list[str]:
    """Draw each point with its score map; a line for each."""
    import cv2

    found = matcher.match(args.visible, args.thermal, args.point, **search)
    lines = []
    for index, (point, place) in enumerate(zip(found.points.tolist(), found.places.tolist())):
        name = out_dir / f"{Path(args.visible).stem}_{point[0]}_{point[1]}.png"
        cv2.imwrite(str(name), found.draw(index))
        numbers = f"score {found.scores[index]:.3f}, confidence {found.confidence[index]:.2f}"
        lines.append(f"{point[0]}, {point[1]} -> {place[0]}, {place[1]}: {numbers}; wrote {name}")
    return lines


def match_grid(matcher: Any, args: argparse.Namespace, out_dir: Path, search: dict[str, Any]) -> list[str]:
    """Draw the matches of a grid; their number, and the inlier rate under a known shift."""
    import cv2

    from visionpatch.apis.matching import moved_by, read_picture

    thermal = read_picture(args.thermal)
    thermal = moved_by(thermal, args.shift) if args.shift else thermal
    found = matcher.match_grid(args.visible, thermal, spacing=args.grid, tolerance=args.tolerance, **search)
    name = out_dir / f"{Path(args.visible).stem}_matches.png"
    cv2.imwrite(str(name), found.draw())
    lines = [
        f"{found.kept.sum()} of {len(found.kept)} points are found back by a search in both directions; wrote {name}"
    ]
    if args.shift:
        rates = [found.inlier_rate(args.shift, args.tolerance, checked) for checked in (True, False)]
        where = f"within {args.tolerance:g} pixels of the true place"
        lines.append(f"{where}: {100 * rates[0]:.1f} % of those, {100 * rates[1]:.1f} % of all")
    return lines


if __name__ == "__main__":
    cli.run(main)
