"""Trains a small tokenizer; by itself, or in as many processes as torchrun starts, each with its part of the batches.

python tokenizer_ranks.py FOLDER adversarial|plain
"""

import os
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.model import MMSeparateDistributedDataParallel
from mmengine.optim import OptimWrapperDict
from torch import Tensor

from visionpatch.engine import OptimizerPerPart
from visionpatch.models import ImageTokenizer

STEPS, BATCH = 3, 4


def train(folder: Path, adversarial: bool) -> None:
    torch.manual_seed(0)
    net = ImageTokenizer(
        channels=8, channel_mult=(1, 2), num_res_blocks=1, attn_levels=(1,), num_groups=4, codebook_size=16,
        ema_decay=0.9, revive_below=0.3 if adversarial else 0.0, loss=dict(type="TokenizerLoss"),
        discriminator=dict(channels=4, num_layers=1) if adversarial else None,
    ).train()  # fmt: skip
    images = torch.randint(256, (STEPS, BATCH, 3, 16, 16), dtype=torch.uint8)
    model = net
    if get_world_size() > 1:
        model = MMSeparateDistributedDataParallel(net, broadcast_buffers=False, find_unused_parameters=False)
    wrappers = optimisers(model, adversarial)
    torch.manual_seed(get_rank())  # processes draw different numbers
    for step in images:
        model.train_step({"inputs": list(step[get_rank() :: get_world_size()])}, wrappers)
    name = f"{'adversarial' if adversarial else 'plain'}_{get_world_size()}_{get_rank()}.pth"
    torch.save({plain(key): tensor for key, tensor in net.state_dict().items()}, folder / name)


def optimisers(model: torch.nn.Module, adversarial: bool) -> OptimWrapperDict:
    sgd = dict(type="SGD", lr=0.05, momentum=0.9)
    entries = dict(autoencoder=dict(optimizer=sgd))
    if adversarial:
        entries["discriminator"] = dict(parts=["discriminator"], optimizer=sgd)
    return OptimizerPerPart(entries)(model)


def plain(name: str) -> str:
    return name.replace("module.", "")


def codebook(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[f"quantizer.{name}"] for name in ("embedding.weight", "ema_count", "ema_sum")}


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
    for kind in sys.argv[2:]:
        train(Path(sys.argv[1]), kind == "adversarial")
    if "RANK" in os.environ:
        torch.distributed.destroy_process_group()
