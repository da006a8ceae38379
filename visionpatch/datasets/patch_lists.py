"""The lists of two public sets of patch pairs: VIS-NIR and VIS-LWIR."""

import os
from collections.abc import Sequence
from typing import Any

from visionpatch.errors import ConfigError, DataError
from visionpatch.paths import data_path
from visionpatch.registry import DATASETS

from .base import BaseDataset, take
from .patch_manifest import PatchPair, check_both_labels, read_vis_lwir, read_vis_nir
from .patch_pairs import CLASSES, PairListDataset, Pipeline
from .paths import require_folder


@DATASETS.register_module()
class VisNirDataset(PairListDataset):
    """The VIS-NIR patches of Aguilera et al. (2016): a CSV file for each scene, and the pictures of EPFL's nirscenes.

    Args:
        data_root: folder with ``SCENE/FILE`` for each picture.
        ann_dir: folder of the lists ``SCENE.csv``, below `data_root` or absolute, see `read_vis_nir`.
        scenes: "country", "field" ...; published networks train on country and test on the eight others.
        pipeline, test_mode, indices: as PatchPairDataset.

    Raises:
        DataError: a list or a picture is missing, a list is empty or wrong, or in `test_mode` has one label only.
    """

    def __init__(
        self,
        *,
        data_root: str,
        scenes: Sequence[str],
        ann_dir: str = "csv",
        pipeline: Pipeline = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        self.root = require_folder(data_path(data_root), "data_root")
        pairs: list[PatchPair] = []
        for scene in [scenes] if isinstance(scenes, str) else scenes:
            path = os.path.join(self.root, ann_dir, f"{scene}.csv")
            found = read_vis_nir(path)
            if test_mode:
                check_both_labels(path, found, [scene])
            pairs += found
        if not pairs:
            raise ConfigError("VisNirDataset: scenes names one scene or more")
        _require_files({self.path(p.image, "", p.set) for p in pairs} | {self.path(p.image2, "", p.set) for p in pairs})
        super().__init__(pairs, pipeline, test_mode, indices)

    def path(self, image: str, spectrum: str, scene: str) -> str:
        return os.path.join(self.root, scene, image)

    def info(self, pair: PatchPair, index: int) -> dict[str, Any]:
        return super().info(pair, index) | dict(scene=pair.set, set="test")


@DATASETS.register_module()
class VisLwirDataset(BaseDataset):
    """The VIS-LWIR patch set of Yu et al.: a list of pairs, and every patch in a file of its own.

    The published lists leak: all 44 images are in the training and in the test list, and many test patches (1,917 of
    3,968 thermal, 1,461 of 4,030 visible ones) are in training pairs too.

    Args:
        data_root: folder of list and patches.
        ann_file: "finally_train.txt" or "finally_test.txt", see `read_vis_lwir`.
        visible, thermal: where the patch `index` of `image` lies.
        pipeline, test_mode, indices: as PatchPairDataset.

    Raises:
        DataError: the list or a patch is missing, the list is empty or wrong, or in `test_mode` has one label only.
    """

    def __init__(
        self,
        *,
        data_root: str,
        ann_file: str,
        visible: str = "vis/{image}/{index}.png",
        thermal: str = "ir/{image}/{index}.png",
        pipeline: Pipeline = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(pipeline, test_mode)
        root = require_folder(data_path(data_root), "data_root")
        lines = read_vis_lwir(os.path.join(root, ann_file))
        if test_mode and len({label for *_, label in lines}) < 2:
            raise DataError(
                f"{ann_file}: all {len(lines)} pairs have the label {lines[0][3]}; testing needs both labels"
            )
        self.metainfo = dict(classes=CLASSES)
        self.samples = take(
            [
                (
                    os.path.join(root, visible.format(image=image, index=index)),
                    os.path.join(root, thermal.format(image=image, index=index2)),
                    label,
                )
                for image, index2, index, label in lines
            ],
            indices,
        )
        _require_files({path for sample in self.samples for path in sample[:2]})

    def __len__(self) -> int:
        return len(self.samples)

    def get_data_info(self, index: int) -> dict[str, Any]:
        visible, thermal, label = self.samples[index]
        places = dict(visible_centre=None, thermal_centre=None, scene="lwir", set="test", sample_idx=index)
        return places | dict(img_path=visible, thermal_path=thermal, img_id=f"{visible} - {thermal}", gt_label=label)


def _require_files(paths: set[str]) -> None:
    missing = sorted(path for path in paths if not os.path.isfile(path))
    if missing:
        raise DataError(f"{len(missing)} of {len(paths)} files of the pairs do not exist, first {missing[0]}")
