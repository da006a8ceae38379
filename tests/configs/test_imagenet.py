"""The ImageNet recipe: the learning rate of every iteration, what is decayed, and a step through its whole pipeline."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from visionpatch.datasets import ImageFolderDataset
from visionpatch.engine.config import load_config
from visionpatch.registry import MODELS, PARAM_SCHEDULERS

CONFIG = Path(__file__).resolve().parents[2] / "configs/crossformer/crossformer-s_8xb128-300e_in1k.py"
ARCH = dict(embed_dims=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))


@pytest.fixture
def cfg():
    config = load_config(CONFIG, {"model.head.in_channels": 256, "model.head.num_classes": 43})
    config.model.backbone.arch = ARCH
    return config


def test_learning_rates_are_the_published_ones(cfg) -> None:
    """timm's cosine with warm-up, counted from step 0: 1e-6 to 1e-3 in 20 epochs, then to 1e-5 after 300."""
    epoch = 10
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(one, optimizer=optimizer, epoch_length=epoch)) for one in cfg.param_scheduler
    ]
    rates = []
    for _ in range(300 * epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()

    def cosine(t: int) -> float:
        return 1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(math.pi * t / (300 * epoch)))

    assert rates[0] == pytest.approx(1e-6)
    for t in range(1, 20 * epoch):  # beneath it the cosine already falls, by 1 % at the end
        assert rates[t] == pytest.approx(1e-6 + (1e-3 - 1e-6) * t / (20 * epoch), rel=0.012)
    for t in range(20 * epoch, 300 * epoch):
        assert rates[t] == pytest.approx(cosine(t), rel=1e-3)


def test_biases_norms_and_other_vectors_are_not_decayed(cfg) -> None:
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0.05 if parameter.ndim > 1 else 0.0), name


def test_one_step_through_the_whole_recipe(cfg, real_data) -> None:
    folder = str(real_data / "gtsrb_small" / "train")
    train = ImageFolderDataset(data_root=folder, pipeline=cfg.train_dataloader.dataset.pipeline)
    test = ImageFolderDataset(data_root=folder, pipeline=cfg.val_dataloader.dataset.pipeline)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    batch = [train[i] for i in (0, 300, 600, 781)]
    assert all(sample["inputs"].shape == (3, 224, 224) for sample in batch)
    data = dict(inputs=[one["inputs"] for one in batch], data_samples=[one["data_samples"] for one in batch])
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = model.head.fc.weight.detach().clone()
    losses = model.train_step(data, optim_wrapper)
    # logits near 0 in the beginning: the cross entropy of any target is near log 43
    assert losses["loss"].item() == pytest.approx(math.log(43), abs=0.6)
    assert not torch.equal(model.head.fc.weight, before)
    sample = model.eval().test_step(dict(inputs=[test[5]["inputs"]], data_samples=[test[5]["data_samples"]]))[0]
    assert sample.pred_score.shape == (43,) and int(sample.gt_label) == 0
