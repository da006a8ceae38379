"""Prediction files come back as they went, and hold no code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from visionpatch.engine.predictions import mask_of, read_predictions, record_of, run_lengths, write_predictions
from visionpatch.errors import DataError
from visionpatch.structures import DataSample


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    maps = [np.array([[0, 0, 1], [1, 1, 255]], dtype=np.uint8), np.array([[300, 2]], dtype=np.uint16)]
    records = [dict(img_path=f"a/{i} é.png", sem_seg=m) for i, m in enumerate(maps)]
    records.append(dict(img_path="c", label=np.array([4]), score=np.array([0.25, 0.75])))
    path = tmp_path / "deep" / f"p{suffix}"
    write_predictions(path, records)
    read = read_predictions(path)
    assert [r["img_path"] for r in read] == ["a/0 é.png", "a/1 é.png", "c"]
    for given, found in zip(maps, read, strict=False):
        assert np.array_equal(given, found["sem_seg"]) and given.dtype == found["sem_seg"].dtype
    assert read[2]["label"].tolist() == [4] and read[2]["score"].tolist() == [0.25, 0.75]


def test_run_lengths(tmp_path: Path) -> None:
    write_predictions(
        tmp_path / "p.json", [dict(img_path="x", sem_seg=np.array([[7, 7, 7], [7, 0, 0]], dtype=np.uint8))]
    )
    assert (tmp_path / "p.json").read_text() == (
        '[{"img_path": "x", "sem_seg": {"shape": [2, 3], "runs": [[7, 4], [0, 2]]}}]'
    )


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", img_path=np.array([object()], dtype=object))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "text.json").write_text('{"a": 1}')
    for name in ("evil.npz", "text.npz", "text.json"):
        with pytest.raises(DataError, match=rf"{name}: not a prediction file"):
            read_predictions(tmp_path / name)
    with pytest.raises(DataError, match="no such prediction file"):
        read_predictions(tmp_path / "none.npz")


def detection(number: int) -> DataSample:
    """`number` objects with masks of 7 x 5 pixels."""
    sample = DataSample(metainfo=dict(img_path=f"{number}.jpg"))
    generator = torch.Generator().manual_seed(number)
    sample.pred_instances = InstanceData(
        bboxes=torch.rand(number, 4, generator=generator),
        labels=torch.arange(number),
        scores=torch.rand(number, generator=generator),
        masks=torch.rand(number, 7, 5, generator=generator) > 0.5,
    )
    return sample


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_objects_come_back_with_their_masks(tmp_path: Path, suffix: str) -> None:
    samples = [detection(number) for number in (3, 0, 1)]
    samples[0].pred_instances.masks[0] = False
    samples[0].pred_instances.masks[1] = True
    write_predictions(tmp_path / f"p{suffix}", [record_of(sample) for sample in samples])
    records = read_predictions(tmp_path / f"p{suffix}")
    assert [record["img_path"] for record in records] == ["3.jpg", "0.jpg", "1.jpg"]
    for sample, record in zip(samples, records, strict=True):
        pred = sample.pred_instances
        for name in ("bboxes", "labels", "scores"):
            assert record[name].reshape(pred[name].shape).tolist() == pred[name].tolist()
        assert [mask_of(runs).tolist() for runs in record["masks"]] == pred.masks.tolist()


def test_masks_are_cocos_run_lengths() -> None:
    codec = pytest.importorskip("pycocotools.mask")
    mask = np.array([[1, 0, 0], [1, 1, 0]], dtype=bool)
    runs = run_lengths(mask)
    assert runs["size"] == [2, 3] and runs["counts"].tolist() == [0, 2, 1, 1, 2]
    theirs = codec.frPyObjects(dict(size=runs["size"], counts=runs["counts"].tolist()), 2, 3)
    assert np.array_equal(codec.decode(theirs), mask) and np.array_equal(mask_of(runs), mask)


@pytest.mark.parametrize("runs", ["[1, 2]", "[-1, 7]", "[6, 1]", '["a"]', "[1.5, 4.5]", "6"])
def test_masks_that_do_not_fill_their_size_are_refused(tmp_path: Path, runs: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(f'[{{"img_path": "a", "masks": [{{"size": [2, 3], "counts": {runs}}}]}}]')
    with pytest.raises(DataError, match=r"p.json: not a prediction file"):
        read_predictions(path)
