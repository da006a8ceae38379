"""Time our training pipeline against mmcv's and MMSegmentation's: decode, resize, crop, flip, pack; one thread.

    python benchmarks/transforms.py data/VOCdevkit/VOC2012 [--images 100] [--rounds 3]

Both sides read the same pictures with the same random numbers, in turn, picture by picture. MMSegmentation's own
classes are timed when it can be imported; otherwise its label loading, crop and packing are restated here. Needs mmcv
and Pillow.
"""

import argparse
import sys
import time

import cv2
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile, RandomFlip, RandomResize
from mmengine.structures import PixelData
from rich.console import Console
from rich.table import Table

from visionpatch.datasets import PascalVOCDataset
from visionpatch.random_state import mix
from visionpatch.structures import DataSample

BAR = 1.3
PIPELINE = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackInputs"),
]


class PillowLabels:
    """Labels as MMSegmentation reads them by default: with Pillow."""

    def __call__(self, results):
        import io

        import mmengine.fileio as fileio
        from PIL import Image

        data = fileio.get(results["seg_map_path"])
        with Image.open(io.BytesIO(data)) as image:
            results["gt_seg_map"] = np.array(image).squeeze().astype(np.uint8)
        results["seg_fields"].append("gt_seg_map")
        return results


class UniqueCrop:
    """A crop of 512 x 512 that counts classes with np.unique."""

    def __call__(self, results):
        height, width = results["img"].shape[:2]
        window = self.draw(height, width)
        for _ in range(10):
            labels, counts = np.unique(results["gt_seg_map"][window], return_counts=True)
            counts = counts[labels != 255]
            if len(counts) > 1 and counts.max() / counts.sum() < 0.75:
                break
            window = self.draw(height, width)
        results["img"], results["gt_seg_map"] = results["img"][window], results["gt_seg_map"][window]
        return results

    @staticmethod
    def draw(height, width):
        top, left = np.random.randint(0, max(height - 512, 0) + 1), np.random.randint(0, max(width - 512, 0) + 1)
        return slice(top, top + 512), slice(left, left + 512)


class CopyPack:
    """A contiguous (3, H, W) image and int64 labels."""

    def __call__(self, results):
        image = torch.from_numpy(np.ascontiguousarray(results["img"].transpose(2, 0, 1)))
        sample = DataSample()
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(results["gt_seg_map"][None].astype(np.int64)))
        return dict(inputs=image, data_samples=sample)


def baseline():
    """(name, transforms) of the other side."""
    head, flip = LoadImageFromFile(), RandomFlip(prob=0.5)
    resize = RandomResize(scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True)
    try:
        from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs, RandomCrop
    except (ImportError, AssertionError):
        return "mmcv + restated MMSegmentation", [head, PillowLabels(), resize, UniqueCrop(), flip, CopyPack()]
    crop = RandomCrop(crop_size=(512, 512), cat_max_ratio=0.75)
    return "mmcv + MMSegmentation", [head, LoadAnnotations(), resize, crop, flip, PackSegInputs()]


def run_baseline(transforms, info):
    results = dict(
        img_path=info["img_path"],
        seg_map_path=info["seg_path"],
        reduce_zero_label=False,
        label_map=None,
        seg_fields=[],
    )
    for transform in transforms:
        results = transform(results)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description="ratio of the transform pipelines, one thread")
    parser.add_argument("data_root", nargs="?", default="data/VOCdevkit/VOC2012")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    split = "ImageSets/Segmentation/train.txt"
    dataset = PascalVOCDataset(data_root=args.data_root, ann_file=split, pipeline=PIPELINE, indices=args.images)
    name, transforms = baseline()
    times = np.zeros((2, args.rounds, len(dataset)))
    for turn in range(args.rounds):
        for index in range(len(dataset)):
            start = time.perf_counter()
            dataset[turn * len(dataset) + index]
            middle = time.perf_counter()
            np.random.seed(mix(dataset.seed, turn, index) & 0xFFFFFFFF)
            begun = time.perf_counter()
            run_baseline(transforms, dataset.get_data_info(index))
            times[:, turn, index] = middle - start, time.perf_counter() - begun
    ours, other = np.median(times.reshape(2, -1), axis=1) * 1e3
    ratio = float(times[1].sum() / times[0].sum())
    table = Table("pipeline", "median ms / picture", "mean ms / picture", title=f"{times[0].size} pictures each")
    table.add_row("visionpatch", f"{ours:.2f}", f"{times[0].mean() * 1e3:.2f}")
    table.add_row(name, f"{other:.2f}", f"{times[1].mean() * 1e3:.2f}")
    console = Console()
    console.print(table)
    console.print(f"ratio of medians {other / ours:.2f}, of sums {ratio:.2f} (bar {BAR})")
    return 0 if min(ratio, other / ours) >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
