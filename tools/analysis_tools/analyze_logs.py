"""Plot the curves of one or more runs and print their best values.

python tools/analysis_tools/analyze_logs.py work_dirs/a work_dirs/b --keys loss mIoU --out curves.png
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from visionpatch.apis import cli

Curves = dict[str, list[tuple[float, float]]]  # key -> (step, value)
NOT_CURVES = {"step", "iter", "epoch", "memory"}


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("logs", nargs="+", help="work directories, or scalars.json files")
    p.add_argument("--keys", nargs="+", default=["loss", "mIoU"], help="what to plot (default: loss mIoU)")
    p.add_argument("--legend", nargs="+", help="a name for each log (default: the names of their folders)")
    p.add_argument("--title", default="", help="of the picture")
    p.add_argument("--out", metavar="FILE", help="the picture: .png, .pdf or .svg; without it nothing is plotted")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    names = args.legend or [
        Path(log).stem if Path(log).is_dir() else Path(log).resolve().parts[-4] for log in args.logs
    ]
    cli.need(len(names) == len(args.logs), f"--legend names {len(names)} logs, expected {len(args.logs)}")
    runs = {name: read_curves(Path(log)) for name, log in zip(names, args.logs, strict=True)}
    known = {key for curves in runs.values() for key in curves}
    print_best(runs)
    if args.out:
        from visionpatch.errors import nearest

        keys = [key for key in args.keys if key in known]
        cli.need(keys, f"--keys {' '.join(args.keys)}: not in the logs{nearest(args.keys[0], known)}")
        plot(runs, keys, args.title, Path(args.out))
    return 0


def read_curves(path: Path) -> Curves:
    """The curves of a scalars.json, or of all runs in a work directory, later runs replacing earlier steps."""
    files = sorted(path.glob("*/vis_data/scalars.json")) if path.is_dir() else [path]
    cli.need(
        files and all(file.is_file() for file in files),
        f"{path}: no scalars.json in it; expected a work directory of tools/train.py or such a file",
    )
    curves: dict[str, dict[float, float]] = {}
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            entry = _entry(file, number, line)
            for key in entry.keys() - NOT_CURVES:
                if isinstance(entry[key], int | float) and not (
                    key == "time" and "lr" not in entry
                ):  # of training only
                    curves.setdefault(key, {})[entry.get("step", number)] = float(entry[key])
    return {key: sorted(curves[key].items()) for key in sorted(curves)}


def print_best(runs: Mapping[str, Curves]) -> None:
    """A table of the last and the best value of every curve: the lowest of losses and times, the highest of others."""
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "curve", "points", "last", "best", "at step")
    for name, curves in runs.items():
        for key, points in curves.items():
            if key in ("lr", "base_lr", "data_time"):
                continue
            lowest = "loss" in key or key == "time"
            step, best = (min if lowest else max)(points, key=lambda point: point[1])
            table.add_row(name, key, str(len(points)), f"{points[-1][1]:.4g}", f"{best:.4g}", f"{step:g}")
    Console().print(table)


def plot(runs: Mapping[str, Curves], keys: Sequence[str], title: str, out: Path) -> None:
    """One panel for each key, one line for each run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(keys), figsize=(6 * len(keys), 4), squeeze=False, layout="constrained")
    for axis, key in zip(axes[0], keys, strict=True):
        for name, curves in runs.items():
            if key in curves:
                marker = "o" if len(curves[key]) < 30 else None
                axis.plot(*zip(*curves[key], strict=True), label=name, marker=marker, markersize=3, linewidth=1.2)
        axis.set(xlabel="step", ylabel=key)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.suptitle(title or None)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    plt.close(figure)
    print(f"wrote {out}")


def _entry(file: Path, number: int, line: str) -> dict:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        cli.need(False, f"{file}, line {number}: not a line of a scalars.json: {line[:60]}")
        return {}


if __name__ == "__main__":
    cli.run(main)
