"""What DependencyViT costs here: the pruned network against the full one, and the forms of its attention.

    OMP_NUM_THREADS=1 python benchmarks/dependency_vit.py            # about a minute
    python benchmarks/dependency_vit.py --device cuda --batch 128

Prints medians of alternating measurements in milliseconds, wall clock / processor:
forward     a classification forward of DependencyViT and DependencyViT-Lite, without the linear head, and their ratio
attention   one block's reversed attention by form and number of tokens, against attention as usual (one call of
            scaled_dot_product_attention, which computes something else)
All forms must agree to 1e-5 of the largest value.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from visionpatch.backbones import DependencyViT
from visionpatch.layers.reversed_attention import Flow, forward_attention, reversed_attention


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--arch", default="small", choices=("tiny", "small"), help="default: small")
    p.add_argument("--batch", type=int, default=8, help="pictures of a forward (default: 8)")
    p.add_argument("--size", type=int, default=224, help="side of the pictures (default: 224)")
    p.add_argument("--rounds", type=int, default=7, help="measurements of each kind (default: 7)")
    p.add_argument(
        "--tokens", type=int, nargs="*", default=[196, 1024], help="of the attention table (default: 196 1024)"
    )
    p.add_argument("--device", default="cpu")
    args = p.parse_args(argv)
    torch.manual_seed(0)
    console = Console()
    with torch.inference_mode():
        console.print(forward_table(args))
        if args.tokens:
            console.print(attention_table(args))


def forward_table(args: argparse.Namespace) -> Table:
    full = DependencyViT(args.arch, pool="message").eval().to(args.device)
    lite = DependencyViT(args.arch, pool="message", prune=dict()).eval().to(args.device)
    lite.load_state_dict(full.state_dict())
    image = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    slow, fast = medians([partial(full, image), partial(lite, image)], args)
    table = Table("forward", "ms", title=f"{args.arch}, batch {args.batch}, {args.size} x {args.size}, {where(args)}")
    table.add_row("full", shown(slow))
    table.add_row("Lite", shown(fast))
    table.add_row("full / Lite", " / ".join(f"{a / b:.2f}" for a, b in zip(slow, fast)))
    return table


def attention_table(args: argparse.Namespace) -> Table:
    forms = ("dense", "chunked", "fused", "auto")
    table = Table("tokens", "batch", *forms, "as usual", title="reversed attention, 12 heads of 32 channels, ms")
    for n in args.tokens:
        batch = max(1, args.batch * 196 // n)
        q, k, v = (torch.randn(batch, 12, n, 32, device=args.device) for _ in range(3))
        flow = Flow(q, k, torch.rand(batch, 12, n, device=args.device), None)
        expected = reversed_attention(flow, v, "dense")
        for form in forms[1:]:
            error = ((reversed_attention(flow, v, form) - expected).abs().max() / expected.abs().max()).item()
            if error > 1e-5:
                raise SystemExit(f"{form} differs from dense by {error:.1e} of the largest value")
        runs = [partial(reversed_attention, flow, v, form) for form in forms]
        times = medians([*runs, partial(forward_attention, flow, v)], args)
        table.add_row(str(n), str(batch), *map(shown, times))
    return table


def medians(runs: Sequence[Callable], args: argparse.Namespace) -> list[tuple[float, float]]:
    """(Wall, processor) seconds of each, measured in turn after one call to warm up."""
    times: list[list[tuple[float, float]]] = [[] for _ in runs]
    for turn in range(args.rounds + 1):
        for run, found in zip(runs, times):
            synchronise(args.device)
            wall, processor = time.perf_counter(), time.process_time()
            run()
            synchronise(args.device)
            if turn:
                found.append((time.perf_counter() - wall, time.process_time() - processor))
    return [(statistics.median(a for a, _ in found), statistics.median(b for _, b in found)) for found in times]


def shown(seconds: tuple[float, float]) -> str:
    return " / ".join(f"{1e3 * value:.1f}" for value in seconds)


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def where(args: argparse.Namespace) -> str:
    if args.device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
