"""Twelve small pictures of four classes, drawn by hand, for tests of episodes."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from visionpatch.datasets import EpisodeDataset

SIZE = (40, 48)  # (H, W)
CLASSES = ("background", "ant", "bee", "cat", "dog")
A, B, C, D = range(1, 5)
# of each picture: rectangles class, y0, x0, y1, x1
PICTURES = (
    [(A, 5, 5, 25, 25)],
    [(A, 0, 0, 20, 20), (B, 20, 20, 40, 44)],
    [(B, 5, 5, 25, 30)],
    [(B, 5, 5, 25, 30), (C, 30, 30, 31, 35)],  # the cat is too small to count
    [(C, 2, 2, 22, 22)],
    [(C, 0, 0, 20, 20), (D, 20, 20, 40, 40)],
    [(D, 10, 10, 30, 30)],
    [(A, 0, 0, 20, 20), (D, 20, 20, 40, 40)],
    [(D, 10, 10, 30, 30), (255, 0, 0, 4, 48)],
    [],
    [(A, 3, 3, 5, 8)],  # too small to count
    [(C, 0, 28, 20, 48)],
)
LOAD = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="SelectClass")]
PACK = [dict(type="PackInputs")]
TEST = [LOAD[0], dict(type="ResizeToCanvas", size=64), *LOAD[1:], *PACK]
SUPPORT = [*LOAD, dict(type="ResizeToCanvas", size=64), *PACK]
TRAIN = [
    *LOAD,
    dict(type="RandomScale"),
    dict(type="RandomRotate"),
    dict(type="RandomGaussianBlur"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ForegroundCrop", crop_size=41),
    *PACK,
]


def labels_of(index: int) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    for value, top, left, bottom, right in PICTURES[index]:
        labels[top:bottom, left:right] = value
    return labels


def write(folder: Path) -> Path:
    """The pictures (noise) and their masks."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for index in range(len(PICTURES)):
        image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"images/{index:02d}.png"), image)
        cv2.imwrite(str(folder / f"masks/{index:02d}.png"), labels_of(index))
    return folder


def source(folder: Path, **more: Any) -> dict[str, Any]:
    prefix = dict(img_path="images", seg_map_path="masks")
    return dict(type="FolderDataset", data_root=str(folder), data_prefix=prefix, metainfo=dict(classes=CLASSES)) | more


def episodes(folder: Path, **more: Any) -> EpisodeDataset:
    """Fold 0 of 2: ant and bee are novel."""
    test = more.get("test_mode", True)
    pipelines = dict(pipeline=TEST, support_pipeline=SUPPORT) if test else dict(pipeline=TRAIN)
    return EpisodeDataset(source(folder), **(dict(num_folds=2, min_pixels=100, test_mode=test) | pipelines | more))
