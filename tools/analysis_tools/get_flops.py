"""Multiply-accumulates and parameters of a config's model, for one image.

    python tools/analysis_tools/get_flops.py CONFIG --shape 512 512

Counted are convolutions, matrix products and attention, in the manner of the published tables, which call
multiply-accumulates FLOPs. Heads that only train are counted among the parameters and not among the operations.
"""

import argparse
from collections.abc import Sequence

from visionpatch.apis import cli


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("config", help="a config file, or a name that visionpatch.apis.list_models() gives")
    p.add_argument(
        "--shape",
        type=int,
        nargs="+",
        default=[512, 512],
        metavar="SIDE",
        help="height and width of the image, or one number for both (default: 512 512)",
    )
    cli.add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    cli.need(
        len(args.shape) in (1, 2) and min(args.shape) > 0,
        f"--shape {' '.join(map(str, args.shape))}: expected one or two positive numbers, height and width",
    )
    from rich.console import Console
    from rich.table import Table

    from visionpatch.apis import count_macs, get_config, get_model
    from visionpatch.engine.config import parse_options

    model = get_model(get_config(args.config, parse_options(args.cfg_options)))
    height, width = args.shape * 2 if len(args.shape) == 1 else args.shape
    total, by_module = count_macs(model, (height, width), by_module=True)
    table = Table(
        "part", "multiply-accumulates", "parameters", title=f"{args.config}, {height} x {width}", title_justify="left"
    )
    for name, module in model.named_children():
        parameters = sum(p.numel() for p in module.parameters())
        if parameters:
            table.add_row(name, f"{by_module.get(name, 0) / 1e9:.3f} G", f"{parameters / 1e6:.3f} M")
    table.add_row("all", f"{total / 1e9:.3f} G", f"{sum(p.numel() for p in model.parameters()) / 1e6:.3f} M")
    Console().print(table)
    return 0


if __name__ == "__main__":
    cli.run(main)
