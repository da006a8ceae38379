"""CamVid in the eleven classes of SegNet (arXiv 1511.00561)."""

from typing import Any, ClassVar

from visionpatch.registry import DATASETS

from .classes import hex_palette
from .segmentation import SegmentationDataset

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
PALETTE = hex_palette(
    """
    808080 800000 c0c080 804080 3c28de 808000 c08080 404080 400080 404000 0080c0
    """
)


@DATASETS.register_module()
class CamVidDataset(SegmentationDataset):
    """11 classes; 11 in the files means "unlabelled" and is ignored.

    ``data_root="data/camvid"``, ``data_prefix=dict(img_path="train", seg_map_path="trainannot")``.
    """

    METAINFO: ClassVar[dict[str, Any]] = dict(classes=CLASSES, palette=PALETTE)
    IMG_SUFFIX: ClassVar[str | None] = ".png"
    LABEL_MAP: ClassVar[dict[int, int]] = {11: 255}
