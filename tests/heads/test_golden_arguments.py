"""How published arguments of the heads become ours, and how masks are compared."""

import numpy as np
import pytest
import torch
from check_golden import find_adapter, masks_error
from golden import detection, heads
from golden.heads import translate
from golden.rule import draw

from visionpatch.errors import ConfigError
from visionpatch.heads import PseudoSampler


def test_published_arguments_without_counterpart_are_refused() -> None:
    head = dict(type="FCNHead", in_channels=8, channels=4, num_classes=2)
    with pytest.raises(ConfigError, match="input_transform='resize_concat'"):
        translate({**head, "input_transform": "resize_concat"})
    assert translate({**head, "input_transform": None}) == {
        **head, "norm_cfg": None, "loss_decode": [{"type": "CrossEntropyLoss"}],
    }  # fmt: skip


def test_the_published_pixel_sampler_becomes_the_loss_option() -> None:
    sampler = dict(type="OHEMPixelSampler", thresh=0.7, min_kept=10)
    ours = translate(dict(type="FCNHead", in_channels=8, channels=4, num_classes=2, sampler=sampler))
    assert ours["loss_decode"] == [dict(type="CrossEntropyLoss", ohem=dict(thresh=0.7, min_kept=10))]
    assert "sampler" not in ours


def test_published_arguments_of_detection_heads():
    coder = dict(type="DeltaXYWHBBoxCoder", add_ctr_clamp=False, ctr_clamp=32)
    head = dict(type="RetinaHead", num_classes=2, in_channels=8, bbox_coder=coder, init_cfg=None)
    ours = detection.translate(head)
    assert ours["bbox_coder"] == dict(type="DeltaXYWHBBoxCoder") and "init_cfg" not in ours
    assert ours["loss_bbox"] == dict(type="SmoothL1Loss", beta=1 / 9)  # the published class's own default
    assert detection.translate({**head, "reg_decoded_bbox": True})["reg_decoded_bbox"] is True
    with pytest.raises(ConfigError, match="add_ctr_clamp=True"):
        detection.translate({**head, "bbox_coder": {**coder, "add_ctr_clamp": True}})
    with pytest.raises(ConfigError, match="num_classes of RPNHead"):
        detection.build(dict(type="RPNHead", in_channels=8, num_classes=3))


def test_masks_may_differ_in_a_few_pixels():
    masks = torch.zeros(2, 20, 20, dtype=torch.bool)
    masks[0, 2:9, 2:9] = True
    near, far = masks.clone(), masks.clone()
    near[0, 2, 2:4] = False
    far[0, 2, 2:5] = False
    reference = detection.packed(masks).numpy()
    assert masks_error(detection.packed(near), reference, "") == 0
    assert masks_error(detection.packed(far), reference, "") == float("inf")
    assert masks_error(torch.tensor([48, 0]), np.array([49, 2]), "") == 0
    assert masks_error(torch.tensor([49, 3]), np.array([49, 0]), "") == float("inf")
    assert masks_error(None, reference, "") == masks_error(detection.packed(near)[:1], reference, "") == float("inf")


@pytest.mark.parametrize(
    ("kind", "args", "outputs"),
    [
        ("Shared2FCBBoxHead", dict(fc_out_channels=3, roi_feat_size=7), {"cls_score": (2, 6), "bbox_pred": (2, 20)}),
        ("FCNMaskHead", dict(num_convs=1, conv_out_channels=3), {"mask_logits": (2, 5, 14, 14)}),
    ],
)
def test_a_head_of_the_second_stage_alone(kind, args, outputs):
    model = dict(type=kind, in_channels=4, num_classes=5, **args)
    prefix = "roi_head.mask_head." if kind == "FCNMaskHead" else "roi_head.bbox_head."
    state = {prefix + name: x for name, x in detection.build(model).state_dict().items()}
    case = dict(source=f"class {kind}", model=model, inputs=dict(x=[dict(draw="x", shape=[2, 4, 7, 7])]))
    found = find_adapter(case)(case, {}, state, draw)
    assert {name: tuple(found[name].shape) for name in outputs} == outputs


def test_a_sampler_that_is_not_given_takes_all_anchors():
    """So do the published dense heads; our RPNHead draws 256 by default."""
    train = dict(assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.7, neg_iou_thr=0.3), allowed_border=-1)
    head = detection.build(dict(type="RPNHead", in_channels=8, feat_channels=8, train_cfg=train))
    assert isinstance(head.sampler, PseudoSampler)


@pytest.mark.parametrize(
    ("notes", "inputs", "training"),
    [("", ["x"], False), ("", ["x", "gt_instances"], True), ("eval mode: ...", ["x", "batch_gt_instances"], False)],
)
def test_the_mode_is_that_of_the_notes(notes, inputs, training):
    assert detection.is_training(dict(notes=notes, inputs=dict.fromkeys(inputs, []))) is training


def test_a_whole_model_that_is_not_known_is_not_taken_for_a_part_of_it():
    parts = dict(neck=dict(type="FPN"), bbox_head=dict(type="RetinaHead"))
    with pytest.raises(LookupError, match="no adapter for the source: mmdet: FCOS, FCOS"):
        find_adapter(dict(source="mmdet: FCOS", model=dict(type="FCOS", **parts)))
    assert find_adapter(dict(source="mmdet: FCOS", model=parts)) in (detection.run_dense, heads.run_fpn)
    model = dict(type="RetinaNet", backbone=dict(type="Swin"), **parts)
    case = dict(source="mmdet: RetinaNet", model=model, inputs={})
    with pytest.raises(ConfigError, match="no backbone Swin"):
        find_adapter(case)(case, {}, {}, draw)
