"""MoVQ's search for codes against the published formula, and the whole codec against diffusers' VQModel.

    OMP_NUM_THREADS=1 python benchmarks/movq.py                    # search only, some seconds
    OMP_NUM_THREADS=1 python benchmarks/movq.py --codec --rounds 3 # and encode + decode of the 67M shape, minutes

The published formula is |z|^2 + |e|^2 - 2 z.e for all pairs at once. Each form of the search runs in a process of its
own; the peak is what its resident memory grows by. The codec needs diffusers (pip install diffusers); both hold the
same random weights, and the reconstructions of the same codes agree to 1e-4 of the largest value.

Prints medians, wall clock / processor, and how much faster ours is by each.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from visionpatch.layers.quantizer import nearest_codes

SHAPE_67M = dict(
    block_out_channels=[128, 256, 256, 512], layers_per_block=2, latent_channels=4, vq_embed_dim=4,
    num_vq_embeddings=16384, norm_num_groups=32, norm_type="spatial",
    down_block_types=["DownEncoderBlock2D"] * 3 + ["AttnDownEncoderBlock2D"],
    up_block_types=["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * 3,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5, help="measurements of each kind (default: 5)")
    p.add_argument("--codes", type=int, default=16384, help="size of the codebook (default: 16384)")
    p.add_argument("--rows", type=int, nargs="+", default=[1024, 4096], help="vectors (default: 1024 4096)")
    p.add_argument("--side", type=int, default=256, help="of the picture of the codec (default: 256)")
    p.add_argument("--codec", action="store_true", help="measure the codec too")
    p.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    if args.form:
        print(json.dumps(search(FORMS[args.form], args.rows[0], args.codes, args.rounds)))
        return
    table = Table("what", "plain", "ours", "wall", "processor", "memory", title=f"{torch.get_num_threads()} threads")
    for rows in args.rows:
        plain, ours = (in_process(form, rows, args) for form in FORMS)
        assert plain["sum"] == ours["sum"], "the codes differ"
        add(table, f"search, {rows} x {args.codes}", plain, ours)
    if args.codec:
        add(table, f"encode + decode, 67M, {args.side} px", *codec(args.side, args.rounds))
    Console().print(table)


def published(rows: Tensor, codebook: Tensor) -> Tensor:
    d = rows.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * torch.einsum("nd,kd->nk", rows, codebook)
    return d.argmin(1)


FORMS = {"plain": published, "ours": nearest_codes}


def search(form: Callable[[Tensor, Tensor], Tensor], rows: int, codes: int, rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    z, codebook = torch.randn(rows, 4), torch.randn(codes, 4)
    form(z[:16], codebook[:16])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = form(z, codebook)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return dict(peak=peak, sum=int(found.sum()), **times(lambda: form(z, codebook), rounds))


def in_process(form: str, rows: int, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--form", form, "--rows", str(rows), "--codes", str(args.codes)]
    done = subprocess.run([*command, "--rounds", str(args.rounds)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@torch.inference_mode()
def codec(side: int, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    from visionpatch.converters import movq
    from visionpatch.models import ImageTokenizer

    try:
        from diffusers import VQModel
    except ImportError:
        sys.exit("diffusers is missing, against which the codec is measured: pip install diffusers")
    torch.manual_seed(0)
    theirs, ours = VQModel(**SHAPE_67M).eval(), ImageTokenizer("67M").eval()
    ours.load_state_dict(movq.convert(theirs.state_dict()))
    image = torch.rand(1, 3, side, side) * 2 - 1
    latent = theirs.encode(image).latents
    codes = theirs.quantize(latent)[2][2].view(1, side // 8, side // 8, 1)
    expected, found = theirs.decode(latent).sample, ours.decode(codes)
    assert (expected - found).abs().max() < 1e-4 * expected.abs().max(), "the reconstructions differ"
    results: list[list[dict]] = [[], []]
    for _ in range(rounds):  # in turns, so that both meet the same load
        results[0].append(times(lambda: theirs.decode(theirs.encode(image).latents), 1))
        results[1].append(times(lambda: ours.decode(ours.encode(image)), 1))
    plain, own = ({k: statistics.median(one[k] for one in r) for k in ("wall", "processor")} for r in results)
    return plain, own


def times(run: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median seconds of `run` by the clock on the wall and of the processor."""
    found = []
    for _ in range(rounds):
        wall, processor = time.perf_counter(), time.process_time()
        run()
        found.append((time.perf_counter() - wall, time.process_time() - processor))
    wall, processor = (statistics.median(values) for values in zip(*found))
    return dict(wall=wall, processor=processor)


def add(table: Table, what: str, plain: dict[str, float], ours: dict[str, float]) -> None:
    cells = [f"{one['wall']:.3f} / {one['processor']:.3f} s" for one in (plain, ours)]
    ratios = [f"{plain[kind] / ours[kind]:.2f}x" for kind in ("wall", "processor")]
    memory = f"{plain['peak']:.0f} / {ours['peak']:.0f} MB" if "peak" in plain else ""
    table.add_row(what, *cells, *ratios, memory)


if __name__ == "__main__":
    main()
