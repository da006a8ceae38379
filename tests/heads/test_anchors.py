"""Anchors and box deltas against numbers computed by hand."""

import math

import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.heads import AnchorGenerator, DeltaXYWHBBoxCoder
from visionpatch.heads.box_coder import MAX_LOG_RATIO, box_iou, clip_boxes


def test_the_anchors_of_a_cell_ratio_by_ratio():
    generator = AnchorGenerator(strides=[8], ratios=[0.25, 1.0], scales=[2, 4])
    assert generator.num_anchors == 4
    # ratio 0.25 (height over width): twice as wide, half as high as the square
    expected = [[-16.0, -4, 16, 4], [-32, -8, 32, 8], [-8, -8, 8, 8], [-16, -16, 16, 16]]
    torch.testing.assert_close(generator.cell(0), torch.tensor(expected))
    swapped = AnchorGenerator(strides=[8], ratios=[0.25, 1.0], scales=[2, 4], scale_major=False)
    torch.testing.assert_close(swapped.cell(0), torch.tensor(expected)[[0, 2, 1, 3]])


def test_octaves_offset_and_base_size():
    generator = AnchorGenerator(
        [8], [1.0], octave_base_scale=4, scales_per_octave=2, base_sizes=[10], center_offset=0.5
    )
    half = torch.tensor([20.0, 20 * math.sqrt(2)])
    torch.testing.assert_close(generator.cell(0), torch.stack([5 - half, 5 - half, 5 + half, 5 + half], 1))


def test_the_grid_runs_over_columns_then_rows():
    generator = AnchorGenerator(strides=[4, 8], ratios=[1.0], scales=[2])
    fine, coarse = generator.grid([(2, 3), (1, 1)])
    centres = (fine[:, :2] + fine[:, 2:]) / 2
    assert centres.tolist() == [[0, 0], [4, 0], [8, 0], [0, 4], [4, 4], [8, 4]]
    assert coarse.tolist() == [[-8, -8, 8, 8]]


def test_cells_that_begin_inside_the_picture():
    generator = AnchorGenerator(strides=[4, 8], ratios=[1.0, 2.0], scales=[2])
    inside = generator.inside([(3, 3), (2, 2)], (5, 12))
    fine, coarse = inside[:18].view(3, 3, 2), inside[18:].view(2, 2, 2)
    assert fine[..., 0].tolist() == [[True] * 3, [True] * 3, [False] * 3]  # rows begin at 0, 4, 8; columns at 0, 4, 8
    assert coarse[..., 1].tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(), "either scales or both octave_base_scale and scales_per_octave"),
        (dict(scales=[8], octave_base_scale=4, scales_per_octave=3), "either scales or both"),
        (dict(scales=[8], base_sizes=[4, 8]), "2 base_sizes for 1 strides"),
        (dict(scales=[-1.0]), r"scales=\(-1.0,\); expected positive"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        AnchorGenerator(strides=[4], ratios=[1.0], **arguments)


def test_deltas_by_hand_and_back():
    coder = DeltaXYWHBBoxCoder(target_means=(0.0, 0.0, 0.0, 0.1), target_stds=(0.1, 0.1, 0.2, 0.2))
    anchor, box = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[3.0, 5, 23, 25]])
    # centres (5, 10) and (13, 15), sizes (10, 20) and (20, 20)
    expected = [0.8 / 0.1, 0.25 / 0.1, math.log(2) / 0.2, -0.1 / 0.2]
    torch.testing.assert_close(coder.encode(anchor, box), torch.tensor([expected]))
    torch.testing.assert_close(coder.decode(anchor, coder.encode(anchor, box)), box)
    assert coder.decode(anchor, coder.encode(anchor, box), (24, 20)).tolist() == [[3, 5, 20, 24]]


def test_decoding_bounds_the_size_and_cuts_only_if_told():
    coder = DeltaXYWHBBoxCoder(clip_border=False)
    box = coder.decode(torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([[0.0, 0, 50, -50]]), (10, 10))
    side = 16 * math.exp(MAX_LOG_RATIO)
    torch.testing.assert_close(box, torch.tensor([[8 - side / 2, 7.872, 8 + side / 2, 8.128]]))
    assert side == pytest.approx(1000)
    with pytest.raises(ConfigError, match="the stds positive"):
        DeltaXYWHBBoxCoder(target_stds=(1.0, 1.0, 0.0, 1.0))


def test_overlaps():
    first = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 5]])
    second = torch.tensor([[5.0, 0, 15, 10], [20, 20, 30, 30]])
    torch.testing.assert_close(box_iou(first, second), torch.tensor([[50 / 150, 0], [0, 0]]))
    torch.testing.assert_close(box_iou(first, second, over_first=True), torch.tensor([[0.5, 0], [0, 0]]))
    assert box_iou(first[:0], second).shape == (0, 2)
    assert clip_boxes(torch.tensor([[-3.0, 2, 40, 50]]), (20, 30)).tolist() == [[0, 2, 30, 20]]
