"""Cityscapes (https://www.cityscapes-dataset.com), fine annotations with train ids."""

from typing import Any, ClassVar

from visionpatch.registry import DATASETS

from .classes import hex_palette
from .segmentation import SegmentationDataset

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
PALETTE = hex_palette(
    """
    804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046 003c64
    005064 0000e6 770b20
    """
)


@DATASETS.register_module()
class CityscapesDataset(SegmentationDataset):
    """19 classes, one folder for each city.

    ``data_root="data/cityscapes"``, ``data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train")``.
    """

    METAINFO: ClassVar[dict[str, Any]] = dict(classes=CLASSES, palette=PALETTE)
    IMG_SUFFIX: ClassVar[str | None] = "_leftImg8bit.png"
    SEG_MAP_SUFFIX: ClassVar[str | None] = "_gtFine_labelTrainIds.png"
