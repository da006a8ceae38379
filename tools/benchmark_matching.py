"""Train and test every patch matcher with the same budget, and write the table of the model card.

python tools/benchmark_matching.py work_dirs/matching
python tools/benchmark_matching.py work_dirs/matching --only "md-frn-w8*" two-channel --seeds 0
python tools/benchmark_matching.py work_dirs/long --cfg-options train_cfg.max_iters=5000

Started again it goes on where it was stopped: trainings resume, and what is finished is not repeated. OUT/table.md has
mean and spread of FPR95 over the seeds, of the rows that are finished so far.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from visionpatch.apis import cli

ROOT = Path(__file__).resolve().parents[1]
LEARNED = "_1xb64_rs-lwir-64x64"  # how the names of configs end
UNLEARNED = "_rs-lwir-64x64"
NO_DIM = "use_dim=False"
NETWORKS = ("two-channel", "siamese", "pseudo-siamese", "hardnet", "sosnet", "hynet", "afd-net", "fil-net", "md-frn-w8")
# name: config, overrides
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sift": ("sift" + UNLEARNED, ()),
    "gradient-ncc": ("gradient-ncc" + UNLEARNED, ()),
    **{name: (name + LEARNED, ()) for name in NETWORKS},
    "md-frn-w8-no-dim": ("md-frn-w8" + LEARNED, (NO_DIM,)),
    "md-frn-w8-no-scm": ("md-frn-w8" + LEARNED, (NO_DIM, "use_scm=False")),
    "md-frn-w8-no-msag": ("md-frn-w8" + LEARNED, (NO_DIM, "use_msag=False")),
    "md-frn-w8-plain": ("md-frn-w8" + LEARNED, (NO_DIM, "use_scm=False", "use_msag=False")),
    "md-frn-w8-siamese": ("md-frn-w8" + LEARNED, ("sharing=siamese",)),
    "md-frn-w32": ("md-frn-w32" + LEARNED, ()),
}
SETS = ("roadscene_test", "msrs_test")
VALUES = ("FPR95", "FPR95_R", "FPR95_S", "FPR95_H")


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("out", help="folder of the runs and of table.md")
    p.add_argument("--only", nargs="+", default=["*"], metavar="ROW", help=f"patterns, of {', '.join(ROWS)}")
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the trainings (default: 0 1 2)")
    p.add_argument("--table", action="store_true", help="only write the table of what is there")
    cli.add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from rich.console import Console

    console = Console(soft_wrap=True)
    chosen = [name for name in ROWS if any(fnmatch(name, pattern) for pattern in args.only)]
    cli.need(chosen, f"--only {' '.join(args.only)}: no such row; there are {', '.join(ROWS)}")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    check_options(out / "options.json", args.cfg_options)
    jobs = [(name, seed) for seed in args.seeds for name in chosen if learns(name) or seed == args.seeds[0]]
    for name, seed in [] if args.table else jobs:
        status = run(out / name / f"seed{seed}", name, seed, args.cfg_options)
        if status:
            console.print(
                f"{name}, seed {seed}: stopped with status {status}; the same command goes on", highlight=False
            )
            return status
        (out / "table.md").write_text(table(out))
    (out / "table.md").write_text(table(out))
    console.print(table(out), highlight=False)
    return 0


def check_options(path: Path, options: Sequence[str]) -> None:
    """All runs of a folder have one budget."""
    before = json.loads(path.read_text()) if path.is_file() else sorted(options)
    cli.need(
        before == sorted(options),
        f"{path.parent} holds runs with --cfg-options {' '.join(before) or '(none)'}; give the same, or another folder",
    )
    path.write_text(json.dumps(before))


def learns(name: str) -> bool:
    return ROWS[name][0].endswith(LEARNED)


def run(folder: Path, name: str, seed: int, options: Sequence[str]) -> int:
    """Train one row with one seed, test it on each set, measure its speed; what is there already is left out."""
    config, own = ROWS[name]
    path = str(ROOT / "configs" / "md_frn" / f"{config}.py")
    overrides = [*own, *(o for o in options if learns(name) or o.startswith("test_"))]
    if learns(name) and not (folder / "trained").is_file():
        train = [*overrides, f"randomness.seed={seed}"]
        if status := call("train.py", path, "--resume", "if-any", folder=folder / "train", options=train):
            return status
        (folder / "trained").touch()
    weights = (folder / "train" / "last_checkpoint").read_text().strip() if learns(name) else "none"
    for kind in SETS:
        if not (folder / f"{kind}.json").is_file():
            test = [*overrides, f"test_dataloader.dataset.manifest=data/rs_lwir/{kind}.csv"]
            if status := call("test.py", path, weights, folder=folder / kind, options=test):
                return status
            newest = max((folder / kind).glob("*/*.json"), key=lambda file: file.stat().st_mtime)
            (folder / f"{kind}.json").write_text(newest.read_text())
    if not (folder.parent / "speed.json").is_file():
        (folder.parent / "speed.json").write_text(json.dumps(speed(path, overrides)))
    return 0


def call(tool: str, *arguments: str, folder: Path, options: Sequence[str]) -> int:
    """The exit status of one of the other tools, in a process of its own."""
    command = [sys.executable, str(ROOT / "tools" / tool), *arguments, "--work-dir", str(folder)]
    return subprocess.run([*command, *(["--cfg-options", *options] if options else [])]).returncode


def speed(path: str, options: Sequence[str]) -> dict[str, float]:
    """Parameters, and milliseconds that 1,000 pairs take in batches of 64: median of five after one to warm up.

    On a CPU processor time, which other programs on the machine change less.
    """
    import torch

    from visionpatch.apis import get_config, get_model
    from visionpatch.engine.config import parse_options

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = get_model(get_config(path, parse_options(list(options))), device=device)
    clock = time.perf_counter if device == "cuda" else time.process_time
    inputs = {name: torch.randn(64, 1, 64, 64, device=device) for name in ("visible", "thermal")}
    times = []
    with torch.inference_mode():
        for _ in range(6):
            start = clock()
            model(inputs).sum().item()  # waits for the device
            times.append(clock() - start)
    parameters = sum(p.numel() for p in model.parameters())
    return dict(parameters=parameters, milliseconds=statistics.median(times[1:]) / 64 * 1e6)


def table(out: Path) -> str:
    """The rows with results as Markdown."""
    titles = ["mean of R and S", "R", "S", "H"]
    heads = [f"{kind.removesuffix('_test')}: {titles[0]}" if i == 0 else titles[i] for kind in SETS for i in range(4)]
    lines = ["| row | seeds | parameters | ms / 1,000 pairs | " + " | ".join(heads) + " |", "|---" * 12 + "|"]
    for name in ROWS:
        done = [f for f in sorted((out / name).glob("seed*")) if all((f / f"{kind}.json").is_file() for kind in SETS)]
        if not done or not (out / name / "speed.json").is_file():
            continue
        speeds = json.loads((out / name / "speed.json").read_text())
        cells = [f"{speeds['parameters']:,}", f"{speeds['milliseconds']:,.0f}"]
        for kind in SETS:
            found = [json.loads((folder / f"{kind}.json").read_text()) for folder in done]
            cells += [spread([metrics[value] for metrics in found]) for value in VALUES]
        lines.append(f"| {name} | {len(done)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation where there are several values."""
    text = f"{statistics.mean(values):.1f}"
    return text if len(values) < 2 else f"{text} ± {statistics.stdev(values):.1f}"


if __name__ == "__main__":
    cli.run(main)
