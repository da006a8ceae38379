"""Time the ops' torch forms, and mmcv's compiled kernels on the CPU where they can be imported; one thread.

    python benchmarks/ops.py [--rounds 7]

Both sides get the same float32 tensors, in turn. The ratio is the kernel's time divided by ours: above 1, ours is
faster.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from visionpatch import ops
from visionpatch.ops import dispatch

Pair = tuple[Callable, Callable | None]  # ours, the kernel's


def make_boxes(number: int, size: tuple[int, int] = (1333, 800)) -> tuple[Tensor, Tensor]:
    """Clusters of overlapping boxes, as detectors give them, and scores."""
    objects = torch.rand(max(number // 20, 1), 4) * torch.tensor([*size, 200.0, 200.0])
    chosen = objects[torch.randint(len(objects), (number,))]
    centre = chosen[:, :2] + torch.randn(number, 2) * 8
    half = (chosen[:, 2:] / 2 + 10) * torch.exp(torch.randn(number, 2) * 0.1)
    return torch.cat([centre - half, centre + half], 1), torch.rand(number)


def suppression(kernels: ModuleType | None) -> Iterator[tuple[str, Pair]]:
    for number in (1000, 2000):
        boxes, scores = make_boxes(number)
        yield f"nms {number} boxes", both(kernels, "nms", boxes, scores, 0.7)
        classes = torch.randint(0, 80, (number,))
        cfg = dict(type="nms", iou_threshold=0.5)
        yield f"batched_nms {number} boxes, 80 classes", both(kernels, "batched_nms", boxes, scores, classes, cfg)
    boxes, scores = make_boxes(4500)
    levels, cfg = torch.arange(4500) % 5, dict(type="nms", iou_threshold=0.7)
    yield "batched_nms 4500 boxes, 5 levels", both(kernels, "batched_nms", boxes, scores, levels, cfg)
    yield "soft_nms 1000 boxes", both(kernels, "soft_nms", boxes[:1000], scores[:1000])


def pooling(kernels: ModuleType | None) -> Iterator[tuple[str, Pair]]:
    """512 rois on the four levels of a pyramid of 800 x 1216 pixels and 256 channels, 7 x 7."""
    levels = []
    for level in range(4):
        stride = 4 * 2**level
        image = torch.randn(1, 256, 800 // stride, 1216 // stride, requires_grad=True)
        half = 28 * 2**level * (1 + torch.rand(128, 2) * 0.9)
        centre = torch.rand(128, 2) * torch.tensor([1216.0, 800.0])
        levels.append((image, torch.cat([torch.zeros(128, 1), centre - half, centre + half], 1), 1 / stride))

    def forward(module: ModuleType, ratio: int, back: bool) -> None:
        with torch.set_grad_enabled(back):
            for image, rois, scale in levels:
                output = module.roi_align(image, rois, (7, 7), scale, ratio, "avg", True)
                if back:
                    torch.autograd.grad(output.sum(), image)

    for ratio in (0, 2):
        for back in (False, True):
            name = f"roi_align 512 rois, sampling_ratio {ratio}" + (", with backward" if back else "")
            yield name, (partial(forward, ops, ratio, back), kernels and partial(forward, kernels, ratio, back))


def others(kernels: ModuleType | None) -> Iterator[tuple[str, Pair]]:
    image, weight = torch.randn(1, 256, 50, 76), torch.randn(256, 256, 3, 3)
    offset, mask = torch.randn(1, 18, 50, 76), torch.rand(1, 9, 50, 76)
    with torch.no_grad():
        yield "deform_conv2d 256 x 50 x 76, 3 x 3", both(kernels, "deform_conv2d", image, offset, weight, 1, 1)
        tensors = image, offset, mask, weight, None
        yield "modulated_deform_conv2d, the same", both(kernels, "modulated_deform_conv2d", *tensors, 1, 1)
    logits, target = torch.randn(20000, 80), torch.randint(0, 81, (20000,))
    yield "sigmoid_focal_loss 20000 x 80", both(None, "sigmoid_focal_loss", logits, target)
    shapes = torch.tensor([[100, 152], [50, 76], [25, 38], [13, 19]])
    value = torch.randn(1, int(shapes.prod(1).sum()), 8, 32)
    weights = torch.rand(1, 300, 8, 4, 4)
    attention = value, shapes, torch.rand(1, 300, 8, 4, 4, 2), weights
    yield "multi_scale_deformable_attn 300 queries, 4 levels", both(None, "multi_scale_deformable_attn", *attention)
    yield "point_sample 12544 points, 256 channels", both(None, "point_sample", image, torch.rand(1, 12544, 2))


def both(kernels: ModuleType | None, name: str, *args: object) -> Pair:
    return partial(getattr(ops, name), *args), kernels and partial(getattr(kernels, name), *args)


def times(pair: Pair, rounds: int) -> list[float | None]:
    """Median CPU milliseconds of each side."""
    sides = [side for side in pair if side is not None]
    taken = np.zeros((rounds + 1, len(sides)))
    for turn in range(rounds + 1):
        for i, side in enumerate(sides):
            start = time.process_time()
            side()
            taken[turn, i] = time.process_time() - start
    medians = [float(m) * 1e3 for m in np.median(taken[1:], axis=0)]  # the first round warms up
    return [*medians, None][:2]


def main() -> None:
    parser = argparse.ArgumentParser(description="the ops' torch forms against mmcv's compiled kernels, one thread")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kernels, found = dispatch.load()
    dispatch.KERNELS = {name: (what, {}) for name, (what, _) in dispatch.KERNELS.items()}  # our side: torch forms
    table = Table("op", "torch form, CPU ms", "mmcv kernel, CPU ms", "ratio", title=f"median of {rounds} rounds")
    for group in (suppression, pooling, others):
        for name, pair in group(kernels):
            ours, theirs = times(pair, rounds)
            table.add_row(name, f"{ours:.1f}", *([f"{theirs:.1f}", f"{theirs / ours:.2f}"] if theirs else ["-", "-"]))
    console = Console()
    console.print(table)
    console.print(f"torch {torch.__version__}; compiled: {found if kernels else f'none ({found})'}", soft_wrap=True)


if __name__ == "__main__":
    main()
