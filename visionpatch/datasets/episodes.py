"""Few-shot episodes out of label maps: the classes of a fold, the pictures that show them, and the draws.

The rules are those of SCCAN's published code (arXiv 2308.09294), which took them over from earlier methods: the lists
of PASCAL-5i and COCO-20i follow from the label maps alone.

Letters: N pictures of a data set, C classes of it, n pictures that can be queries, k classes that are drawn, K shots.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visionpatch.errors import ConfigError, DataError, nearest

MIN_PIXELS = 2 * 32 * 32  # of a class that counts in a picture
SPLITS = ("blocks", "interleaved")


def fold_classes(classes: Sequence[int], fold: int, num_folds: int = 4, split: str = "blocks") -> tuple[int, ...]:
    """The novel ones of `classes` in a fold; the others are its base classes.

    Args:
        classes: class indices of all objects, in the order of the data set.
        fold: 0 to `num_folds` - 1.
        split: "blocks" puts neighbours into one fold, as in PASCAL-5i and in COCO-20i as PANet splits it;
            "interleaved" takes every `num_folds`-th class, COCO-20i as FWB splits it.

    Raises:
        ConfigError: no such fold or split, or classes that do not divide into blocks.
    """
    if split not in SPLITS:
        raise ConfigError(f"EpisodeDataset: unknown split={split!r}{nearest(str(split), SPLITS)}")
    if not 2 <= num_folds <= len(classes) or not 0 <= fold < num_folds:
        raise ConfigError(
            f"EpisodeDataset: fold={fold} of num_folds={num_folds}; folds count from 0, and {len(classes)} classes "
            f"make 2 to {len(classes)} of them"
        )
    if split == "interleaved":
        return tuple(classes[fold::num_folds])
    size, rest = divmod(len(classes), num_folds)
    if rest:
        raise ConfigError(
            f"EpisodeDataset: {len(classes)} classes do not make {num_folds} blocks of one size; take another "
            'num_folds, split="interleaved", or name the novel_classes'
        )
    return tuple(classes[fold * size : (fold + 1) * size])


@dataclass(frozen=True)
class EpisodeLists:
    """Which pictures can be queries, and which can show a class to the model.

    Attributes:
        classes: the k class indices that are drawn, ascending.
        queries: (n,) pictures in the order of the data set.
        pictures: {class index: pictures in which it counts, in the order of the data set}.
        shown: (n, k) bool, which classes a query shows, be it with a single pixel.
    """

    classes: tuple[int, ...]
    queries: np.ndarray
    pictures: dict[int, np.ndarray]
    shown: np.ndarray


def make_lists(
    counts: np.ndarray, classes: Sequence[int], unwanted: Sequence[int] = (), min_pixels: int = MIN_PIXELS
) -> EpisodeLists:
    """The lists of a fold. A class counts in a picture where it has `min_pixels` pixels of the file.

    A picture is in the lists if one of the classes counts in it. Published: for training the base classes, without
    pictures that show a novel one; for evaluation the novel classes.

    Args:
        counts: (N, C) pixels of each class in each picture.
        classes: those that are drawn.
        unwanted: pictures that show one of these, be it with a single pixel, are left out.
    """
    ids = sorted(classes)
    pixels = counts[:, ids]
    large = pixels >= min_pixels
    large &= ~(counts[:, list(unwanted)] > 0).any(1, keepdims=True)
    queries = np.flatnonzero(large.any(1))
    pictures = {index: np.flatnonzero(large[:, column]) for column, index in enumerate(ids)}
    return EpisodeLists(tuple(ids), queries, pictures, pixels[queries] > 0)


@dataclass(frozen=True)
class Episode:
    """One task: find a class in the query, given other pictures that show it.

    Attributes:
        query: index of a picture.
        class_id: index of the class.
        supports: K pictures in the order in which they were drawn.
    """

    query: int
    class_id: int
    supports: tuple[int, ...]


def draw_episode(lists: EpisodeLists, place: int, shot: int, rng: random.Random) -> Episode:
    """The episode of the query ``lists.queries[place]``, by the published draws.

    The class is any of those the query shows, also one too small to count. For each shot one draw is thrown away,
    then a picture is drawn until it is another one than the query and those before it.

    Raises:
        DataError: there are not enough other pictures of the class.
    """
    query = int(lists.queries[place])
    candidates = np.flatnonzero(lists.shown[place])
    class_id = lists.classes[candidates[rng.randint(1, len(candidates)) - 1]]
    pictures = lists.pictures[class_id]
    others = int((pictures != query).sum())
    if others < shot:
        raise DataError(
            f"class {class_id} counts in {others} pictures besides the query (picture {query}), too few for shot={shot}"
        )
    drawn: list[int] = []
    for _ in range(shot):
        rng.randint(1, len(pictures))
        picture = query
        while picture == query or picture in drawn:
            picture = int(pictures[rng.randint(1, len(pictures)) - 1])
        drawn.append(picture)
    return Episode(query, class_id, tuple(drawn))
