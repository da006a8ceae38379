"""Protocol RS-LWIR: from aligned picture pairs to manifests of patch pairs, for training, validation and testing.

Sets R and S have the same patches in both labels: the pair (V_i, T_i) is positive and (V_i, T_p(i)) negative, p being a
permutation without fixed points (H nearly so). So a model that looks at one spectrum alone learns nothing.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from visionpatch.errors import ConfigError, DataError

from .pair_folder import PairFolder
from .patch_centres import MIN_SPREAD, eight_bits, find_centres, inside, spread
from .patch_manifest import PatchPair, write_manifest

GAP = 60  # a new group begins where the numbers of two frames differ by more
APART = 64  # of the patches of a negative of set S, in x or in y: they share no pixel
HARD = (16, 32)  # how far the thermal patch of set H lies from its place, in pixels
WHOLE = ("FLIR_video_",)  # frames of one drive: a single group
TRIES = 200  # draws of a displaced place
Centres = dict[str, np.ndarray]  # image -> (n, 2) x, y


def make_manifests(
    splits: Mapping[str, tuple[str, Sequence[str]]],
    root: str,
    out: str,
    limit: int = 48,
    seed: int = 0,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> dict[str, list[PatchPair]]:
    """Write ``out/NAME.csv`` for each split and return the pairs by name. The same arguments give the same files.

    Args:
        splits: {name: ("train" or "test", images)}; of "train" only the matching pairs are written, the others are
            drawn anew in each epoch; of "test" the sets R, S and H.
        root: as PairFolder.
        limit: patches of one picture at most.
        progress: wraps the list of images.

    Raises:
        ConfigError: an image in two splits. DataError: pictures that cannot be used, or too few.
    """
    check_disjoint({name: images for name, (_, images) in splits.items()})
    folder = PairFolder(root)
    images = sorted({image for _, names in splits.values() for image in names})
    centres = {image: find_centres(*folder.read(image), limit) for image in progress(images)}
    made = {}
    for number, (name, (kind, members)) in enumerate(splits.items()):
        own = {image: centres[image] for image in sorted(members) if len(centres[image])}
        if not own:
            raise DataError(
                f"{name}: no patch in {len(members)} pictures of {folder.root}; they need texture in both spectra at "
                "least 32 pixels from the border"
            )
        if kind == "train":
            made[name] = [PatchPair("train", i, x, y, i, x, y, 1) for i, c in own.items() for x, y in c.tolist()]
        else:
            made[name] = test_pairs(own, folder, np.random.default_rng([seed, number]))
    for name, pairs in made.items():
        write_manifest(os.path.join(out, f"{name}.csv"), pairs, folder)
    return made


def check_disjoint(splits: Mapping[str, Iterable[str]]) -> None:
    """Raise ConfigError for an image that is in two splits, or twice in one."""
    seen: dict[str, str] = {}
    for name, images in splits.items():
        for image in images:
            if image in seen:
                raise ConfigError(f"{image} is in the splits {seen[image]} and {name}; an image belongs to one split")
            seen[image] = name


def time_groups(images: Iterable[str], gap: int = GAP, whole: Sequence[str] = WHOLE) -> list[list[str]]:
    """Images in groups of neighbouring frames: a new one begins where the number in the name jumps by more than `gap`.

    Names that begin with one of `whole` make one group for each of these; names without a number are groups alone.
    """
    series: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    groups: list[list[str]] = []
    for image in sorted(images):
        scene, _, name = image.rpartition("/")
        start = next((prefix for prefix in whole if name.startswith(prefix)), None)
        found = re.fullmatch(r"(.*?)(\d+)(\D*)", name)
        if start is not None:
            series.setdefault((scene, start, "whole"), []).append((0, image))
        elif found is None:
            groups.append([image])
        else:
            series.setdefault((scene, found[1], found[3]), []).append((int(found[2]), image))
    for frames in series.values():
        frames.sort()
        for place, (number, image) in enumerate(frames):
            if not place or number - frames[place - 1][0] > gap:
                groups.append([])
            groups[-1].append(image)
    return sorted(groups)


def take_groups(groups: Sequence[list[str]], target: int, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Whole groups in random order until they hold `target` images, and the others.

    A group that would exceed the target is passed over; where all would, the smallest is taken.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    taken: list[int] = []
    for index in order:
        if sum(len(groups[k]) for k in taken) + len(groups[index]) <= target:
            taken.append(int(index))
    if not taken and target > 0 and len(groups) > 1:
        taken = [min(range(len(groups)), key=lambda k: len(groups[k]))]
    return [groups[k] for k in sorted(taken)], [g for k, g in enumerate(groups) if k not in taken]


def validation_groups(groups: Sequence[list[str]], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Images of `share` of the groups, and of the others.

    More are taken until they hold two images, which set R needs; one group is left at least, and where two images do
    not come together so, or `share` is 0, there is no validation.
    """
    order = np.random.default_rng([seed, 1]).permutation(len(groups)).tolist()
    number = round(share * len(groups)) if share > 0 else len(groups)
    while number < len(groups) and sum(len(groups[k]) for k in order[:number]) < 2:
        number += 1
    chosen = set(order[:number]) if number < len(groups) else set()
    parts = [
        [i for k, group in enumerate(groups) if (k in chosen) == wanted for i in group] for wanted in (True, False)
    ]
    return sorted(parts[0]), sorted(parts[1])


def test_pairs(centres: Centres, folder: PairFolder, rng: np.random.Generator) -> list[PatchPair]:
    """The sets R, S and H of a test split, each with as many positives as negatives.

    Raises:
        DataError: a set would be empty.
    """
    patches = [(image, x, y) for image, found in centres.items() for x, y in found.tolist()]
    pairs: list[PatchPair] = []
    for name, negatives in (
        ("R", random_negatives(patches, rng)),
        ("S", near_negatives(centres, rng)),
        ("H", hard_negatives(centres, folder, rng)),
    ):
        if not negatives:
            raise DataError(
                f"set {name} is empty: {len(patches)} patches of {len(centres)} pictures allow no negative pair "
                "(R takes two pictures, S patches 64 pixels apart)"
            )
        for (image, x, y), (image2, tx, ty) in negatives:
            pairs.append(PatchPair(name, image, x, y, image, x, y, 1))
            pairs.append(PatchPair(name, image, x, y, image2, tx, ty, 0))
    return pairs


Patch = tuple[str, int, int]  # image, x, y


def random_negatives(patches: Sequence[Patch], rng: np.random.Generator) -> list[tuple[Patch, Patch]]:
    """Set R: each patch with one of another image, a random permutation.

    An image that has more than half of all patches keeps a random part of them, as many as the others have.
    """
    image, most = Counter(patch[0] for patch in patches).most_common(1)[0]
    if 2 * most > len(patches):
        own = [k for k, patch in enumerate(patches) if patch[0] == image]
        dropped = set(rng.permutation(own)[: 2 * most - len(patches)].tolist())
        patches = [patch for k, patch in enumerate(patches) if k not in dropped]
    index = {name: number for number, name in enumerate(dict.fromkeys(patch[0] for patch in patches))}
    owner = np.array([index[patch[0]] for patch in patches], np.int64)
    target = rng.permutation(len(patches))
    for k in np.flatnonzero(owner == owner[target]):
        if owner[k] == owner[target[k]]:  # an exchange before may have mended it
            fits = (owner[target] != owner[k]) & (owner != owner[target[k]])
            other = rng.choice(np.flatnonzero(fits))
            target[[k, other]] = target[[other, k]]
    return [(patch, patches[target[k]]) for k, patch in enumerate(patches)]


def near_negatives(centres: Centres, rng: np.random.Generator) -> list[tuple[Patch, Patch]]:
    """Set S: each patch with one of the same image that shares no pixel with it; those that have none are left out."""
    made: list[tuple[Patch, Patch]] = []
    for image, points in centres.items():
        distance = abs(points[:, None] - points[None]).max(-1)  # (n, n)
        target = draw_permutation(distance >= APART, rng)
        made += [((image, *points[k].tolist()), (image, *points[t].tolist())) for k, t in enumerate(target) if t != k]
    return made


def hard_negatives(centres: Centres, folder: PairFolder, rng: np.random.Generator) -> list[tuple[Patch, Patch]]:
    """Set H: each patch with a thermal one 16 to 32 pixels from its place.

    These are centres themselves as far as each can be taken once; the others are drawn in a random direction, where the
    thermal patch has texture. A patch for which nothing is found is left out.
    """
    made: list[tuple[Patch, Patch]] = []
    for image, points in centres.items():
        distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))  # (n, n)
        target = draw_permutation((distance >= HARD[0]) & (distance <= HARD[1]), rng)
        thermal = eight_bits(folder.read(image)[1])
        for k, t in enumerate(target):
            x, y = points[k].tolist()
            place = points[t].tolist() if t != k else displaced(thermal, x, y, rng)
            if place is not None:
                made.append(((image, x, y), (image, place[0], place[1])))
    return made


def displaced(thermal: np.ndarray, x: int, y: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """A place 16 to 32 pixels from (x, y) whose patch lies in the picture and has texture."""
    for _ in range(TRIES):
        angle, radius = rng.uniform(0, 2 * math.pi), rng.uniform(*HARD)
        tx, ty = x + round(radius * math.cos(angle)), y + round(radius * math.sin(angle))
        if (
            HARD[0] ** 2 <= (tx - x) ** 2 + (ty - y) ** 2 <= HARD[1] ** 2
            and inside(thermal.shape, tx, ty)
            and spread(thermal, tx, ty) >= MIN_SPREAD
        ):
            return tx, ty
    return None


def draw_permutation(allowed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random permutation (n,) along the pairs `allowed` (n, n); as few elements as possible stay where they are.

    Those are to be left out. What is left is a permutation again, so both labels keep the same patches.
    """
    n = len(allowed)
    cost = np.where(allowed, rng.random((n, n)), 1e6 * (n + 1))
    cost[np.arange(n), np.arange(n)] = 1e3 * (n + 1)  # dearer than all allowed pairs together, cheaper than one other
    return linear_sum_assignment(cost)[1]
