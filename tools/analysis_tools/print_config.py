"""Print a config as a run would see it: bases merged, overrides applied, every key checked.

python tools/analysis_tools/print_config.py CONFIG --cfg-options optim_wrapper.optimizer.lr=0.001 --save-path full.py
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from visionpatch.apis import cli


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("config", help="config file")
    p.add_argument("--save-path", metavar="FILE", help="write it to a .py, .json or .yml file as well")
    cli.add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    cli.need(
        args.save_path is None or Path(args.save_path).suffix in (".py", ".json", ".yml", ".yaml"),
        f"--save-path {args.save_path}: expected a name that ends in .py, .json or .yml",
    )
    cfg = cli.config_of(args)
    print(cfg.pretty_text)
    if args.save_path:
        cfg.dump(args.save_path)
    return 0


if __name__ == "__main__":
    cli.run(main)
