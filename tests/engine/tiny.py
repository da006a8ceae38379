"""A model, a dataset and a config small enough for a whole run in a second."""

from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn
from torch.utils.data import Dataset

from visionpatch.registry import DATASETS, METRICS, MODELS
from visionpatch.structures import DataSample

CLASSES = ("sky", "tree", "road")


@MODELS.register_module()
class TinyBackbone(nn.Module):
    out_channels, out_strides = (8,), (2,)

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.conv(x).relu(),)


@MODELS.register_module()
class TinySegmentor(BaseModel):
    def __init__(self, backbone: dict, num_classes: int = 3, test_cfg: dict | None = None) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.decode_head = nn.Conv2d(8, num_classes, 1)
        self.num_classes = num_classes
        self.test_cfg = dict(test_cfg or {})

    def forward(self, inputs: list[Tensor], data_samples: Any = None, mode: str = "tensor") -> Any:
        x = torch.stack(list(inputs)).float() / 255
        logits = self.decode_head(self.backbone(x)[0])
        logits = nn.functional.interpolate(logits, size=x.shape[-2:])
        if mode == "tensor":
            return logits
        if mode == "loss":
            target = torch.cat([s.gt_sem_seg.data for s in data_samples]).long()
            return {"loss_ce": nn.functional.cross_entropy(logits, target)}
        for sample, score in zip(data_samples, logits, strict=True):
            sample.pred_sem_seg = PixelData(data=score.argmax(0, keepdim=True))
        return data_samples


@DATASETS.register_module()
class TinyDataset(Dataset):
    """`length` pictures of 16 x 12 pixels whose label is the brightest of their three channels."""

    def __init__(self, length: int = 4, poison: int | None = None, classes: tuple[str, ...] = CLASSES) -> None:
        self.length, self.poison = length, poison
        self.metainfo = dict(classes=tuple(classes), palette=[(0, 0, 255), (0, 160, 0), (90, 90, 90)][: len(classes)])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        image = torch.randint(0, 256, (3, 12, 16), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
        label = image.argmax(0, keepdim=True)
        inputs = image.float() * float("nan") if index == self.poison else image
        sample = DataSample(metainfo=dict(img_path=f"picture_{index}.png", ori_shape=(12, 16), img_shape=(12, 16)))
        sample.gt_sem_seg = PixelData(data=label)
        return dict(inputs=inputs, data_samples=sample)


@METRICS.register_module()
class TinyAccuracy(BaseMetric):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        for sample in data_samples:
            fields = {key.lstrip("_"): value for key, value in sample.items()}
            self.results.append((fields["pred_sem_seg"]["data"] == fields["gt_sem_seg"]["data"]).float().mean().item())

    def compute_metrics(self, results: list) -> dict:
        return {"acc": sum(results) / len(results)}


CONFIG = """
width = 8
model = dict(type='TinySegmentor', num_classes=3, backbone=dict(type='TinyBackbone', width=width))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type='TinyDataset'),
                        sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(type='TinyDataset', length=2),
                      sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='TinyAccuracy')
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
param_scheduler = [dict(type='LinearLR', start_factor=0.5, begin=0, end=2)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='acc'),
                     logger=dict(type='LoggerHook', interval=1))
randomness = dict(seed=3)
"""


def write_config(folder: Path, *changes: tuple[str, str], name: str = "tiny.py") -> Path:
    """The config as a file, with textual changes (old, new)."""
    text = CONFIG
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    return path
