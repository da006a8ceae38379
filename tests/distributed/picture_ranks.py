"""Started by torchrun with a folder: every process evaluates its share of made-up pictures, ``<rank>.json``."""

import json
import logging
import sys
from pathlib import Path

import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import get_rank
from mmengine.evaluator import Evaluator
from torch import Tensor, nn

from visionpatch.apis.cli import leave_group
from visionpatch.evaluation import CodebookUsage, FrechetDistance, ImageQuality, PerceptualDistance

CASES = [(2, 1), (7, 1), (7, 2), (8, 3)]


class Averages(nn.Module):
    """Six features of a picture: mean and spread of each channel."""

    name = "FD-averages"

    def forward(self, pictures: list[Tensor]) -> Tensor:
        return torch.stack([torch.cat([p.mean((1, 2)), p.std((1, 2))]) for p in pictures])


class Difference(nn.Module):
    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        return (image - other).abs().amax().view(1, 1, 1, 1)


def sample(number: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(number)
    gt = torch.randint(256, (3, 14, 12), generator=rng).float()
    pred = (gt * 0.8 + torch.randint(60, gt.shape, generator=rng)).clamp(0, 255)
    return dict(gt_image=gt, pred_image=pred, pred_codes=torch.randint(20, (3, 2, 2), generator=rng))


def evaluate(length: int, batch_size: int) -> dict[str, float]:
    """The numbers of `length` pictures, in batches; twice with the same metrics, the second time returned."""
    metrics = [ImageQuality(), CodebookUsage(32), PerceptualDistance(Difference()), FrechetDistance(Averages())]
    evaluator = Evaluator(metrics)
    samples = [sample(number) for number in range(length)]
    order = list(DefaultSampler(samples, shuffle=False))
    found = {}
    for _ in range(2):
        for start in range(0, len(order), batch_size):
            evaluator.process([samples[index] for index in order[start : start + batch_size]])
        found = evaluator.evaluate(length)
    return found


def main(folder: Path) -> None:
    logging.disable(logging.WARNING)
    torch.distributed.init_process_group("gloo")
    found = {f"{n} {size}": evaluate(n, size) for n, size in CASES}
    (folder / f"{get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_group()
