import pytest
import torch

from visionpatch.datasets import ConcatDataset, PascalVOCDataset, RepeatDataset, TrainSampler
from visionpatch.datasets.sample_set import CLASSES
from visionpatch.errors import ConfigError

PIPELINE = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomCrop", crop_size=16),
    dict(type="PackInputs"),
]


def config(root, split="train", **kwargs):
    ann_file = f"ImageSets/Segmentation/{split}.txt"
    arguments = dict(type=PascalVOCDataset, data_root=str(root), ann_file=ann_file, pipeline=PIPELINE)
    return {**arguments, "metainfo": dict(classes=CLASSES), **kwargs}


def test_concat(sample_root):
    data = ConcatDataset([config(sample_root), config(sample_root, "val")])
    assert (len(data), data.metainfo["classes"]) == (12, CLASSES)
    assert [data[i]["data_samples"].img_id for i in (0, 7, 8, 11, 20)] == [f"sample_{n:06d}" for n in (0, 7, 8, 11, 8)]
    assert data.get_data_info(9)["img_id"] == "sample_000009"
    TrainSampler(data, seed=4)
    assert data.seed == 4
    assert len({child.seed for child in data.datasets}) == 2
    assert not torch.equal(data[9]["inputs"], data[21]["inputs"])  # the same sample in epochs 0 and 1
    with pytest.raises(IndexError):
        data[-13]


def test_concat_faults(sample_root):
    with pytest.raises(ConfigError, match="dataset 1 has other classes"):
        ConcatDataset([config(sample_root), config(sample_root, metainfo=None)])
    with pytest.raises(ConfigError, match="at least one"):
        ConcatDataset([])
    with pytest.raises(ConfigError, match="not list"):
        ConcatDataset([[1, 2]])


def test_repeat(sample_root):
    data = RepeatDataset(config(sample_root), times=3)
    TrainSampler(data, seed=4)
    assert (len(data), data.dataset.seed) == (24, 4)
    views = [data[3 + 8 * k] for k in range(6)]  # two epochs of three repetitions
    assert {v["data_samples"].img_id for v in views} == {"sample_000003"}
    assert len({v["inputs"].numpy().tobytes() for v in views}) == 6
    with pytest.raises(ConfigError, match="times"):
        RepeatDataset(config(sample_root), times=0)
