"""``python -m visionpatch.ops``: which implementation serves each op on this machine."""

import torch
from rich.console import Console
from rich.table import Table

from visionpatch import ops
from visionpatch.ops.dispatch import KERNELS, compiled, load

SHARED = {"batched_nms": "nms"}  # ops that run another op's kernel


def implementation(op: str, device: str) -> str:
    """What serves float32 tensors on `device`."""
    if device == "cuda" and not torch.cuda.is_available():
        return "no device"
    kernel = SHARED.get(op, op)
    return load()[1] if kernel in KERNELS and compiled(kernel, torch.empty(0, device=device)) else "torch"


def main() -> None:
    module, found = load()
    table = Table("op", "cpu", "cuda")
    for op in ops.__all__:
        table.add_row(op, implementation(op, "cpu"), implementation(op, "cuda"))
    console = Console()
    console.print(table)
    console.print(
        f"torch {torch.__version__}; compiled: {found if module else f'none ({found})'}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
