"""Prove for a config that a training which was broken off and resumed equals the uninterrupted one, bit by bit.

    python tools/check_resume.py CONFIG
    python tools/check_resume.py CONFIG --iterations 12 --breaks 5 8 --cfg-options train_dataloader.num_workers=2

Trains the first iterations twice, once as a whole and once broken off after the iterations of --breaks, with a
validation at the first of them. Compares weights, averaged weights, optimisers, schedulers, the scaler of mixed
precision, log, random states and every logged value. Prints what differs; exit status 0 when nothing does, else 1.
"""

import argparse
import tempfile
from collections.abc import Sequence

from visionpatch.apis import cli


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("config", help="config file")
    p.add_argument("--iterations", type=int, default=6, help="length of the two trainings (default: 6)")
    p.add_argument("--breaks", type=int, nargs="+", default=[2, 4], help="iterations to break off after (default: 2 4)")
    p.add_argument(
        "--interval", type=int, default=1, help="a checkpoint every so many iterations, and at the end (default: 1)"
    )
    cli.add_cfg_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    cfg = cli.config_of(args)
    from visionpatch.apis.exact_resume import differences

    with tempfile.TemporaryDirectory() as folder:
        found = differences(cfg, folder, args.iterations, args.breaks, args.interval)
    for line in found:
        print(line)
    breaks = ", ".join(map(str, args.breaks))
    verdict = f"{len(found)} differences" if found else "equal to the last bit"
    print(f"{args.config}: broken off after {breaks} of {args.iterations} iterations and resumed: {verdict}")
    return 1 if found else 0


if __name__ == "__main__":
    cli.run(main)
