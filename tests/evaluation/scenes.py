"""Made-up pictures with boxes and masks, and predictions near them: right, shifted, of another class, or nothing."""

from typing import Any

import numpy as np
import torch

CLASSES = ("cat", "dog", "emu")
SIZE = (150, 200)  # (H, W)


def ellipse(box: np.ndarray) -> np.ndarray:
    """The ellipse that fills a box, as a mask of SIZE."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    centre, radius = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 0.5)
    return ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 <= 1


def fields(boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray | None = None) -> dict[str, Any]:
    """What InstanceData becomes on its way to a metric."""
    boxes = boxes.reshape(-1, 4).astype(np.float32)
    masks = np.stack([ellipse(box) for box in boxes]) if len(boxes) else np.zeros((0, *SIZE), bool)
    made = dict(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels.astype(np.int64)))
    made["masks"] = torch.from_numpy(masks)
    return made if scores is None else made | dict(scores=torch.from_numpy(scores.astype(np.float32)))


def scene(number: int, seed: int = 0) -> dict[str, Any]:
    """A sample as a metric gets it. Picture 1 is empty, 2 has no predictions, every third object is a crowd."""
    rng = np.random.default_rng([seed, number])
    count = 0 if number == 1 else int(rng.integers(1, 7))
    centres, sides = rng.uniform(30, 120, (count, 2)), rng.uniform(6, 160, (count, 2))
    boxes = np.clip(np.hstack([centres - sides / 2, centres + sides / 2]), 0, [*SIZE[::-1], *SIZE[::-1]])
    labels, crowd = rng.integers(0, 3, count), rng.random(count) < 0.25
    copies = np.repeat(np.arange(count), 3)
    found = boxes[copies] + rng.normal(0, 4, (len(copies), 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
    classes = np.where(rng.random(len(copies)) < 0.8, labels[copies], rng.integers(0, 3, len(copies)))
    scores = rng.choice(np.linspace(0.05, 1, 12), len(copies))  # ties
    if number == 2:
        found, classes, scores = found[:0], classes[:0], scores[:0]
    return dict(
        img_id=100 + number,
        img_path=f"{number}.png",
        ori_shape=SIZE,
        gt_instances=fields(boxes[~crowd], labels[~crowd]),
        ignored_instances=fields(boxes[crowd], labels[crowd]),
        pred_instances=fields(found, classes, scores),
    )
