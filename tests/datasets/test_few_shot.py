"""EpisodeDataset: what a sample is, and that it depends on its numbers alone."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from few_shot_set import LOAD, PACK, SIZE, SUPPORT, TEST, TRAIN, A, B, C, D, episodes, labels_of, source, write

from visionpatch.datasets import CocoSegDataset, ConcatDataset, EpisodeDataset, RepeatDataset
from visionpatch.engine.loading import batches, build_loader
from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.structures import DataSample


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("few_shot"))


def binary(index: int, class_id: int) -> np.ndarray:
    labels = labels_of(index)
    return np.where(labels == 255, 255, labels == class_id)


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    def parts(packed: dict[str, Any]) -> Iterator[Any]:
        yield packed["inputs"]
        for sample in (packed["data_samples"], *packed["data_samples"].support):
            yield sample.gt_sem_seg.data
            yield sample.metainfo
        yield from (sample.image for sample in packed["data_samples"].support)

    pairs = itertools.zip_longest(parts(first), parts(second))
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_a_sample_holds_the_episode(folder: Path) -> None:
    data = episodes(folder, shot=2)
    assert len(data) == 5 and data.metainfo["classes"][A] == "ant"
    assert data.metainfo["novel_ids"] == (A, B) and data.metainfo["base_ids"] == (C, D)
    for key, picture in enumerate([0, 1, 2, 3, 7]):
        episode, packed = data.episode(key), data[key]
        sample: DataSample = packed["data_samples"]
        assert episode.query == picture and len(set(episode.supports)) == 2 and picture not in episode.supports
        assert sample.class_id == episode.class_id and sample.class_name == ("ant", "bee")[sample.class_id - 1]
        assert sample.img_path.endswith(f"{picture:02d}.png") and sample.ori_shape == SIZE and sample.run == 0
        assert (sample.gt_sem_seg.data[0].numpy() == binary(picture, episode.class_id)).all()  # at the size of the file
        assert packed["inputs"].shape == (3, 64, 64) and packed["inputs"].dtype == torch.uint8
        for support, other in zip(sample.support, reversed(episode.supports), strict=True):
            assert isinstance(support, DataSample) and support.img_path.endswith(f"{other:02d}.png")
            assert support.image.shape == (3, 64, 64) and support.gt_sem_seg.data.shape == (1, 64, 64)
            assert support.class_id == episode.class_id and (support.gt_sem_seg.data == 1).any()


def test_the_query_is_the_file(folder: Path) -> None:
    plain = [*LOAD, *PACK]
    data = episodes(folder, pipeline=plain, support_pipeline=None)
    image = cv2.imread(str(folder / "images/03.png"))
    assert (data[3]["inputs"].permute(1, 2, 0).numpy() == image).all()
    support = data[3]["data_samples"].support[0]
    assert (support.image.permute(1, 2, 0).numpy() == cv2.imread(support.img_path)).all()


def test_episodes_start_over_and_runs_differ(folder: Path) -> None:
    data = episodes(folder, num_episodes=12, runs=3)
    assert len(data) == 36
    assert [data.episode(key).query for key in range(12)] == [0, 1, 2, 3, 7, 0, 1, 2, 3, 7, 0, 1]
    assert [data[key]["data_samples"].run for key in (0, 11, 12, 35)] == [0, 0, 1, 2]
    runs = [[data.episode(12 * run + i) for i in range(12)] for run in range(3)]
    assert [e.query for e in runs[2]] == [e.query for e in runs[0]]
    assert runs[0] != runs[1] != runs[2] != runs[0]
    assert len({data.episode(key) for key in (0, 5, 10)}) > 1  # a picture gets other supports each time
    assert [episodes(folder, num_episodes=12).episode(key) for key in range(12)] == runs[0]


def test_the_same_seed_twice_and_another_one(folder: Path) -> None:
    def queries(**more: Any) -> list:
        data = episodes(folder, num_episodes=20, **more)
        return [data.episode(key) for key in range(20)]

    assert queries() == queries() != queries(episode_seed=322)
    data = episodes(folder, num_episodes=20)
    data.seed = 5  # a sampler sets the seed of the run: test episodes stay what they are
    random.random()
    assert [data.episode(key) for key in reversed(range(20))] == queries()[::-1]
    assert all(equal(data[key], data[key]) for key in range(5))
    assert equal(data[20 + 3], data[3])  # another epoch


def test_training_episodes_change_with_the_epoch(folder: Path) -> None:
    data = episodes(folder, test_mode=False)
    assert data.metainfo["base_ids"] == (C, D) and [data.episode(i).query for i in range(5)] == [4, 5, 6, 8, 11]
    seen = {data.episode(epoch * 5 + 1) for epoch in range(40)}  # picture 5 shows a cat and a dog
    assert {(e.class_id, e.supports[0]) for e in seen} == {(C, 4), (C, 11), (D, 6), (D, 8)}
    assert equal(data[7], data[7]) and not equal(data[7], data[12])
    other = episodes(folder, test_mode=False)
    other.seed = 1
    assert [data.episode(key) for key in range(50)] != [other.episode(key) for key in range(50)]


def test_the_augmentations_of_query_and_supports_are_their_own(folder: Path) -> None:
    flip = [*LOAD, dict(type="RandomFlip", prob=0.5), *PACK]
    data = episodes(folder, test_mode=False, pipeline=flip)
    flips = {(s.flip, s.support[0].flip) for s in (data[key]["data_samples"] for key in range(40))}
    assert len(flips) == 4


def loader(data: EpisodeDataset, batch_size: int, workers: int, sampler: str = "DefaultSampler", **more: Any) -> Any:
    training = sampler == "TrainSampler"
    cfg = dict(dataset=data, batch_size=batch_size, num_workers=workers, sampler=dict(type=sampler, shuffle=training))
    return build_loader(cfg | more, seed=3, diff_rank_seed=False, training=training)


def samples(given: Any, number: int | None = None, start: int = 0) -> list[dict[str, Any]]:
    read = itertools.islice(batches(given, start), number)
    return [
        dict(inputs=image, data_samples=sample)
        for batch in read
        for image, sample in zip(batch["inputs"], batch["data_samples"], strict=True)
    ]


def test_evaluation_depends_neither_on_batches_nor_on_workers(folder: Path) -> None:
    alone = samples(loader(episodes(folder, num_episodes=12), 1, 0))
    for size, workers in ((3, 0), (1, 2), (3, 2)):
        other = samples(loader(episodes(folder, num_episodes=12), size, workers))
        assert len(alone) == len(other) == 12
        assert all(equal(*pair) for pair in zip(alone, other, strict=True))


def test_training_depends_neither_on_workers_nor_on_what_came_before(folder: Path) -> None:
    data = episodes(folder, test_mode=False)
    whole = samples(loader(data, 2, 0, "TrainSampler"), 8)
    assert all(equal(*pair) for pair in zip(whole, samples(loader(data, 2, 2, "TrainSampler"), 8), strict=True))
    resumed = samples(loader(data, 2, 2, "TrainSampler"), 3, start=5)
    assert all(equal(*pair) for pair in zip(whole[10:], resumed, strict=True))
    assert not equal(whole[0], whole[10])


def test_the_random_state_of_the_process_stays(folder: Path) -> None:
    data = episodes(folder, test_mode=False)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    data[3]
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_supports_of_another_class_as_a_control(folder: Path) -> None:
    plain, control = episodes(folder, num_episodes=6), episodes(folder, num_episodes=6, control=True)
    for key in range(6):
        query, sample = plain[key], control[key]["data_samples"]
        assert torch.equal(query["data_samples"].gt_sem_seg.data, sample.gt_sem_seg.data)
        (support,) = sample.support
        assert {sample.class_id, support.class_id} == {A, B} and (support.gt_sem_seg.data == 1).any()
        assert equal(control[key], control[key])
    with pytest.raises(DataError, match="control=True needs supports of another class"):
        episodes(folder, novel_classes=("ant",), control=True)[0]


def test_named_classes_and_bounding_boxes(folder: Path) -> None:
    data = episodes(folder, novel_classes=("dog", "ant"), ann_type="bbox")
    assert data.metainfo["novel_ids"] == (A, D) and data.metainfo["base_ids"] == (B, C)
    plain = [*LOAD, *PACK]
    data = episodes(folder, novel_classes=["dog"], ann_type="bbox", pipeline=plain, support_pipeline=None)
    support = data[0]["data_samples"].support[0]
    picture = int(Path(support.img_path).stem)
    rows, columns = np.nonzero(binary(picture, D) == 1)
    filled = np.zeros(SIZE)  # one pixel more at the right and the bottom, as published
    filled[rows.min() : rows.max() + 2, columns.min() : columns.max() + 2] = 1
    filled[labels_of(picture) == 255] = 255
    assert (support.gt_sem_seg.data[0].numpy() == filled).all()
    assert (data[0]["data_samples"].gt_sem_seg.data[0].numpy() == binary(data.episode(0).query, D)).all()


def test_rare_classes(folder: Path) -> None:
    text = r"2 of 2 novel classes count in fewer than 4 of the 12 pictures, and shot is 3: ant \(3\), bee \(3\); .*drop"
    with pytest.raises(DataError, match=text):
        episodes(folder, shot=3)
    kept = episodes(folder, shot=3, rare_classes="keep")
    assert kept.metainfo["novel_ids"] == (A, B)
    with pytest.raises(DataError, match="class 1 counts in 2 pictures besides the query"):
        kept[0]
    dropped = episodes(folder, shot=3, rare_classes="drop", novel_classes=("ant", "dog"))
    assert dropped.metainfo["novel_ids"] == (D,) and dropped.metainfo["base_ids"] == (B, C)
    assert {dropped.episode(key).query for key in range(len(dropped))} == {5, 6, 7, 8}
    with pytest.raises(DataError, match="none of the 12 pictures can be a query; novel classes: ant, bee"):
        episodes(folder, shot=3, rare_classes="drop")
    same = episodes(folder, shot=1, min_pictures=4, rare_classes="drop", novel_classes=("ant", "dog"))
    assert same.metainfo["novel_ids"] == (D,)


@pytest.mark.parametrize(
    "arguments, text",
    [
        (dict(shot=0), "shot is the number of annotated examples of a class, 1 or more, not 0"),
        (dict(shot=1.0), "shot is the number"),
        (dict(num_episodes=0), "num_episodes is a number, 1 or more, not 0"),
        (dict(runs=0), "runs is a number"),
        (dict(ann_type="box"), "unknown ann_type='box'; did you mean \"bbox\""),
        (dict(rare_classes="skip"), "unknown rare_classes='skip'; valid: drop, error, keep"),
        (dict(novel_classes=("ants",)), 'novel_classes has "ants", no class to draw; did you mean "ant"'),
        (dict(novel_classes=("background",)), 'novel_classes has "background"'),
        (dict(novel_classes=("ant", "ant")), "a tuple of different names"),
        (dict(num_folds=3), "4 classes do not make 3 blocks"),
        (dict(pipeline=[LOAD[0], LOAD[1], PACK[0]]), r'pipeline lacks dict\(type="SelectClass"\)'),
        (dict(support_pipeline=[dict(type="LoadImage")]), r"support_pipeline lacks"),
        (dict(dataset=dict(type="FolderDataset")), "FolderDataset needs metainfo"),
    ],
)
def test_wrong_arguments(folder: Path, arguments: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        if "dataset" in arguments:
            EpisodeDataset(**arguments)
        episodes(folder, **arguments)


def test_pipelines_have_to_pack(folder: Path) -> None:
    with pytest.raises(ConfigError, match="have to end with PackInputs"):
        episodes(folder, pipeline=LOAD)[0]


def test_a_class_that_left_its_mask(tmp_path: Path) -> None:
    write(tmp_path)
    data = episodes(tmp_path)
    mask = tmp_path / "masks/00.png"
    mask.write_bytes((tmp_path / "masks/09.png").read_bytes())
    with pytest.raises(BadSampleError, match=r'00\.png: no pixel of the mask has the class 1 \("ant"\)'):
        data[0]


def test_pictures_listed_twice_do_not_support_themselves(folder: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.txt"
    split.write_text("\n".join(f"{i:02d}" for i in [0, 0, 1, 2, 3, 7]))
    data = EpisodeDataset(
        source(folder, ann_file=str(split)), num_folds=2, min_pixels=100, pipeline=[*LOAD, *PACK], test_mode=True
    )
    assert data.lists.pictures[A].tolist() == [0, 2, 5] and data.lists.queries.tolist() == [0, 2, 3, 4, 5]


def test_wrapped_in_other_data_sets(folder: Path) -> None:
    data = episodes(folder, test_mode=False)
    assert equal(RepeatDataset(data, 3)[5 + 1], data[5 + 1])
    both = EpisodeDataset(
        ConcatDataset([source(folder, indices=[4, 5]), source(folder, indices=[6, 8, 11])]),
        num_folds=2,
        min_pixels=100,
        pipeline=[*LOAD, *PACK],
    )
    assert {index: found.tolist() for index, found in both.lists.pictures.items()} == {C: [0, 1, 4], D: [1, 2, 3]}
    assert Path(both[2]["data_samples"].img_path).stem == "06"


def coco(folder: Path) -> CocoSegDataset:
    """Two pictures 20 x 30: overlapping objects, a crowd, an object without an outline."""

    def entry(number: int, image: int, category: int, box: list, outline: Any, **more: Any) -> dict:
        return dict(id=number, image_id=image, category_id=category, bbox=box, segmentation=outline) | more

    def square(x: int, y: int, side: int) -> list:
        return [[x, y, x + side, y, x + side, y + side, x, y + side]]

    crowd = dict(size=[20, 30], counts=[0, 20 * 5, 20 * 25])  # the first five columns
    document = dict(
        images=[dict(id=i, file_name=f"{i}.png", height=20, width=30) for i in (1, 2)],
        categories=[dict(id=7, name="cat"), dict(id=3, name="dog")],
        annotations=[
            entry(1, 1, 3, [4, 4, 4, 4], square(4, 4, 4), area=16),  # small: in front of the next one
            entry(2, 1, 7, [2, 2, 10, 10], square(2, 2, 10), area=100),
            entry(3, 1, 3, [0, 0, 5, 20], crowd, area=10, iscrowd=1),  # behind, whatever its area
            entry(4, 2, 7, [10, 5, 5, 5], None, area=25),
            entry(5, 2, 3, [12, 0, 4, 20], square(12, 0, 4), area=80),
        ],
    )
    (folder / "objects.json").write_text(json.dumps(document))
    for i in (1, 2):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((20, 30, 3), i, np.uint8))
    return CocoSegDataset(ann_file=str(folder / "objects.json"), data_prefix=dict(img=str(folder)), pipeline=STEPS)


STEPS = [LOAD[0], LOAD[1], *PACK]


def test_label_maps_of_coco_are_painted_by_the_rule(tmp_path: Path) -> None:
    data = coco(tmp_path)
    assert data.metainfo["classes"] == ("background", "cat", "dog") and data.metainfo["palette"][0] == (0, 0, 0)
    first, second = (data[i]["data_samples"].gt_sem_seg.data[0].numpy() for i in range(2))
    expected = np.zeros((20, 30), int)
    expected[:, :5] = 2
    expected[2:12, 2:12] = 1
    expected[4:8, 4:8] = 2
    assert (first == expected).all()
    expected = np.zeros((20, 30), int)
    expected[5:10, 10:15] = 255  # only its box is known
    expected[:4, 12:16] = 2
    assert (second == expected).all()


def test_episodes_of_a_coco_file(real_data: Path) -> None:
    arguments = dict(
        type="CocoSegDataset",
        data_root=str(real_data / "coco_small"),
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017"),
    )
    options = dict(novel_classes=("person", "cat"), shot=2, num_episodes=3, test_mode=True)
    data = EpisodeDataset(arguments, pipeline=TEST, support_pipeline=SUPPORT, **options)
    assert len(data.metainfo["classes"]) == 81 and data.metainfo["novel_ids"] == (1, 16)
    for key in range(3):
        sample = data[key]["data_samples"]
        assert sample.gt_sem_seg.data.shape[1:] == sample.ori_shape
        assert set(sample.gt_sem_seg.data.unique().tolist()) <= {0, 1, 255} and (sample.gt_sem_seg.data == 1).any()
        assert len(sample.support) == 2 and all((s.gt_sem_seg.data == 1).any() for s in sample.support)


def test_training_samples_have_the_published_size(folder: Path) -> None:
    data = episodes(folder, test_mode=False, pipeline=TRAIN, shot=2)
    for key in range(10):
        packed = data[key]
        assert packed["inputs"].shape == (3, 41, 41)
        assert all(s.image.shape == (3, 41, 41) for s in packed["data_samples"].support)
        assert set(packed["data_samples"].gt_sem_seg.data.unique().tolist()) <= {0, 1, 255}
