"""Assignment by overlap and sampling, case by case."""

import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.heads import MaxIoUAssigner, PseudoSampler, RandomSampler

OBJECTS = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])


def beside(*shifts):
    """The first object moved to the right: overlaps of (10 - s) / (10 + s)."""
    return torch.tensor([[s, 0.0, s + 10, 10] for s in shifts])


def test_thresholds():
    assigner = MaxIoUAssigner(0.5, 0.3, match_low_quality=False)
    # overlaps with the first object: 1, 0.54, 0.43, 0.25, with the second the last: 1/3
    anchors = beside(0.0, 3.0, 4.0, 6.0, 15.0)
    assert assigner.assign(anchors, OBJECTS).tolist() == [1, 1, -1, 0, -1]
    band = MaxIoUAssigner(0.5, (0.2, 0.3), match_low_quality=False)
    assert band.assign(beside(0.0, 6.0, 9.0), OBJECTS).tolist() == [1, 0, -1]


def test_no_objects_and_no_anchors():
    assigner = MaxIoUAssigner(0.5, 0.4)
    assert assigner.assign(beside(0.0, 1.0), OBJECTS[:0]).tolist() == [0, 0]
    assert assigner.assign(beside()[:0].view(0, 4), OBJECTS).tolist() == []
    everything = torch.tensor([[0.0, 0, 100, 100]])
    ignoring = MaxIoUAssigner(0.5, 0.4, ignore_iof_thr=0.5)
    assert ignoring.assign(beside(0.0), OBJECTS[:0], everything).tolist() == [0]


def test_every_object_gets_its_best_anchors():
    anchors = beside(-4.0, 4.0, 5.0)  # overlaps 0.43, 0.43, 0.33 with the first object; the last touches the second
    assert MaxIoUAssigner(0.7, 0.3).assign(anchors, OBJECTS[:1]).tolist() == [1, 1, -1]
    assert MaxIoUAssigner(0.7, 0.3, gt_max_assign_all=False).assign(anchors, OBJECTS[:1]).tolist() == [1, -1, -1]
    assert MaxIoUAssigner(0.7, 0.3, min_pos_iou=0.5).assign(anchors, OBJECTS[:1]).tolist() == [-1, -1, -1]


def test_the_later_object_wins_and_an_object_touched_by_nothing_takes_all_it_does_not_touch():
    twice = torch.cat([OBJECTS[:1], OBJECTS[:1]])
    assert MaxIoUAssigner(0.5, 0.4).assign(beside(0.0), twice).tolist() == [2]
    assert MaxIoUAssigner(0.5, 0.4, match_low_quality=False).assign(beside(0.0), twice).tolist() == [1]
    far = torch.cat([OBJECTS[:1], torch.tensor([[500.0, 500, 510, 510]])])
    assert MaxIoUAssigner(0.5, 0.4).assign(beside(0.0, 30.0), far).tolist() == [2, 2]
    assert MaxIoUAssigner(0.5, 0.4, min_pos_iou=0.01).assign(beside(0.0, 30.0), far).tolist() == [1, 0]


def test_anchors_in_ignored_boxes_count_nowhere():
    crowd = torch.tensor([[40.0, 0, 60, 10]])
    anchors = beside(0.0, 36.0, 45.0)  # 0, 0.6 and 1 of their area lie in the crowd
    kwargs = dict(pos_iou_thr=0.5, neg_iou_thr=0.4, match_low_quality=False)
    assert MaxIoUAssigner(**kwargs, ignore_iof_thr=0.5).assign(anchors, OBJECTS, crowd).tolist() == [1, -1, -1]
    assert MaxIoUAssigner(**kwargs, ignore_iof_thr=0.7).assign(anchors, OBJECTS, crowd).tolist() == [1, 0, -1]
    assert MaxIoUAssigner(**kwargs).assign(anchors, OBJECTS, crowd).tolist() == [1, 0, 0]
    own = MaxIoUAssigner(**kwargs, ignore_iof_thr=0.4, ignore_wrt_candidates=False)  # half of the crowd is in the last
    assert own.assign(anchors, OBJECTS, crowd).tolist() == [1, 0, -1]


def test_thresholds_in_the_wrong_order_are_named():
    with pytest.raises(ConfigError, match=r"neg_iou_thr=0.6 must lie in \[0, pos_iou_thr\] = \[0, 0.5\]"):
        MaxIoUAssigner(0.5, 0.6)


def test_the_pseudo_sampler_takes_all():
    sampled = PseudoSampler().sample(torch.tensor([0, 2, -1, 1, 0]))
    assert (sampled.positive.tolist(), sampled.negative.tolist(), sampled.objects.tolist()) == ([1, 3], [0, 4], [1, 0])
    assert sampled.avg_factor == 2
    assert PseudoSampler().sample(torch.tensor([-1, 0])).avg_factor == 1


def test_the_random_sampler_keeps_its_numbers_and_varies():
    assigned = torch.cat([torch.arange(1, 31), torch.zeros(100, dtype=torch.int64), torch.full((5,), -1)])
    torch.manual_seed(0)
    sampler = RandomSampler(num=40, pos_fraction=0.25)
    drawn = [sampler.sample(assigned) for _ in range(20)]
    for one in drawn:
        assert (len(one.positive), len(one.negative), one.avg_factor) == (10, 30, 40)
        assert one.positive.tolist() == sorted(set(one.positive.tolist())) and one.positive.max() < 30
        assert one.negative.tolist() == sorted(set(one.negative.tolist())) and one.negative.min() >= 30
        assert one.negative.max() < 130
        assert torch.equal(one.objects, one.positive)
    assert set(torch.cat([one.positive for one in drawn]).tolist()) == set(range(30))
    few = RandomSampler(num=40, pos_fraction=0.25, neg_pos_ub=3).sample(torch.tensor([1, 2, *[0] * 20]))
    assert (len(few.positive), len(few.negative), few.avg_factor) == (2, 6, 8)
    none = RandomSampler(num=4, pos_fraction=0.25, neg_pos_ub=3).sample(torch.zeros(9, dtype=torch.int64))
    assert (len(none.positive), len(none.negative), none.avg_factor) == (0, 3, 4)


def test_a_wrong_fraction_is_named():
    with pytest.raises(ConfigError, match=r"pos_fraction=25 in \[0, 1\]"):
        RandomSampler(num=4, pos_fraction=25)
