"""Look through the datasets of a config before training: what is in them, and every file that would stop a run.

    python tools/check_dataset.py configs/.../experiment.py [--split train]

The exit status is 1 when anything is wrong.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from visionpatch.datasets.checking import Report, check_dataset, find_overlap, loading_steps
from visionpatch.errors import VisionpatchError
from visionpatch.registry import DATASETS

SPLITS = ("train", "val", "test")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="check the datasets of a config")
    parser.add_argument("config", help="config file")
    parser.add_argument("--split", choices=SPLITS, help="check this one only; default: train and val")
    parser.add_argument("--max-cases", type=int, default=10, help="cases shown of each kind of fault")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    console = Console()
    try:
        cfg = Config.fromfile(args.config)
    except Exception as error:  # a config is a program: anything may come out of it
        console.print(f"[red]error:[/red] {escape(args.config)}: {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1
    init_default_scope(cfg.get("default_scope", "visionpatch"))
    wanted = [args.split] if args.split else [s for s in SPLITS[:2] if cfg.get(f"{s}_dataloader")]
    reports: dict[str, Report] = {}
    faults: list[str] = [] if wanted else [f"{args.config}: neither train_dataloader nor val_dataloader"]
    for split in wanted:
        try:
            reports[split] = check_split(cfg, split)
        except VisionpatchError as error:
            faults.append(f"{split}_dataloader.dataset: {error}")
    if "train" in reports and "val" in reports:
        reports["val"].problems["also in train"] = find_overlap(reports["val"], reports["train"])
    faults += class_faults(cfg, reports)
    for split, report in reports.items():
        print_report(console, split, report, args.max_cases)
    for fault in faults:
        console.print(f"[red]error:[/red] {escape(fault)}", highlight=False, soft_wrap=True)
    good = not faults and all(report.ok for report in reports.values())
    console.print("[green]nothing wrong[/green]" if good else "[red]not usable as it is[/red]")
    return 0 if good else 1


def check_split(cfg: Config, split: str) -> Report:
    """Build the dataset of a split without its augmentation and read it through."""
    loader = cfg.get(f"{split}_dataloader")
    if not loader or "dataset" not in loader:
        raise VisionpatchError(f"the config has no {split}_dataloader.dataset")
    dataset = loader["dataset"]
    while "type" in dataset and isinstance(dataset.get("dataset"), dict):  # a wrapper, such as RepeatDataset
        dataset = dataset["dataset"]
    steps = loading_steps(dataset.get("pipeline") or ())
    try:
        built = DATASETS.build({**dataset, "pipeline": []} if "pipeline" in dataset else dataset)
    except (TypeError, KeyError) as error:
        raise VisionpatchError(str(error).strip("'\"")) from error
    return check_dataset(built, steps, lambda indices: track(indices, description=f"{split:5}", total=len(built)))


def class_faults(cfg: Config, reports: dict[str, Report]) -> list[str]:
    """Disagreements about the classes: between the splits, and with the heads of the model."""
    faults = []
    if "train" in reports and "val" in reports and reports["train"].classes != reports["val"].classes:
        a, b = reports["train"].classes, reports["val"].classes
        pairs = [f"{i}: {x} / {y}" for i, (x, y) in enumerate(zip(a, b)) if x != y] or [f"{len(a)} / {len(b)} classes"]
        faults.append(f"train and val have different classes: {', '.join(pairs[:5])}")
    for split, report in reports.items():
        for path, number in head_sizes(cfg.get("model") or {}, "model"):
            if number != len(report.classes):
                faults.append(f"{path} = {number}, but the {split} dataset has {len(report.classes)} classes")
    return faults


def head_sizes(node: Any, path: str) -> list[tuple[str, int]]:
    """Every (config path, value) of ``num_classes`` below `node`."""
    if isinstance(node, dict):
        own = [(f"{path}.num_classes", node["num_classes"])] if isinstance(node.get("num_classes"), int) else []
        return own + [found for key, value in node.items() for found in head_sizes(value, f"{path}.{key}")]
    if isinstance(node, list | tuple):
        return [found for i, value in enumerate(node) for found in head_sizes(value, f"{path}[{i}]")]
    return []


def print_report(console: Console, split: str, report: Report, max_cases: int) -> None:
    labelled = int(report.pixels.sum())
    table = Table("class", "name", "pictures", title=f"{split}: {report.samples} samples")
    if labelled:
        table.add_column("pixels", justify="right")
    for index, name in enumerate(report.classes):
        style = "yellow" if not report.images[index] else None
        share = [f"{report.pixels[index] / labelled:.2%}"] if labelled else []
        table.add_row(str(index), escape(name), str(report.images[index]), *share, style=style)
    console.print(table)
    if labelled:
        console.print(f"ignored: {report.ignored_pixels / (labelled + report.ignored_pixels):.2%} of the pixels")
    empty = [name for name, count in zip(report.classes, report.images) if not count]
    if empty:
        console.print(f"[yellow]no picture shows: {escape(', '.join(empty))}[/yellow]", highlight=False)
    for kind, cases in report.problems.items():
        if cases:
            console.print(f"[red]{kind}: {len(cases)}[/red]", highlight=False)
            for case in cases[:max_cases]:
                console.print(f"  {escape(case)}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
