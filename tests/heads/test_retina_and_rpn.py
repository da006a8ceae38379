"""Names, initial values and choices of RetinaHead and RPNHead."""

import pytest
import torch
from mmengine.structures import InstanceData

from visionpatch.errors import ConfigError
from visionpatch.heads import RetinaHead, RPNHead
from visionpatch.structures import DataSample


def test_names_and_shapes_are_the_published_ones():
    state = {name: tuple(x.shape) for name, x in RetinaHead(80).state_dict().items()}
    towers = {f"{kind}_convs.{i}.conv": (256, 256, 3, 3) for kind in ("cls", "reg") for i in range(4)}
    weights = towers | {"retina_cls": (720, 256, 3, 3), "retina_reg": (36, 256, 3, 3)}
    expected = {f"{name}.weight": shape for name, shape in weights.items()}
    assert state == expected | {f"{name}.bias": shape[:1] for name, shape in weights.items()}
    state = {name: tuple(x.shape) for name, x in RPNHead().state_dict().items()}
    weights = {"rpn_conv": (256, 256, 3, 3), "rpn_cls": (3, 256, 1, 1), "rpn_reg": (12, 256, 1, 1)}
    expected = {f"{name}.weight": shape for name, shape in weights.items()}
    assert state == expected | {f"{name}.bias": shape[:1] for name, shape in weights.items()}
    assert "rpn_conv.1.conv.weight" in RPNHead(8, 8, num_convs=2).state_dict()


def test_initial_values():
    torch.manual_seed(0)
    head = RetinaHead(3, 16, feat_channels=64)
    assert torch.equal(head.retina_cls.bias, torch.full((27,), -4.59511985))
    for name, parameter in head.named_parameters():
        if name.endswith("weight"):
            assert parameter.std().item() == pytest.approx(0.01, rel=0.1), name
        elif name != "retina_cls.bias":
            assert not parameter.any(), name
    for name, parameter in RPNHead(16, 64).named_parameters():
        std = parameter.std().item()
        assert std == pytest.approx(0.01, rel=0.2) if name.endswith("weight") else std == 0, name


def test_retina_takes_the_best_pairs_above_the_threshold():
    scores = torch.tensor([[0.9, 0.2], [0.05, 0.8], [0.3, 0.06]])
    values, anchors, labels = RetinaHead(2, 4, feat_channels=4).candidates(scores, dict(score_thr=0.06, nms_pre=3))
    assert (anchors.tolist(), labels.tolist()) == ([0, 1, 2], [0, 1, 0])
    torch.testing.assert_close(values, torch.tensor([0.9, 0.8, 0.3]))
    values, *_ = RetinaHead(2, 4, feat_channels=4).candidates(scores, dict(score_thr=0.06, nms_pre=-1))
    assert len(values) == 4  # 0.06 itself is not above the threshold


def test_rpn_takes_the_best_anchors_without_threshold():
    values, anchors, labels = RPNHead(4, 4).candidates(torch.tensor([[0.1], [0.7], [0.0]]), dict(nms_pre=2))
    assert (anchors.tolist(), labels.tolist()) == ([1, 0], [0, 0])
    assert values.tolist() == pytest.approx([0.7, 0.1])


def test_training_proposals_have_settings_of_their_own():
    head = RPNHead(4, 4)
    assert (head.test_cfg["nms_pre"], head.proposal_cfg["nms_pre"]) == (1000, 2000)
    assert RPNHead(4, 4, proposal_cfg=dict(max_per_img=7)).proposal_cfg["max_per_img"] == 7


def test_losses_of_boxes_need_decoded_boxes():
    for head in (RetinaHead, RPNHead):
        args = dict(num_classes=2) if head is RetinaHead else {}
        with pytest.raises(ConfigError, match=f"{head.__name__}.loss_bbox compares boxes, not deltas"):
            head(**args, in_channels=4, feat_channels=4, loss_bbox=dict(type="DIoULoss"))


def test_decoded_boxes_are_compared_in_pixels():
    """One anchor, 8 x 8 about (0, 0); without deltas it is the box itself, which the object is twice as wide as."""
    anchors = dict(type="AnchorGenerator", strides=[8], ratios=[1.0], scales=[1.0])
    box = dict(type="IoULoss", mode="linear", loss_weight=3.0)
    head = RetinaHead(2, 4, 0, anchor_generator=anchors, loss_bbox=box, reg_decoded_bbox=True)
    for layer in (head.retina_cls, head.retina_reg):
        torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    objects = InstanceData(bboxes=torch.tensor([[-4.0, -4, 12, 4]]), labels=torch.tensor([1]))
    sample = DataSample(metainfo=dict(img_shape=(8, 8)))
    sample.gt_instances = objects
    losses = head.loss([torch.zeros(1, 4, 1, 1)], [sample])
    assert losses["loss_bbox"][0].item() == pytest.approx(3 * 0.5, rel=1e-5)
    targets = head.targets(head.anchors.grid([(1, 1)])[0], [(1, 1)], [sample])
    assert targets.boxes.tolist() == [[[-4, -4, 12, 4]]]
