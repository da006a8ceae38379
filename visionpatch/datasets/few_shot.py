"""EpisodeDataset: few-shot segmentation out of any data set with label maps."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log

from visionpatch.errors import BadSampleError, ConfigError, DataError, nearest
from visionpatch.random_state import generators_of, mix, seeded
from visionpatch.registry import DATASETS
from visionpatch.structures import DataSample

from .base import BaseDataset
from .beside import put_beside
from .episodes import MIN_PIXELS, Episode, EpisodeLists, draw_episode, fold_classes, make_lists
from .pixel_counts import count_pixels
from .transforms import Compose, SelectClass
from .wrappers import build

ANNOTATIONS = ("mask", "bbox")
RARE = ("error", "drop", "keep")
SALT = 1  # lets the draws of an episode and those of its transforms come from different numbers


@DATASETS.register_module()
class EpisodeDataset(BaseDataset):
    """Episodes: a query, a class it shows, and K other pictures with the masks of that class.

    In training item i asks for a base class in the i-th picture that shows one, anew in every epoch; pictures that show
    a novel class, be it with a single pixel, are left out. In testing item i asks for a novel class, in the pictures'
    order, from the first one again until there are `num_episodes`; the episodes follow from (`episode_seed`, i) alone.
    Which pictures these are, and how classes and supports are drawn, is as published, see `episodes`.

    A sample is dict(inputs=query (3, H, W), data_samples=DataSample): `gt_sem_seg` (1, H, W) is 1 where the class is,
    255 where it is unknown, else 0; `support` is a list of K DataSamples with `image` (3, h, w) and `gt_sem_seg`
    (1, h, w), in the reverse order of drawing, as published. Metadata besides those of the pipeline: ``class_id``
    (index into ``metainfo["classes"]``), ``class_name`` and, of the query, ``run``.

    Args:
        dataset: the pictures: a segmentation data set or CocoSegDataset, or the dict to build it from. Its own pipeline
            is not used.
        fold, num_folds, split: which classes are novel, see `fold_classes`.
        novel_classes: their names, instead of a fold.
        shot: K.
        num_episodes: items of a run; None: as many as there are pictures to ask about.
        runs: so many runs of `num_episodes`, each with other draws; a metric gives the spread between them.
        episode_seed: of the test episodes.
        ann_type: of the supports: "mask", or "bbox" for the filled boxes around the parts of the mask.
        rare_classes: of classes that count in fewer than `min_pictures` pictures, "error" raises, "drop" takes them out
            of base or novel classes, and "keep" raises when an episode asks for one without K other pictures.
        min_pictures: None: K + 1, the least there can be. A larger number lets several K be compared on one set of
            classes.
        min_pixels: of a class that counts in a picture.
        beside_prob: in training, the probability that half of the query is shown beside half of another picture, see
            `put_beside`; all pictures need one size then.
        control: in testing, show supports of another class with their masks of it: what is found nevertheless does not
            come from the support set.
        background: names of classes that are no objects; those the data set does not have do not matter.
        count_cache: a file to keep the counted pixels in, see `count_pixels`.
        pipeline: of the query: LoadImage, LoadAnnotations, SelectClass, ..., PackInputs. For evaluation the picture is
            resized before LoadAnnotations.
        support_pipeline: of each support; None takes `pipeline`.
        test_mode: novel classes and fixed episodes.

    Attributes:
        metainfo: that of `dataset`, with `base_ids` and `novel_ids`: class indices.
        lists: the EpisodeLists.

    Raises:
        ConfigError: an argument is wrong.
        DataError: no picture shows one of the classes, or a class counts in too few.
    """

    def __init__(
        self,
        dataset: BaseDataset | Mapping[str, Any],
        *,
        fold: int = 0,
        num_folds: int = 4,
        split: str = "blocks",
        novel_classes: Sequence[str] | None = None,
        shot: int = 1,
        num_episodes: int | None = None,
        runs: int = 1,
        episode_seed: int = 321,
        ann_type: str = "mask",
        rare_classes: str = "error",
        min_pictures: int | None = None,
        min_pixels: int = MIN_PIXELS,
        beside_prob: float = 0.0,
        control: bool = False,
        background: Sequence[str] = ("background",),
        count_cache: str = "",
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        support_pipeline: Sequence[Mapping[str, Any] | Callable] | None = None,
        test_mode: bool = False,
    ) -> None:
        super().__init__(pipeline, test_mode)
        self.support_pipeline = self.pipeline if support_pipeline is None else Compose(support_pipeline)
        for name, steps in (("pipeline", self.pipeline), ("support_pipeline", self.support_pipeline)):
            _check_pipeline(name, steps)
        _check_numbers(shot=shot, runs=runs, min_pixels=min_pixels)
        _check_numbers(optional=True, num_episodes=num_episodes, min_pictures=min_pictures)
        for name, value, words in (("ann_type", ann_type, ANNOTATIONS), ("rare_classes", rare_classes, RARE)):
            if value not in words:
                raise ConfigError(f"EpisodeDataset: unknown {name}={value!r}{nearest(str(value), words)}")
        self.shot, self.ann_type, self.episode_seed, self.runs = shot, ann_type, episode_seed, runs
        if not 0 <= beside_prob <= 1:
            raise ConfigError(f"EpisodeDataset: beside_prob is a probability, 0 to 1, not {beside_prob!r}")
        self.beside_prob = 0.0 if test_mode else beside_prob
        self.control = control and test_mode
        self.rare_classes, self.min_pictures = rare_classes, max(min_pictures or 0, shot + 1)
        self.dataset = build(dataset)
        names = self.dataset.metainfo["classes"]
        objects = [index for index, name in enumerate(names) if name not in background]
        if novel_classes is None:
            novel = fold_classes(objects, fold, num_folds, split)
        else:
            novel = _find_classes(novel_classes, [names[index] for index in objects], names)
        base = tuple(index for index in objects if index not in novel)
        counts = _without_repeats(self.dataset, count_pixels(self.dataset, count_cache))
        self.lists = self._lists(counts, novel if test_mode else base, () if test_mode else novel, min_pixels)
        kept = dict(novel_ids=self.lists.classes) if test_mode else dict(base_ids=self.lists.classes)
        self.metainfo = {**self.dataset.metainfo, "base_ids": base, "novel_ids": novel, **kept}
        self.num_episodes = num_episodes or len(self.lists.queries)

    def __len__(self) -> int:
        return self.runs * self.num_episodes

    def __getitem__(self, key: int) -> dict[str, Any]:
        episode = self.episode(key)
        with seeded(*self._numbers(key), own=self._own_generators()):
            packed = self.load(episode, self._of_another_class(key, episode) if self.control else None)
            if np.random.random_sample() < self.beside_prob:
                packed = put_beside(packed, self._other_picture(episode))
        packed["data_samples"].set_metainfo(dict(run=self.split_key(key)[1] // self.num_episodes))
        return packed

    def episode(self, key: int) -> Episode:
        """What item `key` is about, in indices of `dataset` and its classes; nothing is read."""
        place = self.split_key(key)[1] % self.num_episodes % len(self.lists.queries)
        return draw_episode(self.lists, place, self.shot, random.Random(mix(*self._numbers(key), SALT)))

    def load(self, episode: Episode, shown: Episode | None = None) -> dict[str, Any]:
        """The sample of any episode; with the supports, and their class, of the episode `shown` if given."""
        shown = shown or episode
        packed = self._load(self.pipeline, episode.query, episode, "mask")
        supports = []
        for picture in reversed(shown.supports):
            other = self._load(self.support_pipeline, picture, shown, self.ann_type)
            other["data_samples"].image = other["inputs"]
            supports.append(other["data_samples"])
        packed["data_samples"].support = supports
        return packed

    def _of_another_class(self, key: int, episode: Episode) -> Episode:
        """The next episode that asks for another class."""
        place = self.split_key(key)[1]
        others = (self.episode((place + step) % len(self)) for step in range(1, len(self)))
        found = next((other for other in others if other.class_id != episode.class_id), None)
        if found is None:
            raise DataError("EpisodeDataset: control=True needs supports of another class; all episodes ask for one")
        return found

    def _other_picture(self, episode: Episode) -> dict[str, Any]:
        """Any picture of the lists, with the mask of the episode's class, be it empty."""
        picture = int(np.random.choice(self.lists.queries))
        return self._load(self.pipeline, picture, episode, "mask", empty=True)

    def get_data_info(self, index: int) -> dict[str, Any]:
        episode = self.episode(index)
        return self._info(episode.query, episode, "mask")

    def _numbers(self, key: int) -> tuple[int, ...]:
        """What all random numbers of item `key` follow from."""
        epoch, index = self.split_key(key)
        return (self.episode_seed, *divmod(index, self.num_episodes)) if self.test_mode else (self.seed, epoch, index)

    def _info(self, picture: int, episode: Episode, ann_type: str) -> dict[str, Any]:
        name = self.metainfo["classes"][episode.class_id]
        asked = dict(class_id=episode.class_id, class_name=name, ann_type=ann_type)
        return self.dataset.get_data_info(picture) | asked

    def _load(
        self, pipeline: Compose, picture: int, episode: Episode, ann_type: str, empty: bool = False
    ) -> dict[str, Any]:
        info = self._info(picture, episode, ann_type) | dict(class_may_be_absent=empty)
        path, asked = info["img_path"], {key: info[key] for key in ("class_id", "class_name")}
        packed = pipeline(info)
        if packed is None:
            raise BadSampleError(f"{path}: a transform returned nothing for it")
        sample = packed.get("data_samples")
        if not isinstance(sample, DataSample) or "gt_sem_seg" not in sample:
            raise ConfigError("EpisodeDataset: pipeline and support_pipeline have to end with PackInputs")
        sample.set_metainfo(asked)
        return packed

    def _own_generators(self) -> list[Any]:
        pipelines = self.pipeline, self.support_pipeline
        if self._generators[0] != pipelines:
            self._generators = pipelines, generators_of(*pipelines)
        return self._generators[1]

    def _lists(
        self, counts: np.ndarray, wanted: Sequence[int], unwanted: Sequence[int], min_pixels: int
    ) -> EpisodeLists:
        """The lists of the classes `wanted`, without those that count in too few pictures."""
        names, kind = self.dataset.metainfo["classes"], "novel" if self.test_mode else "base"
        lists = make_lists(counts, wanted, unwanted, min_pixels)
        rare = {index: len(found) for index, found in lists.pictures.items() if len(found) < self.min_pictures}
        if rare and self.rare_classes != "keep":
            listed = ", ".join(f"{names[index]} ({number})" for index, number in rare.items())
            text = (
                f"EpisodeDataset: {len(rare)} of {len(wanted)} {kind} classes count in fewer than {self.min_pictures} "
                f"of the {len(counts)} pictures, and shot is {self.shot}: {listed}"
            )
            if self.rare_classes == "error":
                raise DataError(f'{text}; take more pictures or fewer shots, or rare_classes="drop"')
            print_log(f"{text}; they are left out", "current", logging.WARNING)
            lists = make_lists(counts, [index for index in wanted if index not in rare], unwanted, min_pixels)
        if not len(lists.queries):
            raise DataError(
                f"EpisodeDataset: none of the {len(counts)} pictures can be a query; {kind} classes: "
                f"{', '.join(names[index] for index in wanted) or 'none'}; wrong fold, classes or data?"
            )
        return lists


def _check_pipeline(name: str, pipeline: Compose) -> None:
    if pipeline.transforms and not any(isinstance(step, SelectClass) for step in pipeline.transforms):
        raise ConfigError(
            f'EpisodeDataset: {name} lacks dict(type="SelectClass") after LoadAnnotations; it makes the mask of the '
            "episode's class"
        )


def _check_numbers(optional: bool = False, **numbers: int | None) -> None:
    for name, value in numbers.items():
        if not (optional and value is None) and (type(value) is not int or value < 1):
            what = "the number of annotated examples of a class" if name == "shot" else "a number"
            raise ConfigError(f"EpisodeDataset: {name} is {what}, 1 or more, not {value!r}")


def _find_classes(wanted: Sequence[str], objects: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """The indices of the classes `wanted`, in the order of the data set."""
    given = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in given:
        if name not in objects:
            raise ConfigError(f'EpisodeDataset: novel_classes has "{name}", no class to draw{nearest(name, objects)}')
    if not given or len(set(given)) != len(given):
        raise ConfigError(f"EpisodeDataset: novel_classes is a tuple of different names, not {wanted!r}")
    return tuple(index for index, name in enumerate(names) if name in given)


def _without_repeats(dataset: BaseDataset, counts: np.ndarray) -> np.ndarray:
    """`counts` with zeros for pictures listed before, which could support themselves."""
    seen: set[str] = set()
    for index in range(len(dataset)):
        path = dataset.get_data_info(index)["img_path"]
        if path in seen:
            counts[index] = 0
        seen.add(path)
    return counts
