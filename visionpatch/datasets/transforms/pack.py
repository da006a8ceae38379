"""From the dict of a pipeline to what a model takes."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData

from visionpatch.registry import TRANSFORMS
from visionpatch.structures import DataSample

from .base import BaseTransform, Results

META_KEYS = (
    "img_path",
    "seg_path",
    "img_id",
    "sample_idx",
    "ori_shape",
    "img_shape",
    "pad_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "reduce_zero_label",
)


@TRANSFORMS.register_module(name=["PackInputs", "PackSegInputs", "PackDetInputs"])
class PackInputs(BaseTransform):
    """Pack a sample as dict(inputs=..., data_samples=...).

    ``inputs`` is the image as a (3, H, W) tensor, BGR, uint8 or uint16: a view of the (H, W, 3) array, without a copy.
    ``data_samples`` holds ``gt_sem_seg`` (1, H, W) uint8, ``gt_label`` (1,) int64, ``gt_instances`` and
    ``ignored_instances`` (bboxes, labels, and masks (n, H, W) uint8) where the pipeline made them, and the metadata.

    Args:
        meta_keys: the keys kept as metadata; absent ones are left out.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: Results) -> Results:
        sample = DataSample(metainfo={key: results[key] for key in self.meta_keys if key in results})
        if "gt_seg_map" in results:
            # a crop is copied here: as a view it would carry the whole picture between processes
            labels = np.ascontiguousarray(results["gt_seg_map"])
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels)[None])  # (1, H, W)
        if "gt_label" in results:
            sample.gt_label = torch.as_tensor(results["gt_label"], dtype=torch.int64).reshape(-1)
        if "gt_bboxes" in results:
            ignored = results["gt_ignore_flags"]
            sample.gt_instances, sample.ignored_instances = _instances(results, ~ignored), _instances(results, ignored)
        image = np.ascontiguousarray(results["img"])
        return dict(inputs=torch.from_numpy(image).permute(2, 0, 1), data_samples=sample)  # (3, H, W)


def _instances(results: Results, chosen: np.ndarray) -> InstanceData:
    """The objects where `chosen` (n,) is True."""
    made = InstanceData()
    for name, key in (("bboxes", "gt_bboxes"), ("labels", "gt_bboxes_labels"), ("masks", "gt_masks")):
        if key in results:
            values = results[key] if chosen.all() else results[key][chosen]
            setattr(made, name, torch.from_numpy(np.ascontiguousarray(values)))
    return made
