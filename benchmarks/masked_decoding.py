"""Drawing the codes of a picture in a few parallel steps against one by one, with the same network.

    OMP_NUM_THREADS=1 python benchmarks/masked_decoding.py                          # a minute or two
    OMP_NUM_THREADS=1 python benchmarks/masked_decoding.py --map 32 32 --rounds 1

One by one, each code is drawn from the network's distribution given those before it, row by row: as many passes
through the network as there are codes. No pass can reuse another: every token sees every other, so all change.
Both draw from logits over the whole codebook at temperature 1. Weights are random: they do not change the time.

Prints, with wall clock / processor seconds, medians of the rounds:
codes       of a picture
passes      through the network, one by one / parallel
one by one, parallel    the time of the batch
ratio       one by one / parallel
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from visionpatch.heads import MaskedSampling, MaskedTokenTransformer


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--map", nargs=2, type=int, default=(16, 16), help="rows and columns of codes (default: 16 16)")
    p.add_argument("--code-channels", type=int, default=1, help="codes at a point (default: 1)")
    p.add_argument("--codes", type=int, default=1024, help="size of the codebook (default: 1024)")
    p.add_argument("--channels", type=int, default=256, help="of the network (default: 256; published: 768)")
    p.add_argument("--depth", type=int, default=8, help="of the network (default: 8; published: 24)")
    p.add_argument("--heads", type=int, default=8, help="of the network (default: 8; published: 16)")
    p.add_argument("--steps", type=int, default=12, help="in parallel (default: 12)")
    p.add_argument("--batch", type=int, default=1, help="pictures at once (default: 1)")
    p.add_argument("--rounds", type=int, default=3, help="measurements of each kind, in turns (default: 3)")
    p.add_argument("--device", default="cpu")
    args = p.parse_args(argv)
    torch.manual_seed(0)
    net = MaskedTokenTransformer(
        codebook_size=args.codes, map_size=args.map, code_channels=args.code_channels, channels=args.channels,
        depth=args.depth, num_heads=args.heads, mlp_channels=4 * args.channels,
    ).eval().to(args.device)  # fmt: skip
    table = Table("codes", "passes", "one by one", "parallel", "ratio", box=box.ASCII)
    table.title = f"{args.channels} channels, {args.depth} blocks, {torch.get_num_threads()} threads on {args.device}"
    table.add_row(*measured(net, args))
    Console().print(table)


@torch.inference_mode()
def measured(net: MaskedTokenTransformer, args: argparse.Namespace) -> list[str]:
    """The cells of the row."""
    passes = [0, 0]
    kinds = (one_by_one, MaskedSampling(steps=args.steps).complete)
    hidden = torch.full((args.batch, *net.map_size, net.code_channels), net.hidden, device=args.device)
    seconds: list[list[Sequence[float]]] = [[], []]
    net(hidden)  # warms up
    for _ in range(args.rounds):
        for kind, draw in enumerate(kinds):
            counted = Counted(net)
            seconds[kind].append(timed(partial(draw, counted, hidden, net.hidden, range(args.batch))))
            passes[kind] = counted.calls
    slow, fast = ([statistics.median(values) for values in zip(*rounds)] for rounds in seconds)
    ratio = " / ".join(f"{a / b:.1f}x" for a, b in zip(slow, fast))
    return [str(hidden[0].numel()), f"{passes[0]} / {passes[1]}", shown(slow), shown(fast), ratio]


def one_by_one(logits_of: Callable[[Tensor], Tensor], codes: Tensor, hidden: int, seeds: Sequence[int]) -> Tensor:
    """As `MaskedSampling.complete`, of codes that are all hidden."""
    done = codes.clone()
    for place in range(codes[0].numel()):
        logits = logits_of(done).flatten(1, 3)[:, place]  # (B, K)
        done.view(len(codes), -1)[:, place] = logits.softmax(-1).multinomial(1)[:, 0]
    return done


class Counted:
    """The network, and how often it was called."""

    def __init__(self, net: MaskedTokenTransformer) -> None:
        self.net, self.calls = net, 0

    def __call__(self, codes: Tensor) -> Tensor:
        self.calls += 1
        return self.net(codes)


def timed(run: Callable[[], Tensor]) -> list[float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    run().cpu()  # waits for the device
    return [time.perf_counter() - wall, time.process_time() - processor]


def shown(seconds: Sequence[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in seconds) + " s"


if __name__ == "__main__":
    main()
