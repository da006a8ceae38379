"""Ops of detection heads and deformable layers, with mmcv's signatures and numbers.

Each has a form in plain torch; mmcv's compiled kernel runs instead where one is installed and supports the device and
dtype. ``python -m visionpatch.ops`` prints which implementation serves each op here.
"""

from visionpatch.ops.batched_nms import batched_nms
from visionpatch.ops.deform_attn import multi_scale_deformable_attn
from visionpatch.ops.deform_conv import deform_conv2d, modulated_deform_conv2d
from visionpatch.ops.focal_loss import sigmoid_focal_loss
from visionpatch.ops.nms import nms
from visionpatch.ops.point_sample import point_sample
from visionpatch.ops.roi_align import roi_align
from visionpatch.ops.soft_nms import soft_nms

__all__ = [
    "batched_nms",
    "deform_conv2d",
    "modulated_deform_conv2d",
    "multi_scale_deformable_attn",
    "nms",
    "point_sample",
    "roi_align",
    "sigmoid_focal_loss",
    "soft_nms",
]
