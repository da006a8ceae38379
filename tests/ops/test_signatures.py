"""The ops' arguments are an interface, mmcv's: one may be added at the end, never renamed, moved or changed."""

import inspect

import pytest

from visionpatch import ops

SIGNATURES = {
    "batched_nms": "boxes, scores, idxs, nms_cfg, class_agnostic=False",
    "deform_conv2d": "input, offset, weight, stride=1, padding=0, dilation=1, groups=1, deform_groups=1, bias=False, "
    "im2col_step=32",
    "modulated_deform_conv2d": "input, offset, mask, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, "
    "deform_groups=1",
    "multi_scale_deformable_attn": "value, value_spatial_shapes, sampling_locations, attention_weights, im2col_step=64",
    "nms": "boxes, scores, iou_threshold, offset=0, score_threshold=0, max_num=-1",
    "point_sample": "input, points, align_corners=False, *, mode='bilinear', padding_mode='zeros'",
    "roi_align": "input, rois, output_size, spatial_scale=1.0, sampling_ratio=0, pool_mode='avg', aligned=True",
    "sigmoid_focal_loss": "input, target, gamma=2.0, alpha=0.25, weight=None, reduction='mean'",
    "soft_nms": "boxes, scores, iou_threshold=0.3, sigma=0.5, min_score=0.001, method='linear', offset=0",
}


@pytest.mark.parametrize("name", ops.__all__)
def test_signatures(name):
    signature = inspect.signature(getattr(ops, name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    bare = signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)
    assert str(bare) == f"({SIGNATURES[name]})"
