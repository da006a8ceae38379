"""Pictures without labels: a folder, or a list of some of its pictures."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visionpatch.errors import DataError
from visionpatch.registry import DATASETS

from .base import BaseDataset, take
from .detection import image_folder, under
from .paths import index_files, suffix_counts
from .segmentation import read_split, require_all, strip_suffix


@DATASETS.register_module()
class ImageDataset(BaseDataset):
    """The pictures of a folder, folders below it included; gives ``img_path``. For training that needs no labels.

    Args:
        data_root: folder the other paths are relative to; ``data/...`` is also looked for below VISIONPATCH_DATA.
        data_prefix: dict(img_path=folder); `data_root` itself unless given.
        ann_file: text file with the stem of one picture a line; empty takes every picture.
        img_suffix: ending of the file names; None takes every common one.
        pipeline, test_mode, indices: as SegmentationDataset.

    Raises:
        DataError: a missing folder, a folder without pictures, a list that cannot be read or names pictures that are
            not there.
        ConfigError: an unknown key of `data_prefix`.
    """

    def __init__(
        self,
        *,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        ann_file: str = "",
        img_suffix: str | None = None,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(pipeline, test_mode)
        self.metainfo = dict(classes=())
        root, self.img_dir = image_folder("ImageDataset", data_root, data_prefix)
        files = index_files(self.img_dir, img_suffix)
        if not files:
            raise DataError(f"{self.img_dir}: no pictures; it holds {suffix_counts(self.img_dir)}")
        stems = sorted(files)
        if ann_file:
            source = under(root, ann_file)
            stems = [strip_suffix(stem, img_suffix, files) for stem in read_split(source)]
            require_all(stems, files, source, self.img_dir, "image", img_suffix)
        self.samples = take([files[stem] for stem in stems], indices)

    def __len__(self) -> int:
        return len(self.samples)

    def get_data_info(self, index: int) -> dict[str, Any]:
        name = self.samples[index]
        return dict(img_path=f"{self.img_dir}/{name}", img_id=name, sample_idx=index, classes=())
