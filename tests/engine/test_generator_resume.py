"""The training of a generator goes on exactly where it was broken off; its tokenizer is as it was loaded."""

from pathlib import Path

import torch

import engine.tiny  # noqa: F401, registers TinyDataset
from visionpatch.apis.exact_resume import differences
from visionpatch.engine import load_config
from visionpatch.engine.checkpoint import load_checkpoint_file
from visionpatch.models import ImageTokenizer
from visionpatch.registry import DATASETS

SHAPE = dict(channels=8, channel_mult=(1, 2), num_res_blocks=1, attn_levels=(1,), num_groups=4, codebook_size=16)
TRAINING = """
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type='TinyLabels'),
                        sampler=dict(type='DefaultSampler', shuffle=True))
randomness = dict(seed=3)
model = dict(type='MaskedTokenGenerator', cached_pictures=CACHED,
             tokenizer=dict(type='ImageTokenizer', **SHAPE, init_cfg=dict(type='Pretrained', checkpoint='FILE')),
             transformer=dict(type='MaskedTokenTransformer', codebook_size=16, map_size=(6, 8), channels=16, depth=2,
                              num_heads=2, mlp_channels=32, num_classes=3))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.96), weight_decay=4.5e-2))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4)]
train_cfg = dict(by_epoch=False, max_iters=6)
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2), logger=dict(type='LoggerHook', interval=1))
"""


@DATASETS.register_module()
class TinyLabels(engine.tiny.TinyDataset):
    """TinyDataset with a class for each picture."""

    def __getitem__(self, index: int) -> dict:
        item = super().__getitem__(index)
        item["data_samples"].gt_label = torch.tensor([index % 3])
        return item


def written(folder: Path, cached: int) -> Path:
    torch.manual_seed(1)
    torch.save({"state_dict": ImageTokenizer(**SHAPE).state_dict()}, folder / "tokenizer.pth")
    text = TRAINING.replace("FILE", str(folder / "tokenizer.pth")).replace("CACHED", str(cached))
    (folder / "generator.py").write_text(text.replace("**SHAPE", f"**{SHAPE}"))
    return folder / "generator.py"


def test_a_resumed_training_is_the_whole_one(tmp_path):
    assert differences(load_config(written(tmp_path, 4)), tmp_path / "runs", 6, [2, 4], interval=2) == []
    saved = load_checkpoint_file(tmp_path / "runs/resumed/iter_6.pth")["state_dict"]
    loaded = load_checkpoint_file(tmp_path / "tokenizer.pth")["state_dict"]
    for name, tensor in loaded.items():
        assert torch.equal(saved[f"tokenizer.{name}"], tensor), name
    fresh = load_checkpoint_file(tmp_path / "runs/resumed/iter_2.pth")["state_dict"]
    assert not torch.equal(saved["transformer.tokens.weight"], fresh["transformer.tokens.weight"])
