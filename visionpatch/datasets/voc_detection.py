"""PASCAL VOC detection (http://host.robots.ox.ac.uk/pascal/VOC/voc2012)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from visionpatch.palette import colour_map
from visionpatch.registry import DATASETS

from . import voc
from .classes import resolve_classes
from .detection import FILTER, MOST_CLASSES, DetectionDataset, image_folder, under
from .paths import index_files, require_folder
from .segmentation import read_split, require_all, strip_suffix
from .voc_xml import read_voc


@DATASETS.register_module()
class VOCDetectionDataset(DetectionDataset):
    """Pictures with the boxes of XML files of the same stem; objects marked difficult are ignored ones.

    ``VOCDetectionDataset(data_root="data/VOCdevkit/VOC2012", ann_file="ImageSets/Main/train.txt")``.

    Args:
        data_root: folder the other paths are relative to; ``data/...`` is also looked for below VISIONPATCH_DATA.
        ann_file: split list, one stem a line; empty takes every XML file.
        data_prefix: dict(img=folder of the pictures, ann=folder of the XML files).
        metainfo: dict(classes=(...), palette=[...]). Some of the 20 classes select these; entirely other names are
            taken as the folder's own.
        unknown: of objects of another class, "drop" leaves them out and "error" raises; None drops them if `metainfo`
            selects some of the 20 classes, and raises otherwise.
        filter_cfg: pictures left out in training; see DetectionDataset.
        pipeline, test_mode, indices: as SegmentationDataset.

    Raises:
        DataError: a file is missing or malformed, or nothing is left to train on.
        ConfigError: an argument is wrong.
    """

    METAINFO: ClassVar[dict[str, Any]] = dict(classes=voc.CLASSES[1:], palette=colour_map(21)[1:])

    def __init__(
        self,
        *,
        data_root: str = "",
        ann_file: str = "",
        data_prefix: Mapping[str, str] | None = None,
        metainfo: Mapping[str, Any] | None = None,
        unknown: str | None = None,
        filter_cfg: Mapping[str, Any] | None = FILTER,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        name = type(self).__name__
        own, selection = resolve_classes(name, self.METAINFO, metainfo, most=MOST_CLASSES)
        root, img_dir = image_folder(name, data_root, data_prefix, "JPEGImages", ("ann",))
        ann_dir = require_folder(under(root, (data_prefix or {}).get("ann", "Annotations")), "data_prefix.ann")
        files, pictures = index_files(ann_dir, ".xml"), index_files(img_dir, None)
        split = under(root, ann_file) if ann_file else ""
        stems = [strip_suffix(stem, ".xml", files) for stem in read_split(split)] if split else sorted(files)
        require_all(stems, files, split or ann_dir, ann_dir, "annotation", ".xml")
        require_all(stems, pictures, split or ann_dir, img_dir, "image", None)
        annotations = read_voc(
            [f"{ann_dir}/{files[stem]}" for stem in stems],
            own["classes"],
            unknown=unknown or ("drop" if selection else "error"),
            need_objects=False,
        )
        if not test_mode and (filter_cfg or {}).get("filter_empty_gt"):
            annotations.require_objects()
        for stem, image in zip(stems, annotations.images):
            image.file_name = pictures[stem]
        super().__init__(
            annotations,
            img_dir,
            metainfo=own,
            filter_cfg=filter_cfg,
            pipeline=pipeline,
            test_mode=test_mode,
            indices=indices,
        )
