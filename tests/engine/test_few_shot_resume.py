"""A training on episodes resumes to the last bit, and its evaluation does not depend on batches and workers."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import nn

from engine.tiny import write_config
from visionpatch.apis.exact_resume import differences
from visionpatch.engine import build_runner, load_config
from visionpatch.registry import MODELS

LOAD = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="SelectClass")]
AUGMENT = [
    dict(type="RandomScale"),
    dict(type="RandomRotate"),
    dict(type="RandomGaussianBlur"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ForegroundCrop", crop_size=24),
]
PACK = [dict(type="PackInputs")]
CLASSES = ("background", "ant", "bee", "cat", "dog")


@MODELS.register_module()
class TinyFewShot(BaseModel):
    """Calls the pixels of the query that look like the masked pixels of the supports; every byte has an influence."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Linear(3, 3)
        self.threshold = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor") -> Any:
        logits = [self._logits(image, sample.support) for image, sample in zip(inputs, data_samples)]
        if mode == "loss":
            labels = torch.stack([sample.gt_sem_seg.data[0] for sample in data_samples])
            known, scores = labels != 255, torch.stack(logits)
            return dict(loss=nn.functional.binary_cross_entropy_with_logits(scores[known], labels[known].float()))
        for sample, score in zip(data_samples, logits):
            sample.pred_sem_seg = PixelData(data=(score > 0).to(torch.uint8)[None])
        return data_samples

    def _logits(self, image: torch.Tensor, support: list) -> torch.Tensor:
        masks = [other.gt_sem_seg.data[0] == 1 for other in support]
        means = [(other.image / 255 * m).sum((1, 2)) / (m.sum() + 1) for other, m in zip(support, masks)]
        prototype = self.colour(torch.stack(means).mean(0))
        return ((image / 255 - 0.5) * prototype[:, None, None]).sum(0) + self.threshold


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty of noise; number i shows class 1 + i % 4 in its colour."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for index in range(20):
        image, mask = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8), np.zeros((40, 48), np.uint8)
        mask[5:25, 5 + index : 25 + index] = 1 + index % 4
        image[mask > 0] //= 1 + index % 4
        cv2.imwrite(str(folder / f"images/{index:02d}.png"), image)
        cv2.imwrite(str(folder / f"masks/{index:02d}.png"), mask)
    return folder


def config(pictures: Path, folder: Path, workers: int = 0, batch_size: int = 1) -> Config:
    cfg = load_config(write_config(folder))
    source = dict(type="FolderDataset", data_root=str(pictures), metainfo=dict(classes=CLASSES))
    source["data_prefix"] = dict(img_path="images", seg_map_path="masks")
    episodes: dict[str, Any] = dict(type="EpisodeDataset", dataset=source, num_folds=2, shot=2, min_pixels=100)
    for name in ("train", "val", "test"):
        cfg[f"{name}_dataloader"].num_workers = workers
        cfg[f"{name}_dataloader"].dataset = episodes | dict(pipeline=LOAD + AUGMENT + PACK)
    test = episodes | dict(pipeline=LOAD + PACK, num_episodes=15, runs=2, test_mode=True)
    for name in ("val", "test"):
        cfg[f"{name}_dataloader"] |= dict(dataset=test, batch_size=batch_size)
    cfg.train_dataloader.sampler = dict(type="TrainSampler")
    cfg.model = dict(type="TinyFewShot")
    cfg.val_evaluator = cfg.test_evaluator = dict(type="FewShotMetric", classwise=True)
    cfg.default_hooks.checkpoint |= dict(save_best="mIoU", by_epoch=False, interval=4)
    cfg.train_cfg = dict(by_epoch=False, max_iters=8, val_interval=4)
    cfg.log_level, cfg.work_dir = "ERROR", str(folder / "work")
    return cfg


@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_episodes_resumes_exactly(pictures: Path, tmp_path: Path, workers: int) -> None:
    cfg = config(pictures, tmp_path, workers)
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg.pop(key)
    cfg.default_hooks.checkpoint.pop("save_best")
    assert differences(cfg, tmp_path, iterations=8, breaks=[3, 5]) == []


def test_evaluation_depends_on_nothing_but_its_seed(pictures: Path, tmp_path: Path) -> None:
    found = []
    for number, (batch_size, workers, seed) in enumerate([(1, 0, 3), (1, 0, 3), (3, 0, 3), (3, 2, 3), (1, 0, 4)]):
        (tmp_path / str(number)).mkdir()
        cfg = config(pictures, tmp_path / str(number), workers, batch_size)
        cfg.randomness.seed = seed  # of the run: not that of the episodes
        runner = build_runner(cfg)
        with torch.no_grad():
            runner.model.colour.weight.copy_(torch.eye(3))
            runner.model.colour.bias.fill_(0.1)
        found.append(runner.test())
    assert all(numbers == found[0] for numbers in found[1:])
    assert 0 < found[0]["mIoU"] < 100 and found[0]["mIoU_ci95"] > 0 and "ant_IoU" in found[0]
    cfg.test_dataloader.dataset.episode_seed = 5
    assert build_runner(cfg).test() != found[0]


def test_a_whole_training_with_validation(pictures: Path, tmp_path: Path) -> None:
    runner = build_runner(config(pictures, tmp_path))
    runner.train()
    assert {"val/mIoU", "val/FBIoU", "val/pIoU", "val/mIoU_ci95"} <= set(runner.message_hub.log_scalars)
    assert list((tmp_path / "work").glob("best_mIoU_iter_*.pth"))
