"""Detection data in COCO's format (https://cocodataset.org/#format-data)."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visionpatch.errors import ConfigError, DataError
from visionpatch.registry import DATASETS

from .coco_json import read_coco
from .detection import FILTER, DetectionDataset, check_filter, image_folder, under


@DATASETS.register_module()
class CocoDataset(DetectionDataset):
    """Pictures with the boxes, polygons and run lengths of a COCO file.

    ``CocoDataset(data_root="data/coco", ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img="train2017"))``. Crowds are ignored objects.

    Args:
        ann_file: the JSON file, or a folder that holds exactly one.
        data_root: folder the other paths are relative to; ``data/...`` is also looked for below VISIONPATCH_DATA.
        data_prefix: dict(img=folder of the pictures).
        metainfo: dict(classes=(...), palette=[...]); the classes select categories of the file and give the order of
            the labels. None takes all, in the file's order.
        filter_cfg: pictures left out in training; see DetectionDataset.
        duplicates: of an id used twice, "error" raises and "drop" keeps the first entry.
        malformed: of entries without a key that is needed or with values of the wrong kind, "error" raises and "drop"
            leaves them out and counts them.
        pipeline, test_mode, indices: as SegmentationDataset. With `test_mode` a file without annotations will do.

    Raises:
        DataError: the file or a picture is missing or malformed, or nothing is left to train on.
        ConfigError: an argument is wrong.
    """

    def __init__(
        self,
        *,
        ann_file: str = "",
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        metainfo: Mapping[str, Any] | None = None,
        filter_cfg: Mapping[str, Any] | None = FILTER,
        duplicates: str = "error",
        malformed: str = "error",
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        if not ann_file and not data_root:
            raise ConfigError("CocoDataset needs ann_file, a JSON file, or data_root, a folder with one")
        root, img_dir = image_folder("CocoDataset", data_root, data_prefix)
        self.ann_file = _single_json(under(root, ann_file))
        needed = not test_mode and check_filter("CocoDataset", filter_cfg)["filter_empty_gt"]
        annotations = read_coco(
            self.ann_file,
            (metainfo or {}).get("classes"),
            duplicates=duplicates,
            malformed=malformed,
            need_objects=needed,
        )
        super().__init__(
            annotations,
            img_dir,
            metainfo=metainfo,
            filter_cfg=filter_cfg,
            pipeline=pipeline,
            test_mode=test_mode,
            indices=indices,
        )


def _single_json(path: str) -> str:
    """`path`, or the only JSON file in it if it is a folder."""
    if not os.path.isdir(path):
        return path
    names = sorted(name for name in os.listdir(path) if name.lower().endswith(".json"))
    if len(names) != 1:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise DataError(f"{path}: {len(names)} JSON files ({shown or 'none'}); name the one to read as ann_file")
    return os.path.join(path, names[0])
