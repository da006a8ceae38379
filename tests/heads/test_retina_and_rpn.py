"""Names, initial values and choices of RetinaHead and RPNHead."""

import pytest
import torch

from visionpatch.heads import RetinaHead, RPNHead


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
