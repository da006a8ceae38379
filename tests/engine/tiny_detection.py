"""A detector without weights, a COCO folder of drawn rectangles, and a config of both."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from visionpatch.registry import MODELS

CLASSES = ("red", "green", "blue")
COLOURS = ((0, 0, 250), (0, 250, 0), (250, 0, 0))  # BGR
SIZE = (60, 80)  # (H, W)
# x, y, width, height and label; picture 3 has none, and "miss" in the name of 2 tells the detector to look away
OBJECTS = (
    ([10, 10, 20, 30, 0], [50, 20, 20, 20, 1]),
    ([0, 0, 40, 40, 2],),
    ([30, 10, 40, 40, 1],),
    (),
)
NAMES = ("one.png", "two.png", "miss.png", "none.png")


@MODELS.register_module()
class TinyBoxHead(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes


@MODELS.register_module()
class TinyDetector(BaseModel):
    """Finds the rectangle of each colour; scores 0.9, 0.8, 0.7."""

    def __init__(self, bbox_head: dict) -> None:
        super().__init__()
        self.bbox_head = MODELS.build(bbox_head)
        self.num_classes = self.bbox_head.num_classes
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: list[Tensor], data_samples: Any = None, mode: str = "tensor") -> Any:
        for image, sample in zip(inputs, data_samples, strict=True):
            sample.pred_instances = self._find(image, sample)
        return data_samples

    def _find(self, image: Tensor, sample: Any) -> InstanceData:
        boxes, labels, masks = [], [], []
        for label, channel in enumerate((2, 1, 0)):
            inside = image[channel] > 128
            if inside.any() and "miss" not in sample.img_path:
                rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
                box = torch.cat([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / torch.tensor(
                    [*sample.scale_factor, *sample.scale_factor]
                )
                mask = torch.zeros(sample.ori_shape, dtype=torch.bool)
                x1, y1, x2, y2 = box.round().int().tolist()
                mask[y1:y2, x1:x2] = True
                boxes.append(box)
                labels.append(label)
                masks.append(mask)
        return InstanceData(
            bboxes=torch.stack(boxes) if boxes else torch.zeros(0, 4),
            labels=torch.tensor(labels, dtype=torch.int64),
            scores=torch.tensor([0.9, 0.8, 0.7][: len(boxes)]),
            masks=torch.stack(masks) if masks else torch.zeros(0, *sample.ori_shape, dtype=torch.bool),
        )


CONFIG = """
model = dict(type='TinyDetector', bbox_head=dict(type='TinyBoxHead', num_classes=3))
test_pipeline = [dict(type='LoadImage'), dict(type='Resize', scale=(160, 120), keep_ratio=True),
                 dict(type='LoadAnnotations', with_bbox=True, with_mask=True), dict(type='PackInputs')]
test_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CocoDataset', data_root=ROOT, ann_file='truth.json', data_prefix=dict(img='images'),
                 test_mode=True, pipeline=test_pipeline))
test_cfg = dict()
test_evaluator = dict(type='CocoMetric', ann_file=ROOT + '/truth.json', metric=['bbox', 'segm'],
                      outfile_prefix=ROOT + '/results')
"""


def write_coco(folder: Path) -> Path:
    """Four pictures and their truth.json."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, (name, objects) in enumerate(zip(NAMES, OBJECTS, strict=True)):
        picture = np.full((*SIZE, 3), 40, dtype=np.uint8)
        for x, y, w, h, label in objects:
            cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), COLOURS[label], cv2.FILLED)
            entry = dict(id=1 + len(annotations), image_id=10 + number, category_id=1 + label, iscrowd=0, area=w * h)
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(entry | dict(bbox=[x, y, w, h], segmentation=[corners]))
        cv2.imwrite(str(folder / "images" / name), picture)
        images.append(dict(id=10 + number, file_name=name, height=SIZE[0], width=SIZE[1]))
    categories = [dict(id=1 + label, name=name) for label, name in enumerate(CLASSES)]
    path = folder / "truth.json"
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return path


def write_detection_config(folder: Path) -> Path:
    """The config as a file, its data beside it."""
    write_coco(folder)
    path = folder / "detect.py"
    path.write_text(CONFIG.replace("ROOT", repr(str(folder))))
    return path
