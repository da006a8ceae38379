"""Evaluate a checkpoint on the test data of a config, and write or show its predictions.

python tools/test.py CONFIG work_dirs/NAME/iter_1000.pth
python tools/test.py CONFIG CKPT --show-dir pictures --out predictions.npz --tta
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionpatch.apis import cli
from visionpatch.errors import ConfigError, nearest

TTA = dict(scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True)

NOT_TESTED = ["train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"]
NOT_TESTED += ["val_dataloader", "val_cfg", "val_evaluator"]


def build_parser() -> argparse.ArgumentParser:
    p = cli.parser(__doc__)
    p.add_argument("config", help="config file")
    p.add_argument("checkpoint", help="checkpoint file: .pth or .safetensors; none for a model that is not trained")
    cli.add_run_flags(p)
    p.add_argument(
        "--out",
        metavar="FILE",
        help="write the predictions: .npz (arrays) or .json (label maps and masks as run lengths)",
    )
    p.add_argument("--show", action="store_true", help="show every prediction in a window")
    p.add_argument("--show-dir", metavar="DIR", help="write every prediction as a picture")
    p.add_argument("--wait-time", type=float, default=2.0, help="seconds a shown picture stays (default: 2)")
    p.add_argument(
        "--tta",
        action="store_true",
        help="average over flips and scales (the config's tta, else 0.5 to 1.75 with flips)",
    )
    p.add_argument("--expect", metavar="NAME=VALUE", help="status 1 unless this metric reaches the value, e.g. mIoU=60")
    cli.add_trust_flag(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    cfg = cli.config_of(args)
    cli.need(
        all(cfg.get(key) is not None for key in ("model", "test_dataloader", "test_cfg", "test_evaluator")),
        f"{args.config}: testing needs model, test_dataloader, test_cfg and test_evaluator",
    )
    cli.need(
        args.out is None or Path(args.out).suffix in (".npz", ".json"),
        f"--out {args.out}: expected a name that ends in .npz or .json",
    )
    cfg.update(dict.fromkeys(NOT_TESTED))
    cfg.load_from, cfg.resume = None if args.checkpoint == "none" else args.checkpoint, False
    if args.tta:
        cfg.model.test_cfg = {**(cfg.model.get("test_cfg") or {}), "tta": cfg.get("tta") or TTA}
    expected = parse_expected(args.expect)
    with cli.trusting(args):
        metrics = build_tester(cfg, args).test()
    return 0 if expected is None or reaches(metrics, *expected) else 1


def parse_expected(text: str | None) -> tuple[str, float] | None:
    """``"mIoU=60"`` as ("mIoU", 60.0)."""
    if text is None:
        return None
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise ConfigError(f"--expect {text}: expected NAME=VALUE, e.g. mIoU=60") from error


def reaches(metrics: dict[str, float], name: str, least: float) -> bool:
    """Print whether metric `name` is at least `least`."""
    if name not in metrics:
        raise ConfigError(f"--expect {name}: no such metric{nearest(name, metrics)}")
    reached = metrics[name] >= least
    print(f"{name} {metrics[name]:.4g} {'reaches' if reached else 'does not reach'} the expected {least:g}")
    return reached


def build_tester(cfg: Any, args: argparse.Namespace) -> Any:
    """A Runner with the hooks that write and show predictions."""
    from visionpatch.engine import build_runner
    from visionpatch.engine.checkpoint import fetch_checkpoint
    from visionpatch.engine.predictions import SavePredictionsHook
    from visionpatch.visualization import VisualizationHook

    if cfg.load_from:
        fetch_checkpoint(cfg.load_from)  # a wrong file is found before the data are
    hooks: list[Any] = [SavePredictionsHook(args.out)] if args.out else []
    if args.show or args.show_dir:
        hooks.append(VisualizationHook(show=args.show, out_dir=args.show_dir, wait_time=args.wait_time))
    runner = build_runner(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    return runner


if __name__ == "__main__":
    cli.run(main)
