"""Tell what checkpoint and prediction files hold; nothing in them is executed.

    python tools/what_is.py work_dirs/NAME/iter_1000.pth
    python tools/what_is.py model.safetensors --keys          # every tensor with its shape
    python tools/what_is.py iter_1000.pth --config            # the config it was trained with, as text

A file that would run code is described by the names it would import.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionpatch.apis import cli
from visionpatch.errors import VisionpatchError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

NOTHING = "-"
COUNTS = ("tensors", "values", "bytes")
Rows = list[tuple[str, str]]


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("files", nargs="+", type=Path, metavar="FILE", help="checkpoint or prediction file")
    p.add_argument("--keys", action="store_true", help="list every tensor with its shape and type")
    p.add_argument("--config", action="store_true", help="print the config that the checkpoint holds, as text")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    status = 0
    for path in args.files:
        try:
            print(end="\n" if path is not args.files[0] else "")
            describe(path, args.keys, args.config)
        except VisionpatchError as error:
            cli.report(error)
            status = 2
    return status


def describe(path: Path, keys: bool, config: bool) -> None:
    """Print one file.

    Raises:
        WeightsError, DataError: it cannot be read.
    """
    from visionpatch.engine.safe_loading import JSON, NPZ, kind_of

    if not path.is_file() or not path.stat().st_size:
        read(path)  # which says what is wrong
    kind = kind_of(path)
    if kind in (NPZ, JSON):
        return show(path, kind, prediction_rows(path))
    checkpoint = read(path)
    if checkpoint is None:
        return show(path, f"{kind}, refused: it would run code", [("would import", imports(path, kind))])
    if config:
        text = meta_of(checkpoint).get("cfg")
        print(printable(text, keep="\n") if isinstance(text, str) else f"{path}: holds no config")
        return None
    tensors = tensors_of(checkpoint)
    show(path, kind, [*meta_rows(meta_of(checkpoint)), *tensor_rows(tensors), *training_rows(checkpoint)])
    print_table(("part", *COUNTS), part_rows(tensors))
    if keys:
        print_table(("tensor", "shape", "type"), [(k, str(tuple(t.shape)), type_of(t)) for k, t in tensors.items()])
    return None


def read(path: Path) -> dict | None:
    """The checkpoint, or None for one that would run code."""
    from visionpatch.engine.checkpoint import load_checkpoint_file
    from visionpatch.engine.safe_loading import RefusedError

    try:
        return load_checkpoint_file(path)
    except WeightsError as error:
        if isinstance(error.__cause__, RefusedError):
            return None
        raise


def imports(path: Path, kind: str) -> str:
    from visionpatch.engine.safe_loading import ALLOWED, TAR, imports_of

    if kind == TAR:
        return "unknown, it is not opened"
    names = [name for name in imports_of(path, kind)[0] if not ALLOWED.fullmatch(name)]
    return ", ".join(names) or "nothing by itself, the code is in the archive"


def tensors_of(checkpoint: Mapping) -> "dict[str, Tensor]":
    from visionpatch.engine.checkpoint import state_dict_of

    return state_dict_of(checkpoint)


def meta_of(checkpoint: Mapping) -> Mapping[str, Any]:
    return checkpoint.get("meta") or {}


def meta_rows(meta: Mapping[str, Any]) -> Rows:
    dataset = meta.get("dataset_meta")
    classes = dataset.get("classes") if isinstance(dataset, Mapping) else None
    return [
        ("iteration, epoch", f"{plain(meta.get('iter'))}, {plain(meta.get('epoch'))}"),
        ("seed", plain(meta.get("seed"))),
        ("saved", plain(meta.get("time"))),
        ("experiment", plain(meta.get("experiment_name"))),
        ("command", plain(meta.get("command"))),
        ("config file", plain(meta.get("config_file"))),
        ("config SHA-256", plain(meta.get("config_sha256"))),
        ("versions", pairs(meta.get("versions")) if meta.get("versions") else pairs_of_old(meta)),
        ("metrics", pairs(meta.get("metrics"))),
        ("classes", str(len(classes)) if isinstance(classes, list | tuple) else NOTHING),
    ]


def tensor_rows(tensors: "Mapping[str, Tensor]") -> Rows:
    types: dict[str, list] = {}
    for tensor in tensors.values():
        types.setdefault(type_of(tensor), []).append(tensor)
    return [
        ("tensors", f"{len(tensors):,} of {values_of(tensors.values()):,} values"),
        *((f"  {name}", f"{len(group):,} tensors, {bytes_of(group):,} bytes") for name, group in types.items()),
    ]


def training_rows(checkpoint: Mapping) -> Rows:
    """What of a training is there, and so whether it can go on from here."""
    ranks = checkpoint.get("ranks")
    random = sum("random" in rank for rank in ranks if isinstance(rank, Mapping)) if isinstance(ranks, list) else 0
    resumable = "optimizer" in checkpoint and "iter" in meta_of(checkpoint)
    exactly = f"to the last bit, with {random} process(es)" if random else "but without its random states"
    found = {
        "optimiser": bool(checkpoint.get("optimizer")),
        "schedulers": bool(checkpoint.get("param_schedulers")),
        "averaged weights (EMA)": bool(checkpoint.get("ema_state_dict")),
        "random states": bool(random),
    }
    return [
        *((name, "yes" if there else "no") for name, there in found.items()),
        ("can be resumed", f"yes, {exactly}" if resumable else "no, weights alone"),
    ]


def part_rows(tensors: "Mapping[str, Tensor]") -> list[tuple[str, ...]]:
    parts: dict[str, list] = {}
    for name, tensor in tensors.items():
        parts.setdefault(name.split(".")[0], []).append(tensor)
    return [(name, f"{len(p):,}", f"{values_of(p):,}", f"{bytes_of(p):,}") for name, p in parts.items()]


def prediction_rows(path: Path) -> Rows:
    from visionpatch.engine.predictions import FIELDS, read_predictions

    records = read_predictions(path)
    counts = {field: sum(field in record for record in records) for field in FIELDS}
    return [
        ("samples", f"{len(records):,}"),
        *((name, f"of {count:,}") for name, count in counts.items() if count),
        ("first, last", ", ".join(plain(r["img_path"]) for r in (records[:1] + records[1:][-1:])) or NOTHING),
    ]


def show(path: Path, kind: str, rows: Rows) -> None:
    """Print what is known of every file, then `rows`."""
    from visionpatch.engine.checkpoint import sha256_of

    common = [("kind", kind), ("size", f"{path.stat().st_size:,} bytes"), ("SHA-256", sha256_of(path))]
    print_table((str(path), ""), [*common, *rows])


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table, or bare columns where the output is no terminal."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [[printable(cell) for cell in row] for row in (head, *rows)]
    console = Console()
    if not console.is_terminal:
        widths = [max(map(len, column)) for column in zip(*lines[1:])]
        for line in lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
        return
    table = Table(box=SIMPLE)
    for name in lines[0]:
        table.add_column(Text(name), justify="right" if name in COUNTS else "left", overflow="fold")
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    console.print(table)


def plain(value: Any) -> str:
    """A number or a text; anything else, and nothing, is ``-``."""
    return str(value)[:500] if isinstance(value, str | int | float) and value != "" else NOTHING


def pairs(value: Any) -> str:
    items = list(value.items())[:20] if isinstance(value, Mapping) else []
    shown = [f"{plain(k)} {v:.6g}" if isinstance(v, float) else f"{plain(k)} {plain(v)}" for k, v in items]
    return ", ".join(shown) or NOTHING


def pairs_of_old(meta: Mapping[str, Any]) -> str:
    """The one version that MMEngine itself notes."""
    return pairs({"mmengine": meta["mmengine_version"]}) if "mmengine_version" in meta else NOTHING


def printable(text: str, keep: str = "") -> str:
    """Without characters that a terminal would act on."""
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)


def type_of(tensor: "Tensor") -> str:
    return str(tensor.dtype).removeprefix("torch.")


def values_of(tensors: "Iterable[Tensor]") -> int:
    return sum(tensor.numel() for tensor in tensors)


def bytes_of(tensors: "Iterable[Tensor]") -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


if __name__ == "__main__":
    cli.run(main)
