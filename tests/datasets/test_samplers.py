"""Which keys a sampler yields: coverage, epochs, ranks, resume; and what follows for the augmentation."""

from itertools import islice

import pytest
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader, Dataset

from visionpatch.datasets import DefaultSampler, PascalVOCDataset, TrainSampler
from visionpatch.datasets import samplers as module
from visionpatch.errors import DataError
from visionpatch.registry import DATA_SAMPLERS


class Plain(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n


class Keyed(Plain):
    takes_epoch_keys = True
    seed = 0


@pytest.fixture
def ranks(monkeypatch):
    """Build the sampler of each of `world` ranks."""

    def build(world, *args, **kwargs):
        made = []
        for rank in range(world):
            monkeypatch.setattr(module, "get_dist_info", lambda rank=rank: (rank, world))
            made.append(TrainSampler(*args, **kwargs))
        return made

    return build


def test_every_epoch_is_a_permutation_of_its_own():
    keys = list(islice(TrainSampler(Keyed(10), seed=5), 30))
    for epoch in range(3):
        assert sorted(keys[10 * epoch : 10 * epoch + 10]) == list(range(10 * epoch, 10 * epoch + 10))
    orders = {tuple(k % 10 for k in keys[e : e + 10]) for e in (0, 10, 20)}
    assert len(orders) == 3
    generator = torch.Generator().manual_seed(5 + 1)
    assert [k - 10 for k in keys[10:20]] == torch.randperm(10, generator=generator).tolist()


def test_seed_reaches_the_dataset_and_decides():
    data = Keyed(10)
    a, b = list(islice(TrainSampler(data, seed=5), 20)), list(islice(TrainSampler(Keyed(10), seed=5), 20))
    assert a == b
    assert data.seed == 5
    assert a != list(islice(TrainSampler(Keyed(10), seed=6), 20))


def test_without_shuffling():
    assert list(islice(TrainSampler(Keyed(3), shuffle=False, seed=0), 7)) == [0, 1, 2, 3, 4, 5, 6]


def test_other_datasets_get_indices():
    keys = list(islice(TrainSampler(Plain(4), seed=0), 12))
    assert [sorted(keys[i : i + 4]) for i in (0, 4, 8)] == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize("n, world", [(10, 2), (10, 3), (7, 4), (2, 5)])
def test_ranks_share_one_stream(ranks, n, world):
    single = list(islice(TrainSampler(Keyed(n), seed=1), 6 * n * world))
    streams = [list(islice(s, 6 * n)) for s in ranks(world, Keyed(n), seed=1)]
    assert [key for step in zip(*streams) for key in step] == single


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("n", [0, 1, 4, 10, 11, 57])
def test_skip_continues_where_a_run_stopped(ranks, world, n):
    for whole, resumed in zip(ranks(world, Keyed(10), seed=2), ranks(world, Keyed(10), seed=2)):
        resumed.skip(n)
        assert list(islice(resumed, 40)) == list(islice(whole, n, n + 40))


def test_skip_is_cheap_and_used_once():
    sampler = TrainSampler(Keyed(1000), seed=2)
    sampler.skip(10**9 + 1)
    assert next(iter(sampler)) // 1000 == 10**6
    assert next(iter(sampler)) // 1000 == 0


@pytest.mark.parametrize("round_up", [True, False])
@pytest.mark.parametrize("world", [1, 3])
def test_finite(ranks, world, round_up):
    parts = []
    for sampler in ranks(world, Keyed(10), seed=2, infinite=False, round_up=round_up):
        sampler.set_epoch(4)
        keys = list(sampler)
        assert len(keys) == len(sampler)
        parts += keys
    assert set(parts) == set(range(40, 50))
    assert len(parts) == (12 if round_up and world == 3 else 10)


def test_finite_skip_holds_for_one_epoch():
    sampler = TrainSampler(Keyed(10), seed=2, infinite=False)
    whole = list(sampler)
    sampler.skip(7)
    assert list(sampler) == whole[7:]
    assert list(sampler) == whole


def test_mmengines_names_give_these_samplers():
    assert DATA_SAMPLERS.get("DefaultSampler") is DefaultSampler
    assert DATA_SAMPLERS.get("InfiniteSampler") is TrainSampler
    assert list(DefaultSampler(Keyed(3), shuffle=False, seed=1)) == [0, 1, 2]


def test_empty_dataset():
    with pytest.raises(DataError, match="empty"):
        TrainSampler(Keyed(0))


PIPELINE = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(64, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=32, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackInputs"),
]


def batches(root, workers, n, skip=0):
    data = PascalVOCDataset(data_root=str(root), ann_file="ImageSets/Segmentation/train.txt", pipeline=PIPELINE)
    sampler = TrainSampler(data, seed=7)
    sampler.skip(2 * skip)
    loader = DataLoader(data, 2, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate)
    return [list(zip(b["inputs"], b["data_samples"])) for b in islice(loader, n)]


def equal(a, b):
    return all(
        torch.equal(x, y) and torch.equal(s.gt_sem_seg.data, t.gt_sem_seg.data)
        for p, q in zip(a, b, strict=True)
        for (x, s), (y, t) in zip(p, q, strict=True)
    )


def test_augmentation_depends_neither_on_workers_nor_on_history(sample_root):
    alone = batches(sample_root, 0, 10)
    assert equal(alone, batches(sample_root, 2, 10))
    assert equal(alone[6:], batches(sample_root, 0, 4, skip=6))
    assert equal(alone[6:], batches(sample_root, 2, 4, skip=6))


def test_no_augmentation_is_repeated_in_later_epochs(sample_root):
    data = PascalVOCDataset(data_root=str(sample_root), ann_file="ImageSets/Segmentation/train.txt", pipeline=PIPELINE)
    views = {data[epoch * len(data)]["inputs"].numpy().tobytes() for epoch in range(20)}
    assert len(views) == 20


def test_process_state_is_untouched(sample_root):
    data = PascalVOCDataset(data_root=str(sample_root), ann_file="ImageSets/Segmentation/train.txt", pipeline=PIPELINE)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    data[3]
    assert torch.equal(torch.rand(3), expected)
