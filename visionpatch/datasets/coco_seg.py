"""Label maps painted from the objects of a COCO file."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visionpatch.registry import DATASETS

from .classes import resolve_classes
from .coco import CocoDataset

BACKGROUND = "background"


@DATASETS.register_module()
class CocoSegDataset(CocoDataset):
    """Semantic segmentation of any file in COCO's format: class 0 is the background, then come the categories.

    ``CocoSegDataset(data_root="data/coco", ann_file="annotations/instances_val2014.json",
    data_prefix=dict(img="val2014"))``. How overlapping objects are painted: `paint_objects`.

    Args:
        metainfo: dict(classes=(...), palette=[...]) of the categories, without the background; None takes all, in the
            file's order. Categories that are not named become background.
        filter_cfg: pictures left out in training; None keeps all, those without any object too.
        others: as CocoDataset.

    Raises:
        DataError: as CocoDataset.
        ConfigError: an argument is wrong, or there are more than 254 categories.
    """

    def __init__(
        self,
        *,
        ann_file: str = "",
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        metainfo: Mapping[str, Any] | None = None,
        filter_cfg: Mapping[str, Any] | None = None,
        duplicates: str = "error",
        malformed: str = "error",
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=data_prefix,
            metainfo=metainfo,
            filter_cfg=filter_cfg,
            duplicates=duplicates,
            malformed=malformed,
            pipeline=pipeline,
            test_mode=test_mode,
            indices=indices,
        )
        objects = self.metainfo
        names, colours = (BACKGROUND, *objects["classes"]), [(0, 0, 0), *objects["palette"]]
        named, _ = resolve_classes("CocoSegDataset", {}, dict(classes=names, palette=colours))
        self.metainfo = objects | named

    def get_data_info(self, index: int) -> dict[str, Any]:
        info = super().get_data_info(index)
        return info | dict(seg_objects=info.pop("objects"), seg_path=self.ann_file)
