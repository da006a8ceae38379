"""Train the model of a config.

python tools/train.py configs/crossformer/NAME.py
python tools/train.py CONFIG --cfg-options train_cfg.max_iters=1000 --work-dir runs/short
python tools/train.py CONFIG --dry-run        # build everything, run one iteration, print shapes and sizes
python tools/train.py CONFIG --resume         # go on from the latest checkpoint of the work_dir
python tools/train.py CONFIG --resume if-any  # the same, or start where there is none: for jobs that are queued again
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionpatch.apis import cli


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("config", help="config file")
    cli.add_run_flags(p)
    p.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CKPT",
        help="go on from CKPT, or from the latest checkpoint of the work_dir; if-any: start afresh where there is none",
    )
    p.add_argument("--amp", action="store_true", help="mixed precision: float16 on a GPU, bfloat16 on a CPU")
    p.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate to the batch size, by auto_scale_lr.base_batch_size of the config",
    )
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="run one training and one validation iteration, print shapes, parameters and memory, and stop",
    )
    cli.add_trust_flag(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    cfg = cli.config_of(args)
    cli.need(
        all(cfg.get(key) is not None for key in ("model", "train_dataloader", "train_cfg", "optim_wrapper")),
        f"{args.config}: training needs model, train_dataloader, train_cfg and optim_wrapper",
    )
    if args.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    if args.auto_scale_lr:
        cli.need(
            (cfg.get("auto_scale_lr") or {}).get("base_batch_size"),
            f"{args.config}: --auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...), the batch size the "
            "learning rate was chosen for",
        )
        cfg.auto_scale_lr.enable = True
    if args.resume and not (args.resume == "if-any" and not has_checkpoint(cfg.work_dir)):
        cfg.resume = True
        cfg.load_from = None if args.resume in ("auto", "if-any") else args.resume
    with cli.trusting(args):
        train(cfg, args.dry_run)
    return 0


def has_checkpoint(work_dir: str) -> bool:
    """Whether a training has saved anything there."""
    return any(Path(work_dir).glob("*.pth"))


def train(cfg: Any, dry: bool) -> None:
    if dry:
        from visionpatch.apis.dry_run import dry_run

        dry_run(cfg)
    else:
        from visionpatch.engine import build_runner

        build_runner(cfg).train()


if __name__ == "__main__":
    cli.run(main)
