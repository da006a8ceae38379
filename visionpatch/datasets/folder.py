"""A folder of images and a folder of masks: data of one's own, without code."""

from typing import ClassVar

from visionpatch.registry import DATASETS

from .segmentation import SegmentationDataset


@DATASETS.register_module()
class FolderDataset(SegmentationDataset):
    """Images and masks with equal stems, in any common image format; the class names come from ``metainfo``.

    ``FolderDataset(data_root="data/mine", data_prefix=dict(img_path="images", seg_map_path="masks"),
    metainfo=dict(classes=("background", "crack")), label_map={255: 1})``; the colours are made up unless given. Where
    both kinds lie in one folder, or a stem occurs with two suffixes, set ``img_suffix`` and ``seg_map_suffix``.
    """

    IMG_SUFFIX: ClassVar[str | None] = None
    SEG_MAP_SUFFIX: ClassVar[str | None] = None
