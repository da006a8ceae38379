"""Mask targets and pasted masks against masks that are known."""

import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.heads import FCNMaskHead
from visionpatch.heads.fcn_mask import mask_targets, paste_masks


def test_the_target_of_a_box_is_the_objects_mask_within_it():
    mask = torch.zeros(2, 32, 40, dtype=torch.uint8)
    mask[0, 8:16, 4:20] = 1
    mask[1, 20:28, 10:18] = 1
    boxes = torch.tensor([[10.0, 20, 18, 28], [4, 8, 20, 16], [4, 4, 20, 20], [-6, 8, 14, 16]])
    targets = mask_targets([boxes], [torch.tensor([1, 0, 0, 0])], [mask], 8)
    assert targets.shape == (4, 8, 8)
    assert targets[0].all() and targets[1].all()
    assert targets[2].tolist() == [[float(2 <= row < 6)] * 8 for row in range(8)]
    # cut at the border of the picture before pooling: x from 0 to 14, the object from 4 on
    assert targets[3].tolist() == [[float(column >= 2) for column in range(8)]] * 8


def test_pictures_are_joined_and_may_be_empty():
    mask = torch.ones(1, 8, 8, dtype=torch.uint8)
    box, first, none = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0]), torch.tensor([], dtype=torch.int64)
    targets = mask_targets([box[:0], box], [none, first], [mask[:0], mask], 4)
    assert targets.shape == (1, 4, 4) and targets.all()
    assert mask_targets([box[:0]], [none], [mask[:0]], 4).shape == (0, 4, 4)


def test_a_full_mask_fills_the_pixels_whose_centres_lie_in_the_box():
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([[3.0, 2, 9, 7]]), (10, 12))
    expected = torch.zeros(10, 12, dtype=torch.bool)
    expected[2:7, 3:9] = True
    assert pasted.dtype == torch.bool and torch.equal(pasted[0], expected)


def test_half_a_mask_and_boxes_beyond_the_picture():
    half = torch.zeros(1, 28, 28)
    half[:, :, :14] = 1
    pasted = paste_masks(half.expand(2, -1, -1), torch.tensor([[-4.0, 0, 4, 6], [8, 2, 16, 6]]), (6, 12))
    assert pasted[0].sum() == 0  # its left half is outside of the picture
    expected = torch.zeros(6, 12, dtype=torch.bool)
    expected[2:6, 8:12] = True
    assert torch.equal(pasted[1], expected)


@pytest.mark.parametrize("box", [[3.0, 3, 3, 3], [3, 2, 3, 8], [50, 50, 60, 60], [2.5, 2.5, 2.5, 2.5]])
def test_boxes_without_area_or_outside_paste_next_to_nothing(box):
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([box]).float(), (10, 12))
    assert pasted.shape == (1, 10, 12) and pasted.sum() <= 12 * 4


def test_no_masks():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (10, 12)).shape == (0, 10, 12)


def test_loss_takes_the_map_of_the_class_and_is_zero_without_objects():
    head = FCNMaskHead(num_convs=1, in_channels=4, conv_out_channels=4, num_classes=3)
    logits, targets = torch.randn(2, 3, 28, 28), (torch.rand(2, 28, 28) > 0.5).float()
    found = head.loss(logits, torch.tensor([2, 0]), targets)["loss_mask"]
    chosen = torch.stack([logits[0, 2], logits[1, 0]])
    p = chosen.sigmoid()
    torch.testing.assert_close(found, -(targets * p.log() + (1 - targets) * (1 - p).log()).mean())
    none = head(torch.zeros(0, 4, 14, 14))
    assert none.shape == (0, 3, 28, 28)
    loss = head.loss(none, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 28, 28))["loss_mask"]
    loss.backward()
    assert loss == 0 and all(not p.grad.any() for p in head.parameters())


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="set use_mask=True"):
        FCNMaskHead(loss_mask=dict(type="CrossEntropyLoss"))
    with pytest.raises(ConfigError, match=r"in_channels=256, .* have 3 channels; set in_channels=3"):
        FCNMaskHead()(torch.zeros(1, 3, 14, 14))
