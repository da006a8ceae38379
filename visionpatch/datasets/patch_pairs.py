"""Data sets of patch pairs: the lines of a manifest, or training pairs with negatives drawn anew."""

import random
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from visionpatch.errors import ConfigError, DataError, nearest
from visionpatch.paths import data_path
from visionpatch.random_state import mix, seeded
from visionpatch.registry import DATASETS

from .base import BaseDataset, take
from .pair_folder import PairFolder
from .patch_manifest import (
    PatchPair,
    check_both_labels,
    check_sums,
    pictures_of,
    read_manifest,
)

CLASSES = ("different", "same")
APART = dict(S=64, near=30)  # least distance of a training negative from its place: in x or y; straight
KINDS = ("R", "S", "near")
SALT = 2  # lets the draws of a pair and those of its transforms come from different numbers

Pipeline = Sequence[Mapping[str, Any] | Callable]


class PairListDataset(BaseDataset):
    """Base: samples are PatchPairs; a subclass says where their files lie.

    A sample after LoadPatchPair and PackPatchPair is dict(inputs=dict(visible=(1, h, w), thermal=(1, h, w)),
    data_samples=DataSample) with `gt_label`, see PackPatchPair.
    """

    aligned = False  # whether both pictures of a pair have one size

    def __init__(
        self, pairs: list[PatchPair], pipeline: Pipeline, test_mode: bool, indices: int | Sequence[int] | None
    ) -> None:
        super().__init__(pipeline, test_mode)
        self.metainfo = dict(classes=CLASSES)
        self.pairs = take(pairs, indices)

    @abstractmethod
    def path(self, image: str, spectrum: str, scene: str) -> str:
        """The file of a pair in one spectrum."""

    def __len__(self) -> int:
        return len(self.pairs)

    def get_data_info(self, index: int) -> dict[str, Any]:
        return self.info(self.pairs[index], index)

    def info(self, pair: PatchPair, index: int) -> dict[str, Any]:
        """What the pipeline is given for a pair."""
        scene = pair.image.rpartition("/")[0] or "all"
        return dict(
            img_path=self.path(pair.image, "visible", pair.set),
            thermal_path=self.path(pair.image2, "thermal", pair.set),
            img_id=f"{pair.image} {pair.vx},{pair.vy} - {pair.image2} {pair.tx},{pair.ty} ({pair.set}, {pair.label})",
            sample_idx=index,
            visible_centre=(pair.vx, pair.vy),
            thermal_centre=(pair.tx, pair.ty),
            centres=(pair.vx, pair.vy, pair.tx, pair.ty),
            aligned=self.aligned and pair.image == pair.image2,
            scene=scene,
            set=pair.set,
            gt_label=pair.label,
        )


class ManifestDataset(PairListDataset):
    """Base: pairs of a manifest, with pictures in ``SCENE/vis`` and ``SCENE/ir`` below `data_root`."""

    aligned = True

    def __init__(
        self,
        manifest: str,
        data_root: str,
        sets: Sequence[str],
        pipeline: Pipeline,
        test_mode: bool,
        indices: int | Sequence[int] | None,
        verify: bool,
    ) -> None:
        self.manifest, self.folder = data_path(manifest), PairFolder(data_root)
        pairs = read_manifest(self.manifest)
        present = dict.fromkeys(pair.set for pair in pairs)
        wanted = [sets] if isinstance(sets, str) else list(sets)
        for name in wanted:
            if name not in present:
                raise DataError(f"{self.manifest}: no pairs of the set {name}{nearest(str(name), present)}")
        if test_mode:
            check_both_labels(self.manifest, pairs, wanted)
        pairs = [pair for pair in pairs if pair.set in wanted]
        if not pairs:
            raise ConfigError(
                f"{type(self).__name__}: sets names one set or more of {', '.join(present)}, not {sets!r}"
            )
        pictures_of(pairs, self.folder)  # all are there
        if verify:
            check_sums(self.manifest, self.folder)
        super().__init__(pairs, pipeline, test_mode, indices)

    def path(self, image: str, spectrum: str, scene: str) -> str:
        return self.folder.path(image, spectrum)


@DATASETS.register_module()
class PatchPairDataset(ManifestDataset):
    """The pairs of a manifest as it lists them: for validation and testing.

    Args:
        manifest: a CSV file that tools/dataset_converters/make_patch_manifest.py made, see `PatchPair`.
        data_root: the folder of the pictures.
        sets: of the manifest: "R" (random negatives), "S" (same image), "H" (hard ones).
        pipeline: LoadPatchPair, ..., PackPatchPair.
        test_mode: for evaluation: each set must have pairs of both labels.
        indices: the first n pairs, or those listed.
        verify: compare the pictures with the SHA-1 sums beside the manifest, where there are any.

    Raises:
        DataError: the manifest is empty or wrong, a picture or its partner is missing or another one than the manifest
            was made of, a set is not in the manifest or has one label only.
    """

    def __init__(
        self,
        *,
        manifest: str,
        data_root: str,
        sets: Sequence[str] = ("R",),
        pipeline: Pipeline = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
        verify: bool = True,
    ) -> None:
        super().__init__(manifest, data_root, sets, pipeline, test_mode, indices, verify)


@DATASETS.register_module()
class PatchPairTrainDataset(ManifestDataset):
    """Training pairs: each patch of a manifest once with its own place and once, anew in every epoch, with another one.

    Item 2 i is the matching pair of patch i, item 2 i + 1 a negative with the same visible patch. The negatives are, a
    third each and in turn, "R": a patch of another image; "S": one of the same image that shares no pixel; "near": one
    of the same image at least 30 pixels away. Where the image has none, R serves; where there is no other image, near.
    Which ones follows from (seed, epoch, index). Thermal patches of both labels are moved by up to `jitter` pixels.

    Args:
        manifest, data_root, pipeline, verify: as PatchPairDataset.
        sets: of the manifest; its matching pairs are taken.
        negatives: kinds of negatives, all equally often.
        jitter: pixels in x and in y, as the pictures of a pair lie on each other to a few pixels.
        indices: the first n patches, or those listed.
    """

    def __init__(
        self,
        *,
        manifest: str,
        data_root: str,
        sets: Sequence[str] = ("train",),
        negatives: Sequence[str] = KINDS,
        jitter: int = 3,
        pipeline: Pipeline = (),
        indices: int | Sequence[int] | None = None,
        verify: bool = True,
    ) -> None:
        super().__init__(manifest, data_root, sets, pipeline, False, None, verify)
        for name in negatives:
            if name not in KINDS:
                raise ConfigError(f"PatchPairTrainDataset: negatives has {name!r}{nearest(str(name), KINDS)}")
        if not negatives or isinstance(negatives, str) or type(jitter) is not int or jitter < 0:
            raise ConfigError(
                f"PatchPairTrainDataset: negatives={negatives!r} is a list and jitter={jitter!r} 0 or more"
            )
        self.negatives, self.jitter = tuple(negatives), jitter
        self.pairs = take([pair for pair in dict.fromkeys(self.pairs) if pair.label], indices)
        self.members: dict[str, list[int]] = {}
        for number, pair in enumerate(self.pairs):
            self.members.setdefault(pair.image, []).append(number)
        self.centres = np.array([(pair.tx, pair.ty) for pair in self.pairs], np.int64).reshape(-1, 2)
        if len(self.pairs) < 2:
            raise DataError(f"{self.manifest}: {len(self.pairs)} matching pairs; two or more are needed for negatives")

    def __len__(self) -> int:
        return 2 * len(self.pairs)

    def __getitem__(self, key: int) -> dict[str, Any]:
        epoch, index = self.split_key(key)
        with seeded(self.seed, epoch, index, own=self._own_generators()):
            return self.pipeline(self._info(key))  # type: ignore[return-value]

    def get_data_info(self, index: int) -> dict[str, Any]:
        return self._info(index)

    def draw(self, key: int) -> tuple[PatchPair, str]:
        """The pair of an item, without jitter, and the kind of its negative, "" for a match."""
        epoch, index = self.split_key(key)
        number, other = divmod(index, 2)
        pair = self.pairs[number]
        if not other:
            return pair, ""
        rng = random.Random(mix(self.seed, epoch, index, SALT))
        kind = self.negatives[(number + epoch) % len(self.negatives)]
        found = self._candidates(number, kind)
        if found is None:
            kind, found = self._instead(number)
        chosen = self._elsewhere(pair.image, rng) if kind == "R" else found[rng.randrange(len(found))]
        place = self.pairs[chosen]
        return pair._replace(image2=place.image2, tx=place.tx, ty=place.ty, label=0), kind

    def _candidates(self, number: int, kind: str) -> list[int] | None:
        """The patches of the same image that can be negatives, or None if there are none. R: an empty list."""
        own = self.members[self.pairs[number].image]
        if kind == "R":
            return [] if len(own) < len(self.pairs) else None
        distance = abs(self.centres[own] - self.centres[number]).astype(np.float64)  # (n, 2)
        far = distance.max(1) if kind == "S" else np.hypot(distance[:, 0], distance[:, 1])
        return [own[k] for k in np.flatnonzero(far >= APART[kind])] or None

    def _instead(self, number: int) -> tuple[str, list[int]]:
        for kind in ("R", "near"):
            found = self._candidates(number, kind)
            if found is not None:
                return kind, found
        raise DataError(f"{self.manifest}: no negative for {self.pairs[number]}: one image and nothing 30 pixels away")

    def _elsewhere(self, image: str, rng: random.Random) -> int:
        """A patch of another image, all equally likely."""
        while True:
            number = rng.randrange(len(self.pairs))
            if self.pairs[number].image != image:
                return number

    def _info(self, key: int) -> dict[str, Any]:
        epoch, index = self.split_key(key)
        pair, kind = self.draw(key)
        rng = random.Random(mix(self.seed, epoch, index, SALT, SALT))
        moves = [rng.randint(-self.jitter, self.jitter) for _ in range(2)]
        info = self.info(pair, index)
        return info | dict(negative=kind, jitter=moves)
