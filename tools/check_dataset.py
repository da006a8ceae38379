"""Look through the datasets of a config before training: what is in them, and every file that would stop a run.

    python tools/check_dataset.py configs/.../experiment.py [--split train]

The exit status is 1 when anything is wrong.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from visionpatch.apis import cli
from visionpatch.errors import ConfigError, VisionpatchError

if TYPE_CHECKING:
    from mmengine.config import Config
    from rich.console import Console

    from visionpatch.datasets.checking import Report

SPLITS = ("train", "val", "test")


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("config", help="config file")
    p.add_argument("--split", choices=SPLITS, help="check this one only; default: train and val")
    p.add_argument("--max-cases", type=int, default=10, help="cases shown of each kind of fault (default: 10)")
    cli.add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from mmengine.registry import init_default_scope
    from rich.console import Console

    cfg = cli.config_of(args)
    init_default_scope(cfg.default_scope)
    wanted = [args.split] if args.split else [s for s in SPLITS[:2] if cfg.get(f"{s}_dataloader")]
    cli.need(wanted, f"{args.config}: neither train_dataloader nor val_dataloader")
    reports: dict[str, Report] = {}
    faults: list[str] = []
    for split in wanted:
        try:
            reports[split] = check_split(cfg, split)
        except VisionpatchError as error:
            faults.append(f"{split}_dataloader.dataset: {error}")
    return 0 if print_all(Console(soft_wrap=True), cfg, reports, faults, args.max_cases) else 1


def print_all(
    console: "Console", cfg: "Config", reports: dict[str, "Report"], faults: list[str], max_cases: int
) -> bool:
    """Print a table a split and every fault; whether there was none."""
    from rich.markup import escape

    from visionpatch.datasets.checking import find_overlap

    if "train" in reports and "val" in reports:
        reports["val"].problems["also in train"] = find_overlap(reports["val"], reports["train"])
    faults = [*faults, *class_faults(cfg, reports)]
    for split, report in reports.items():
        print_report(console, split, report, max_cases)
    for fault in faults:
        console.print(f"[red]error:[/red] {escape(fault)}", highlight=False)
    good = not faults and all(report.ok for report in reports.values())
    console.print("[green]nothing wrong[/green]" if good else "[red]not usable as it is[/red]")
    return good


def check_split(cfg: "Config", split: str) -> "Report":
    """Build the dataset of a split without its augmentation and read it through."""
    from rich.progress import track

    from visionpatch.datasets.checking import check_dataset, loading_steps
    from visionpatch.registry import DATASETS

    loader = cfg.get(f"{split}_dataloader")
    if not loader or "dataset" not in loader:
        raise ConfigError(f"the config has no {split}_dataloader.dataset")
    dataset = loader["dataset"]
    while "type" in dataset and isinstance(dataset.get("dataset"), dict):  # a wrapper, such as RepeatDataset
        dataset = dataset["dataset"]
    steps = loading_steps(dataset.get("pipeline") or ())
    built = DATASETS.build({**dataset, "pipeline": []} if "pipeline" in dataset else dataset)
    return check_dataset(built, steps, lambda indices: track(indices, description=f"{split:5}", total=len(built)))


def class_faults(cfg: "Config", reports: dict[str, "Report"]) -> list[str]:
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


def print_report(console: "Console", split: str, report: "Report", max_cases: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    labelled = int(report.pixels.sum())
    table = Table("class", "name", "pictures", title=f"{split}: {report.samples} samples")
    if labelled:
        table.add_column("pixels", justify="right")
    if report.objects.any():
        table.add_column("objects", justify="right")
    for index, name in enumerate(report.classes):
        style = "yellow" if not report.images[index] else None
        share = [f"{report.pixels[index] / labelled:.2%}"] if labelled else []
        objects = [str(report.objects[index])] if report.objects.any() else []
        table.add_row(str(index), escape(name), str(report.images[index]), *share, *objects, style=style)
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
                console.print(f"  {escape(case)}", highlight=False)


if __name__ == "__main__":
    cli.run(main)
