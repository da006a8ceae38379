"""AspectRatioBatchSampler: batches of one orientation, nothing lost, resume without reading."""

from itertools import islice

import pytest
from torch.utils.data import Dataset

from visionpatch.datasets import AspectRatioBatchSampler, DefaultSampler, TrainSampler
from visionpatch.engine.loading import batches, build_loader
from visionpatch.errors import ConfigError


class Sized(Dataset):
    """10 pictures, every third of them higher than wide; reading one is noted."""

    takes_epoch_keys = True
    seed = 0

    def __init__(self):
        self.read = []

    def __len__(self):
        return 10

    def __getitem__(self, key):
        self.read.append(key)
        return key

    def get_data_info(self, index):
        return dict(width=30, height=40 if index % 3 == 0 else 20)


def is_tall(key):
    return key % 10 % 3 == 0


def test_batches_of_one_kind():
    made = list(islice(AspectRatioBatchSampler(TrainSampler(Sized(), seed=1), 4), 60))
    assert all(len(batch) == 4 for batch in made)
    assert all(len({is_tall(key) for key in batch}) == 1 for batch in made)
    keys = [key for batch in made for key in batch]
    assert len(set(keys)) == len(keys)
    assert set(range(200)) <= set(keys)
    assert sum(is_tall(batch[0]) for batch in made) == pytest.approx(24, abs=1)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 10, 11])
def test_one_pass(size, drop_last):
    sampler = AspectRatioBatchSampler(DefaultSampler(Sized(), seed=1), size, drop_last)
    made = list(sampler)
    assert len(made) == len(sampler)
    keys = [key for batch in made for key in batch]
    assert len(set(keys)) == len(keys) == (10 // size * size if drop_last else 10)


@pytest.mark.parametrize("skipped", [0, 1, 5, 13])
def test_skip(skipped):
    whole = AspectRatioBatchSampler(TrainSampler(Sized(), seed=2), 3)
    resumed = AspectRatioBatchSampler(TrainSampler(Sized(), seed=2), 3)
    resumed.skip(skipped)
    assert list(islice(resumed, 20)) == list(islice(whole, skipped, skipped + 20))


@pytest.mark.parametrize("workers", [0, 2])
def test_in_a_loader(workers):
    def loader(dataset):
        cfg = dict(
            num_workers=workers,
            batch_size=3,
            sampler=dict(type="TrainSampler"),
            batch_sampler=dict(type="AspectRatioBatchSampler"),
        )
        return build_loader({**cfg, "dataset": dataset, "collate_fn": list}, 5, False, training=True)

    dataset = Sized()
    whole = list(islice(batches(loader(Sized())), 9))
    assert list(islice(batches(loader(dataset), 4), 5)) == whole[4:]
    if not workers:
        assert dataset.read == [key for batch in whole[4:] for key in batch]
    assert all(len({is_tall(key) for key in batch}) == 1 for batch in whole)


def test_faults():
    with pytest.raises(ConfigError, match="batch_size is a positive integer, not 0"):
        AspectRatioBatchSampler(TrainSampler(Sized()), 0)
    dataset = Sized()
    dataset.get_data_info = lambda index: {}
    with pytest.raises(ConfigError, match="Sized does not know the sizes of its pictures"):
        next(iter(AspectRatioBatchSampler(TrainSampler(dataset), 2)))
