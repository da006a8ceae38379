import itertools
import math

import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.ops import batched_nms, nms, soft_nms

from .naive import nms as naive_nms
from .naive import soft_nms as naive_soft_nms


def random_boxes(n, seed=0, spread=100.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(n, 2, generator=generator) * spread + shift
    half = torch.rand(n, 2, generator=generator) * 15 + 5
    return torch.cat([centre - half, centre + half], 1), torch.rand(n, generator=generator)


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 300])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_nms_is_the_greedy_loop(n, threshold):
    boxes, scores = random_boxes(n, seed=n)
    for offset in (0, 1):
        dets, keep = nms(boxes, scores, threshold, offset)
        assert keep.tolist() == naive_nms(boxes, scores, threshold, offset)
        assert torch.equal(dets, torch.cat([boxes[keep], scores[keep, None]], 1))


@pytest.mark.parametrize("threshold", [0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_batched_nms_is_the_loop_within_each_group(threshold, seed):
    boxes, scores = random_boxes(400, seed)
    skewed = torch.randint(0, 12, (400,), generator=torch.Generator().manual_seed(seed)) ** 3 % 11 - 2
    for groups in (skewed, torch.arange(400), torch.zeros(400, dtype=torch.int64)):
        keep = batched_nms(boxes, scores, groups, dict(type="nms", iou_threshold=threshold))[1]
        assert keep.tolist() == naive_nms(boxes, scores, threshold, groups=groups)
    agnostic = dict(iou_threshold=threshold, class_agnostic=True, split_thr=10)
    assert torch.equal(batched_nms(boxes, scores, skewed, agnostic)[1], nms(boxes, scores, threshold)[1])


def test_an_overlap_at_the_threshold_stays_and_one_above_goes():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.5)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.4999)[1].tolist() == [0]


def test_of_equal_scores_the_earlier_box_comes_first():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(16, 1) + torch.arange(16)[:, None] % 2 * 100
    assert nms(boxes, torch.full((16,), 0.5), 0.5)[1].tolist() == [0, 1]
    groups = torch.arange(16) % 3
    assert batched_nms(boxes, torch.full((16,), 0.5), groups, dict(iou_threshold=0.5))[1].tolist() == [0, 1, 2, 3, 4, 5]
    scores = torch.full((300,), 0.5)
    apart = torch.arange(300.0)[:, None] * 20 + boxes[:1]
    assert torch.equal(nms(apart, scores, 0.5)[1], scores.sort(descending=True).indices)


def test_a_suppressed_box_suppresses_nothing():
    """Each overlaps the next only: every second one stays, also across blocks."""
    left = torch.arange(300.0)[:, None] * 6
    boxes = torch.cat([left, left * 0, left + 10, left * 0 + 10], 1)
    scores = torch.linspace(1, 0.1, 300)
    assert nms(boxes, scores, 0.2)[1].tolist() == list(range(0, 300, 2))


def test_no_box_and_one_box():
    none = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert none[0].shape == (0, 5) and none[1].shape == (0,) and none[1].dtype == torch.int64
    grouped = batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), dict(iou_threshold=0.5))
    assert grouped[0].shape == (0, 5) and grouped[1].shape == (0,)
    soft = batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), dict(type="soft_nms"))
    assert soft[0].shape == (0, 5) and soft[1].dtype == torch.int64
    dets, keep = nms(torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([0.5]), 0.5)
    assert dets.tolist() == [[1, 2, 3, 4, 0.5]] and keep.tolist() == [0]


def test_groups_never_mix_at_negative_or_huge_coordinates():
    box, scores = torch.tensor([[-20.0, -20, -1, -1]]), torch.tensor([0.9, 0.8])
    for boxes in (box.repeat(2, 1), box.repeat(2, 1) * 1e7, box.repeat(2, 1) + 3e8):
        assert batched_nms(boxes, scores, torch.tensor([0, 1]), dict(iou_threshold=0.5))[1].tolist() == [0, 1]
        assert batched_nms(boxes, scores, torch.tensor([7, 7]), dict(iou_threshold=0.5))[1].tolist() == [0]
    boxes, scores = random_boxes(200, shift=-500)
    groups = torch.arange(200) % 3
    keep = batched_nms(boxes, scores, groups, dict(iou_threshold=0.4))[1]
    assert keep.tolist() == naive_nms(boxes, scores, 0.4, groups=groups)


def test_overlaps_in_groups_are_those_of_the_boxes_mmcv_rounds():
    """Moved apart by the largest coordinate plus 1, up to 131072 pixels; the boxes that come back are not rounded."""
    boxes, scores = random_boxes(300, spread=1000, shift=20)
    groups = torch.arange(300) % 80
    moved = boxes + (groups * (boxes.max() + 1))[:, None]
    assert 60_000 < moved.max() < 131_072 and not torch.equal(moved[:, 2] - moved[:, 0], boxes[:, 2] - boxes[:, 0])
    cfg = dict(iou_threshold=0.3, method="gaussian", min_score=0.01)
    expected, order = soft_nms(moved, scores, **cfg)
    dets, keep = batched_nms(boxes, scores, groups, dict(cfg, type="soft_nms"))
    assert (
        torch.equal(keep, order) and torch.equal(dets[:, 4], expected[:, 4]) and torch.equal(dets[:, :4], boxes[keep])
    )
    pair, near = torch.tensor([[0.0, 0, 8, 8.0], [0, 0, 8, 4.0001]]), torch.tensor([0.9, 0.8])  # an IoU of 0.5000125
    far = torch.tensor([[999.0, 999, 1000, 1000]])
    for group, kept in ((0, [0, 1]), (50, [0, 1, 2]), (5000, [0, 1])):  # rounded off at 50000, not at 5000000
        found = batched_nms(
            torch.cat([far, pair]), torch.cat([torch.ones(1), near]), torch.tensor([0, group, group]),
            dict(iou_threshold=0.5),
        )[1]  # fmt: skip
        assert found.tolist() == kept


def test_boxes_without_area_stay():
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10], [3, 3, 3, 8]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), 0.1)[1].tolist() == [0, 1, 2, 3]


def test_score_threshold_and_number():
    boxes, scores = random_boxes(200)
    keep = nms(boxes, scores, 0.5)[1]
    above = [i for i in keep.tolist() if scores[i] > 0.4]
    assert 3 < len(above) < len(keep)
    assert nms(boxes, scores, 0.5, score_threshold=0.4)[1].tolist() == above
    assert nms(boxes, scores, 0.5, score_threshold=0.4, max_num=3)[1].tolist() == above[:3]
    groups = torch.arange(200) % 5
    cfg = dict(iou_threshold=0.5, score_threshold=0.4)
    everything = batched_nms(boxes, scores, groups, cfg)[1]
    assert scores[everything].min() > 0.4
    assert torch.equal(batched_nms(boxes, scores, groups, {**cfg, "max_num": 7})[1], everything[:7])
    assert len(nms(boxes, scores, 0.5, score_threshold=2.0)[1]) == 0


def test_without_a_config_boxes_are_only_sorted():
    boxes, scores = random_boxes(50)
    dets, keep = batched_nms(boxes, scores, torch.zeros(50, dtype=torch.int64), None)
    assert torch.equal(keep, scores.argsort(descending=True)) and torch.equal(dets[:, :4], boxes[keep])


def test_the_kept_boxes_and_scores_carry_gradients():
    boxes, scores = random_boxes(30)
    boxes.requires_grad_(), scores.requires_grad_()
    dets, keep = batched_nms(boxes, scores, torch.zeros(30, dtype=torch.int64), dict(iou_threshold=0.3))
    dets.sum().backward()
    kept = torch.zeros(30).index_fill(0, keep, 1)
    assert torch.equal(scores.grad, kept) and torch.equal(boxes.grad, kept[:, None].expand(30, 4))
    assert 1 < len(keep) < 30


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_are_kept(dtype):
    boxes, scores = random_boxes(100)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    dets, keep = nms(boxes, scores, 0.5)
    assert dets.dtype == dtype
    order = scores.sort(descending=True).indices
    ranks = torch.empty(100).scatter_(0, order, -torch.arange(100.0))
    assert keep.tolist() == naive_nms(boxes, ranks, 0.5)


FACTORS = {
    "naive": lambda x: 0.0 if x >= 0.3 else 1.0,
    "linear": lambda x: 1 - x if x >= 0.3 else 1.0,
    "gaussian": lambda x: math.exp(-x * x / 0.5),
}


@pytest.mark.parametrize("method", FACTORS)
@pytest.mark.parametrize("n", [1, 2, 40, 120])
def test_soft_nms_is_the_loop(method, n):
    boxes, scores = random_boxes(n, seed=n, spread=60)
    dets, keep = soft_nms(boxes, scores, 0.3, sigma=0.5, min_score=0.05, method=method)
    expected = naive_soft_nms(boxes, scores, FACTORS[method], 0.05)
    assert keep.tolist() == [i for i, _ in expected]
    assert dets[:, 4].tolist() == pytest.approx([s for _, s in expected], rel=1e-5)
    assert torch.equal(dets[:, :4], boxes[keep])


def test_soft_nms_per_group():
    boxes, scores = random_boxes(90, spread=60)
    groups = torch.arange(90) % 4
    dets, keep = batched_nms(boxes, scores, groups, dict(type="soft_nms", iou_threshold=0.3, min_score=0.05))
    expected = []
    for group in range(4):
        members = (groups == group).nonzero()[:, 0]
        found = naive_soft_nms(boxes[members], scores[members], FACTORS["linear"], 0.05)
        expected += [(int(members[i]), s) for i, s in found]
    expected.sort(key=lambda pair: -pair[1])
    assert keep.tolist() == [i for i, _ in expected]
    assert dets[:, 4].tolist() == pytest.approx([s for _, s in expected], rel=1e-5)
    few = batched_nms(boxes, scores, groups, dict(type="soft_nms", iou_threshold=0.3, min_score=0.05, max_num=5))
    assert torch.equal(few[0], dets[:5])


def test_soft_nms_keeps_the_first_box_and_boxes_without_area():
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5]])
    dets, keep = soft_nms(boxes, torch.tensor([1e-9, 1e-9]), method="gaussian")
    assert keep.tolist() == [0]
    dets, keep = soft_nms(boxes, torch.tensor([0.5, 0.4]), method="gaussian")
    assert keep.tolist() == [0, 1] and dets[:, 4].tolist() == pytest.approx([0.5, 0.4])


def test_soft_nms_of_areas_beyond_single_precision():
    boxes = torch.tensor([[0.0, 0, 1e30, 1e30], [5, 5, 9, 9], [-1e30, 0, 1e30, 3]])
    dets, keep = soft_nms(boxes, torch.tensor([0.9, 0.5, 0.7]), method="gaussian")
    assert keep.tolist() == [0, 2, 1] and dets[:, 4].isfinite().all()


WRONG = [
    (lambda b, s: nms(b[:, :3], s, 0.5), r"boxes \(4, 3\) and scores \(4,\) given; expected \(n, 4\) and \(n,\)"),
    (lambda b, s: nms(b, s[:2], 0.5), r"scores \(2,\)"),
    (lambda b, s: nms(b, s, 0.5, offset=2), "offset 2 given"),
    (lambda b, s: batched_nms(b, s, s[:1], dict(iou_threshold=0.5)), r"idxs of shape \(1,\)"),
    (lambda b, s: batched_nms(b, s, s, dict(type="softnms")), 'unknown type "softnms"; did you mean "soft_nms"'),
    (lambda b, s: batched_nms(b, s, s, dict(type="nms")), '"iou_threshold" is missing'),
    (lambda b, s: batched_nms(b, s, s, dict(iou_threshold=0.5, sigma=1)), 'type "nms": unknown argument "sigma"'),
    (lambda b, s: soft_nms(b, s, method="gauss"), 'unknown method "gauss"; did you mean "gaussian"'),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_errors(call, message):
    with pytest.raises(ConfigError, match=message):
        call(torch.zeros(4, 4), torch.zeros(4))


def test_all_orders_of_a_few_boxes():
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10], [50, 50, 60, 60]])
    for order in itertools.permutations(range(4)):
        scores = torch.tensor([float(order.index(i)) for i in range(4)])
        assert nms(boxes, scores, 0.4)[1].tolist() == naive_nms(boxes, scores, 0.4)
