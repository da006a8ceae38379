"""Folds, lists, draws and counted pixels of few-shot episodes, against what the rules give by hand."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
from few_shot_set import A, B, C, D, source, write

from visionpatch.datasets import EpisodeDataset, FolderDataset, PascalVOCDataset, draw_episode, fold_classes, make_lists
from visionpatch.datasets import pixel_counts as counting
from visionpatch.datasets.pixel_counts import count_pixels
from visionpatch.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("few_shot"))


@pytest.fixture(scope="module")
def counts(folder: Path) -> np.ndarray:
    return count_pixels(dataset(folder))


def dataset(folder: Path) -> FolderDataset:
    arguments = source(folder)
    arguments.pop("type")
    return FolderDataset(**arguments)


def test_folds_as_published() -> None:
    pascal, coco = range(1, 21), range(1, 81)
    assert fold_classes(pascal, 0) == (1, 2, 3, 4, 5)
    assert fold_classes(pascal, 3) == (16, 17, 18, 19, 20)
    assert fold_classes(coco, 1, split="interleaved") == tuple(range(2, 79, 4))
    assert fold_classes(coco, 2, split="blocks") == tuple(range(41, 61))
    for split in ("blocks", "interleaved"):
        assert sorted(sum((fold_classes(coco, fold, 4, split) for fold in range(4)), ())) == list(coco)
    assert fold_classes(range(1, 6), 1, 2, "interleaved") == (2, 4)


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((range(20), 4), r"fold=4 of num_folds=4; folds count from 0"),
        ((range(20), 0, 1), "num_folds=1"),
        ((range(20), 0, 3), 'do not make 3 blocks of one size.*split="interleaved"'),
        ((range(20), 0, 4, "block"), "unknown split='block'; did you mean \"blocks\""),
    ],
)
def test_wrong_folds(arguments: tuple, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        fold_classes(*arguments)


def test_counted_pixels(counts: np.ndarray) -> None:
    assert counts.shape == (12, 5) and counts.dtype == np.int32
    assert counts[3].tolist() == [40 * 48 - 505, 0, 500, 5, 0]
    assert counts[8].tolist() == [40 * 48 - 400 - 192, 0, 0, 0, 400]  # 255 is no class


def test_lists_of_evaluation_and_training(counts: np.ndarray) -> None:
    test = make_lists(counts, (A, B), min_pixels=100)
    assert test.queries.tolist() == [0, 1, 2, 3, 7]
    assert {index: pictures.tolist() for index, pictures in test.pictures.items()} == {A: [0, 1, 7], B: [1, 2, 3]}
    assert test.shown.tolist() == [[1, 0], [1, 1], [0, 1], [0, 1], [1, 0]]
    train = make_lists(counts, (D, C), unwanted=(A, B), min_pixels=100)  # 7 shows an ant, 3 a bee
    assert train.classes == (C, D)
    assert train.queries.tolist() == [4, 5, 6, 8, 11]
    assert {index: pictures.tolist() for index, pictures in train.pictures.items()} == {C: [4, 5, 11], D: [5, 6, 8]}


def test_a_class_is_asked_for_where_it_is_too_small_to_count(counts: np.ndarray) -> None:
    lists = make_lists(counts, (B, C), min_pixels=100)
    assert lists.queries.tolist() == [1, 2, 3, 4, 5, 11]
    assert lists.shown[2].tolist() == [True, True] and 3 not in lists.pictures[C]
    asked = {draw_episode(lists, 2, 1, random.Random(seed)).class_id for seed in range(20)}
    assert asked == {B, C}


def test_2048_pixels_count_and_2047_do_not() -> None:
    lists = make_lists(np.array([[0, 2047], [0, 2048]]), (1,))
    assert lists.queries.tolist() == [1]


class Draws(random.Random):
    """Gives what it is told to, and keeps what it was asked for."""

    def __init__(self, values: list[int]) -> None:
        super().__init__()
        self.values, self.asked = values, []

    def randint(self, low: int, high: int) -> int:
        self.asked.append((low, high))
        return self.values.pop(0)


def test_the_published_draws_one_by_one(counts: np.ndarray) -> None:
    """Picture 1 shows ant and bee; bees count in 1, 2 and 3."""
    lists = make_lists(counts, (A, B), min_pixels=100)
    # the bee; a draw thrown away, the query itself, picture 3; a draw thrown away, picture 3 again, picture 2
    rng = Draws([2, 2, 1, 3, 2, 3, 2])
    episode = draw_episode(lists, 1, 2, rng)
    assert (episode.query, episode.class_id, episode.supports) == (1, B, (3, 2))
    assert rng.asked == [(1, 2), *[(1, 3)] * 6]
    assert rng.values == []


def test_too_few_pictures_end_the_draws(counts: np.ndarray) -> None:
    lists = make_lists(counts, (A, B), min_pixels=100)
    with pytest.raises(DataError, match=r"class 1 counts in 2 pictures besides the query \(picture 0\).*shot=3"):
        draw_episode(lists, 0, 3, random.Random(0))


def test_counts_are_kept_and_counted_again_when_a_mask_changes(
    tmp_path: Path, counts: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    cache = str(tmp_path / "new/counts.npz")
    assert (count_pixels(dataset(tmp_path), cache) == counts).all()
    assert os.listdir(tmp_path / "new") == ["counts.npz"]
    with monkeypatch.context() as patch:
        patch.setattr(counting, "_count", lambda dataset: pytest.fail("counted again"))
        assert (count_pixels(dataset(tmp_path), cache) == counts).all()
        other = FolderDataset(**{k: v for k, v in source(tmp_path, label_map={1: 0}).items() if k != "type"})
        with pytest.raises(pytest.fail.Exception):
            count_pixels(other, cache)
    mask = tmp_path / "masks/00.png"
    mask.write_bytes((tmp_path / "masks/02.png").read_bytes())
    changed = count_pixels(dataset(tmp_path), cache)
    assert (changed[0] == counts[2]).all() and (changed[1:] == counts[1:]).all()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"no archive at all"])
def test_a_damaged_file_of_counts_costs_time_only(
    folder: Path, counts: np.ndarray, tmp_path: Path, content: bytes
) -> None:
    cache = tmp_path / "counts.npz"
    cache.write_bytes(content)
    assert (count_pixels(dataset(folder), str(cache)) == counts).all()
    with np.load(cache) as file:
        assert (file["counts"] == counts).all()
    np.savez(cache, state=np.array("x"), counts=np.array([{}], dtype=object))  # not unpickled
    assert (count_pixels(dataset(folder), str(cache)) == counts).all()
    (tmp_path / "file").touch()
    assert (count_pixels(dataset(folder), str(tmp_path / "file/counts.npz")) == counts).all()  # cannot be written


def test_a_data_set_without_label_maps(folder: Path) -> None:
    unlabelled = FolderDataset(
        data_root=str(folder), data_prefix=dict(img_path="images"), metainfo=dict(classes=("a",)), test_mode=True
    )
    with pytest.raises(DataError, match="gives no label map"):
        count_pixels(unlabelled)


VAL_COUNTS = {  # pictures of VOC2012's "2007_*" part with 2048 pixels or more of each class
    0: dict(aeroplane=16, bicycle=10, bird=14, boat=11, bottle=15),
    1: dict(bus=18, car=22, cat=22, chair=28, cow=15),
    2: dict(diningtable=21, dog=26, horse=21, motorbike=18, person=118),
    3: dict(pottedplant=18, sheep=16, sofa=26, train=21, tvmonitor=20),
}


def test_lists_of_pascal(real_data: Path, tmp_path: Path) -> None:
    root = str(real_data / "VOCdevkit/VOC2012")
    sizes = {}
    for split in ("train", "val"):
        pictures = PascalVOCDataset(data_root=root, ann_file=f"ImageSets/Segmentation/{split}.txt")
        for fold, expected in VAL_COUNTS.items():
            made = EpisodeDataset(
                pictures, fold=fold, test_mode=split == "val", count_cache=str(tmp_path / f"{split}.npz")
            )
            names = made.metainfo["classes"]
            sizes[split, fold] = len(made), sum(len(found) for found in made.lists.pictures.values())
            if split == "val":
                assert {names[i]: len(found) for i, found in made.lists.pictures.items()} == expected
                assert [names[i] for i in made.metainfo["novel_ids"]] == list(expected)
            else:
                assert not set(made.lists.pictures) & set(made.metainfo["novel_ids"])
    assert [sizes["val", fold] for fold in range(4)] == [(66, 66), (96, 105), (156, 204), (98, 101)]
    assert [sizes["train", fold] for fold in range(4)] == [(211, 323), (193, 260), (136, 167), (214, 311)]
