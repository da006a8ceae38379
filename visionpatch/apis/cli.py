"""What the command-line tools share: common flags, the work_dir, errors of one line and exit status 2."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from visionpatch.errors import ConfigError, TrainingStopped, VisionpatchError

TRACEBACK = "VISIONPATCH_TRACEBACK"
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


def run(main: Callable[[], Any]) -> None:
    """Call `main` and leave the process with 0, what it returns, or after an error of ours one red line and its status.

    The status is 2 for a user's error and 75 for a training that a signal stopped and that can go on.

    ``VISIONPATCH_TRACEBACK=1`` shows the traceback instead.
    """
    try:
        status = main()
    except VisionpatchError as error:
        if os.environ.get(TRACEBACK, "0") not in ("", "0"):
            raise
        report(error)
        status = error.status
    except (ImportError, OSError) as error:  # an optional package, a disk that is full while a log is written
        if os.environ.get(TRACEBACK, "0") not in ("", "0"):
            raise
        report(error)
        status = 2
    except KeyboardInterrupt:
        status = 130
    if status in (None, 0, TrainingStopped.status):
        leave_group()
    sys.exit(status or 0)


def leave_group() -> None:
    """Leave the other processes of a distributed run; one that just exits may be aborted by its threads."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def report(error: BaseException) -> None:
    """Print an error as one red line on stderr."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(f"error: {one_line(error)}", style="bold red"))


def one_line(error: BaseException) -> str:
    """The message of an error; of one that a data worker raised, without the worker's traceback around it."""
    text = str(error)
    if "Original Traceback" in text:
        text = re.sub(r"^[\w.]+(Error|Exception): ", "", text.strip().splitlines()[-1])
    return " ".join(text.split())


def parser(description: str) -> argparse.ArgumentParser:
    """A parser that shows defaults and keeps the line breaks of `description`."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_run_flags(p: argparse.ArgumentParser) -> None:
    """The flags of training and testing."""
    p.add_argument(
        "--work-dir",
        help="where logs and checkpoints go; default: work_dir of the config, else ./work_dirs/<config name>",
    )
    add_cfg_options(p)
    p.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how the processes of a distributed run were started",
    )
    p.add_argument("--local-rank", "--local_rank", type=int, default=0, help="set by the launcher")


def add_cfg_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help='override config keys, e.g. train_cfg.max_iters=1000 custom_hooks.0.interval=5 "a.b=[1,2]"',
    )


def add_trust_flag(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="unpickle objects too, which runs code of the file: only for checkpoints you trust",
    )


def trusting(args: argparse.Namespace) -> AbstractContextManager:
    """A block in which checkpoints are read as ``--trust-checkpoint`` says."""
    from visionpatch.engine.safe_loading import trusting

    return trusting(args.trust_checkpoint)


def config_of(args: argparse.Namespace) -> Any:
    """The checked config that the common flags describe."""
    from visionpatch.engine.config import load_config, parse_options

    cfg = load_config(args.config, parse_options(args.cfg_options), getattr(args, "work_dir", None))
    cfg.launcher = getattr(args, "launcher", "none")
    if "LOCAL_RANK" not in os.environ:
        os.environ["LOCAL_RANK"] = str(getattr(args, "local_rank", 0))
    return cfg


def need(condition: Any, message: str) -> None:
    """Raise `ConfigError` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def find_pictures(path: Path) -> tuple[list[Path], list[str]]:
    """The pictures at `path`, sorted, and a line for each other file."""
    need(path.exists(), f"{path}: no such picture or folder")
    if path.is_file():
        return [path], []
    files = sorted(p for p in path.iterdir() if p.is_file())
    pictures = [p for p in files if p.suffix.lower() in PICTURES]
    need(pictures, f"{path}: holds no picture ({', '.join(PICTURES)})")
    return pictures, [f"{p}: not a picture" for p in files if p not in pictures]
