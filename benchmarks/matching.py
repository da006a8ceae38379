"""Dense matching against scoring windows one by one.

    OMP_NUM_THREADS=1 python benchmarks/matching.py           # some minutes
    python benchmarks/matching.py --rows md-frn-w8 --size 320 256

`MatchingInferencer` searches the points of a grid over a drawn scene (without the search back). One by one, each pair
of patches is cut, normalised and scored by itself; that is timed on a sample of the pairs, whose scores must agree to
1e-4 of the largest.

Prints, with wall clock / processor seconds:
windows     different patches of both pictures, which are encoded, and pairs of them, which are scored
one by one  the time of all pairs, from that of the sample
dense       the time of all pairs together
ratio       one by one / dense
difference  the largest between the scores of both, as a share of the largest score
Weights are random: they do not change the time.
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy import ndarray
from rich import box
from rich.console import Console
from rich.table import Table

from visionpatch.apis import MatchingInferencer, get_config
from visionpatch.apis.matching import inside, search_grid
from visionpatch.datasets.synthetic_pairs import draw_scene

CONFIG = "_1xb64_rs-lwir-64x64"
ROWS = {  # name: config, input_norm
    "md-frn-w8": ("md-frn-w8", "standardize"),
    "hardnet": ("hardnet", "standardize"),
    "siamese": ("siamese", "standardize"),
    "siamese, whole pictures": ("siamese", "unit"),
    "two-channel": ("two-channel", "standardize"),
}
BAR = 1e-4


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    p.add_argument("--size", nargs=2, type=int, default=(160, 128), help="of the scene (default: 160 128)")
    p.add_argument("--spacing", type=int, default=12, help="of the points (default: 12)")
    p.add_argument("--radius", type=int, default=24, help="of the search windows (default: 24)")
    p.add_argument("--step", type=int, default=4, help="of the places (default: 4)")
    p.add_argument("--sample", type=int, default=50, help="pairs that are scored one by one (default: 50)")
    p.add_argument("--device", default="cpu")
    args = p.parse_args(argv)
    table = Table("row", "windows", "pairs", "one by one", "dense", "ratio", "difference", box=box.ASCII)
    table.title = f"{args.size[0]} x {args.size[1]}, {torch.get_num_threads()} threads on {args.device}"
    for name in args.rows:
        table.add_row(name, *measured(*ROWS[name], args))
    Console().print(table)


def measured(config: str, norm: str, args: argparse.Namespace) -> list[str]:
    """The cells of a row."""
    torch.manual_seed(0)
    options = {"model.data_preprocessor.input_norm": norm}
    matcher = MatchingInferencer(get_config(config + CONFIG, options), device=args.device)
    visible, thermal = draw_scene(1, tuple(args.size))
    half = matcher.size // 2
    axes = [np.arange(half, side - half + 1, args.spacing) for side in args.size]
    points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    places = points[:, None] + search_grid(args.radius, args.step)  # (n, m, 2)
    matcher.match(visible, thermal, points[:1], radius=0)  # warms up
    start = now(args.device)
    found = matcher.match(visible, thermal, points, radius=args.radius, step=args.step)
    dense = since(start, args.device)
    valid = np.argwhere(inside(places, thermal.shape, half))
    sample = valid[np.random.default_rng(0).permutation(len(valid))[: args.sample]]
    expected = found.maps.reshape(len(points), -1)[tuple(sample.T)]
    start = now(args.device)
    single = [one(matcher, visible, thermal, points[i], places[i, j]) for i, j in sample]
    share = len(valid) / len(sample)
    slow = [share * seconds for seconds in since(start, args.device)]
    difference = float(abs(np.array(single) - expected).max() / abs(expected).max())
    if expected.std() < 1e-3 * abs(expected).max():
        raise SystemExit(f"{config}, {norm}: all scores are nearly equal, so that equality says nothing")
    if difference > BAR:
        raise SystemExit(f"{config}, {norm}: scores differ by {difference:.1e} of the largest, more than {BAR:.0e}")
    windows = len(points) + len(np.unique(places[tuple(valid.T)], axis=0))
    ratio = " / ".join(f"{a / b:.1f}" for a, b in zip(slow, dense))
    return [str(windows), str(len(valid)), shown(slow), shown(dense), ratio, f"{difference:.0e}"]


@torch.inference_mode()
def one(matcher: MatchingInferencer, visible: ndarray, thermal: ndarray, point: ndarray, place: ndarray) -> float:
    """The score of one pair of patches."""
    half = matcher.size // 2
    cut = [image[y - half : y + half, x - half : x + half] for image, (x, y) in ((visible, point), (thermal, place))]
    patches = [matcher.prepare.normalise([torch.from_numpy(x)[None].to(matcher.prepare.device)]) for x in cut]
    return matcher.model(dict(visible=patches[0], thermal=patches[1])).item()


def now(device: str) -> tuple[float, float]:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float], device: str) -> list[float]:
    """Wall and processor seconds."""
    return [end - begin for begin, end in zip(start, now(device))]


def shown(seconds: Sequence[float]) -> str:
    return " / ".join(f"{value:.1f}" for value in seconds)


if __name__ == "__main__":
    main()
