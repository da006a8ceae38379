"""A tokenizer with two optimisers goes on exactly where it was broken off, and stops at a loss that is not finite."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import engine.tiny  # noqa: F401, registers TinyDataset
from visionpatch.apis.exact_resume import differences
from visionpatch.engine import build_runner, load_config
from visionpatch.engine.checkpoint import load_checkpoint_file
from visionpatch.errors import NonFiniteLossError

TRAINING = """
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type='TinyDataset'),
                        sampler=dict(type='DefaultSampler', shuffle=True))
randomness = dict(seed=3)
adam = dict(type='Adam', lr=1e-3, betas=(0.5, 0.9))
clip = dict(type='value', clip_value=1.0)
model = dict(type='ImageTokenizer', channels=8, channel_mult=(1, 2), num_res_blocks=1, attn_levels=(1,), num_groups=4,
             codebook_size=16, ema_decay=0.9, revive_below=0.2, dropout=0.1,
             loss=dict(type='TokenizerLoss', start_step=3), discriminator=dict(channels=4, num_layers=1))
optim_wrapper = dict(constructor='OptimizerPerPart', autoencoder=dict(optimizer=adam, clip_grad=clip),
                     discriminator=dict(parts=['discriminator'], optimizer=adam, clip_grad=clip))
param_scheduler = dict(autoencoder=[], discriminator=[])
train_cfg = dict(by_epoch=False, max_iters=6)
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2), logger=dict(type='LoggerHook', interval=1))
"""


def config(folder: Path) -> Config:
    (folder / "tokenizer.py").write_text(TRAINING)
    return load_config(folder / "tokenizer.py")


def test_a_resumed_training_is_the_whole_one(tmp_path):
    assert differences(config(tmp_path), tmp_path / "runs", 6, [2, 4], interval=2) == []
    saved = load_checkpoint_file(tmp_path / "runs/resumed/iter_6.pth")
    assert set(saved["optimizer"]) == {"autoencoder", "discriminator"}
    assert saved["state_dict"]["loss.steps"] == 6
    steps = {name: int(next(iter(state["state"].values()))["step"]) for name, state in saved["optimizer"].items()}
    assert steps == {"autoencoder": 6, "discriminator": 3}


def test_an_adversarial_loss_that_is_not_finite_changes_nothing(tmp_path):
    cfg = config(tmp_path)
    cfg.model.loss.start_step = 0
    cfg.work_dir = str(tmp_path / "run")
    runner = build_runner(cfg)
    with torch.no_grad():
        runner.model.discriminator.main[0].bias.fill_(torch.nan)
    before = {name: p.clone() for name, p in runner.model.named_parameters()}
    with pytest.raises(NonFiniteLossError, match="iteration 1: .*loss_adversarial.* is not finite .*picture_"):
        runner.train()
    for name, parameter in runner.model.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0, equal_nan=True)
