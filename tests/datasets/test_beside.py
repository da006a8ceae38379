"""Queries made of two pictures: what is in them, and whose mask."""

from pathlib import Path

import numpy as np
import pytest
import torch
from few_shot_set import TRAIN, C, D, episodes, write

from visionpatch.datasets.beside import put_beside
from visionpatch.errors import ConfigError
from visionpatch.structures import DataSample, PixelData


def packed(value: int, mask: torch.Tensor, **meta: object) -> dict:
    """A picture whose columns hold `value` + their number, with a mask (W,) for all of its rows."""
    columns = value + torch.arange(len(mask), dtype=torch.uint8)
    sample = DataSample(gt_sem_seg=PixelData(data=mask.to(torch.uint8).expand(1, 4, -1)), metainfo=meta)
    return dict(inputs=columns.expand(3, 4, -1), data_samples=sample)


def test_half_of_each_picture_with_its_own_mask() -> None:
    mask, other_mask = torch.zeros(9), torch.zeros(9)
    mask[[2, 3, 4]], other_mask[[0, 8]] = 1, 255
    seen = set()
    for seed in range(100):
        np.random.seed(seed)
        made = put_beside(packed(0, mask, class_id=7), packed(100, other_mask, img_shape=(4, 7)))
        row, labels = made["inputs"][0, 0].tolist(), made["data_samples"].gt_sem_seg.data[0, 0].tolist()
        own, far = [x for x in row if x < 100], [x - 100 for x in row if x >= 100]
        assert (
            len(own) == 4 and own == list(range(own[0], own[0] + 4)) and own[0] in (1, 2)
        )  # 3 of 3 foreground columns
        assert len(far) == 5 and far == list(range(far[0], far[0] + 5)) and far[-1] <= 6  # no padding
        assert labels == [int(mask[x]) if x < 100 else int(other_mask[x - 100]) for x in row]
        assert made["data_samples"].class_id == 7 and made["data_samples"].img_shape == (4, 9)
        seen.add((own[0], far[0], row[0] < 100))
    assert len(seen) == 2 * 3 * 2  # every start and either order


def test_pictures_of_two_sizes() -> None:
    with pytest.raises(ConfigError, match=r"\(4, 8\) and \(4, 9\); end the pipeline with one size"):
        put_beside(packed(0, torch.ones(8)), packed(0, torch.ones(9)))


def test_in_training_only_and_from_its_numbers_alone(tmp_path: Path) -> None:
    folder = write(tmp_path)
    plain, beside = (episodes(folder, test_mode=False, pipeline=TRAIN, beside_prob=p) for p in (0.0, 1.0))
    changed = 0
    for key in range(len(plain)):
        first, again, without = beside[key], beside[key], plain[key]
        assert torch.equal(first["inputs"], again["inputs"]) and first["inputs"].shape == without["inputs"].shape
        sample = first["data_samples"]
        assert sample.class_id == without["data_samples"].class_id and (sample.gt_sem_seg.data == 1).any()
        assert all(torch.equal(a.image, b.image) for a, b in zip(sample.support, without["data_samples"].support))
        changed += not torch.equal(first["inputs"], without["inputs"])
    assert changed == len(plain) and set(plain.metainfo["base_ids"]) == {C, D}
    assert torch.equal(episodes(folder)[0]["inputs"], episodes(folder, beside_prob=1.0)[0]["inputs"])
    with pytest.raises(ConfigError, match="beside_prob is a probability, 0 to 1, not 1.5"):
        episodes(folder, beside_prob=1.5)
