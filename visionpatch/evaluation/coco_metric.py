"""CocoMetric: average precision and recall of boxes and masks, as COCO computes them."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log

from visionpatch.errors import BadSampleError, ConfigError, DataError, nearest
from visionpatch.evaluation.coco_eval import class_table, evaluate, load_backend
from visionpatch.evaluation.coco_format import Truth, annotations_of, completed, image_entry, read_truth, records
from visionpatch.evaluation.common import class_names, warn, warn_of_dropped
from visionpatch.evaluation.instances import annotated, predicted, where_of
from visionpatch.registry import METRICS
from visionpatch.structures import DataSample

COCO_METRICS = ("bbox", "segm", "proposal")


@METRICS.register_module()
class CocoMetric(BaseMetric):
    """COCO's twelve numbers for boxes (``coco/bbox_mAP``, ...) and masks (``coco/segm_mAP``, ...), fractions.

    ``mAP`` (over IoU 0.50 to 0.95), ``mAP_50``, ``mAP_75``, ``mAP_s``, ``mAP_m``, ``mAP_l`` (objects below 32 x 32
    pixels, up to 96 x 96, above), the recalls ``AR@1``, ``AR@10``, ``AR@100`` and ``AR_s@100``, ``AR_m@100``,
    ``AR_l@100``. A number is -1 where there is nothing to find, and 0 where there is and nothing was predicted. The
    proposals' recalls are ``AR@100``, ``AR@300``, ``AR@1000``, ``AR_s@1000``, ...: any class may find any object.

    Predictions with a score or coordinate that is not finite are left out and counted in the log. Pictures of
    `ann_file` that were not tested do not count.

    Args:
        ann_file: COCO file with the ground truth; ``data/...`` is also looked for below VISIONPATCH_DATA. None takes it
            from the samples: `gt_instances`, and `ignored_instances` as crowds, in pixels of the picture's file; with
            "segm" a mask gives their size.
        metric: one or more of "bbox", "segm", "proposal".
        classwise: also return ``bbox_<class>_precision`` of every class. Their table is in the log either way.
        proposal_nums: three limits of proposals per picture.
        max_dets: three limits of detections per picture for "bbox" and "segm".
        outfile_prefix: write ``<prefix>.bbox.json``, ``<prefix>.segm.json`` in COCO's results format; without
            `ann_file` ``<prefix>.gt.json`` as well.
        format_only: write the files and compute nothing; for test sets without ground truth.
        backend: "faster-coco-eval" or "pycocotools"; they give the same numbers, but for the last bit.
        collect_device: "cpu" or "gpu", where the ranks' results are gathered.
        prefix: put in front of the result names; None: "coco".

    Raises:
        ConfigError: an unknown metric or backend, limits that do not rise, `format_only` without `outfile_prefix`.
        MissingDependencyError: the backend is not installed.
        DataError: `ann_file` cannot be used, or lacks a class of the data set; a picture predicted twice.
        BadSampleError: a sample without the fields that are needed, an unknown class or picture.
    """

    default_prefix = "coco"

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = "bbox",
        classwise: bool = False,
        proposal_nums: Sequence[int] = (100, 300, 1000),
        max_dets: Sequence[int] = (1, 10, 100),
        outfile_prefix: str | None = None,
        format_only: bool = False,
        backend: str = "faster-coco-eval",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.metrics = (metric,) if isinstance(metric, str) else tuple(metric)
        for name in self.metrics:
            if name not in COCO_METRICS:
                raise ConfigError(f'CocoMetric: metric has "{name}"{nearest(name, COCO_METRICS)}')
        for key, limits in (("proposal_nums", proposal_nums), ("max_dets", max_dets)):
            if len(limits) != 3 or not 0 < limits[0] < limits[1] < limits[2]:
                raise ConfigError(f"CocoMetric: {key}={limits}; three rising limits are expected, as (1, 10, 100)")
        if format_only and outfile_prefix is None:
            raise ConfigError("CocoMetric: format_only=True needs outfile_prefix, where the results are written")
        load_backend(backend)
        self.ann_file = ann_file
        self.classwise = classwise
        self.limits = dict(bbox=tuple(max_dets), segm=tuple(max_dets), proposal=tuple(proposal_nums))
        self.outfile_prefix = outfile_prefix
        self.format_only = format_only
        self.backend = backend
        self.with_masks = "segm" in self.metrics

    def check_sample(self, sample: DataSample) -> None:
        """Refuse a data set without ground truth before any time is spent on it; `sample` is one of its samples.

        Raises:
            DataError: no `img_id`, or an unknown one; no objects or masks, without `ann_file`.
        """
        self._image_id(sample)
        if self.format_only or self.ann_file is not None:
            return
        if "gt_instances" not in sample or (self.with_masks and "masks" not in sample.gt_instances):
            what = "gt_instances with masks" if self.with_masks else "gt_instances"
            flags = "with_bbox=True, with_mask=True" if self.with_masks else "with_bbox=True"
            raise DataError(
                f"{sample.where()}: CocoMetric needs {what} and the sample has none; put "
                f'dict(type="LoadAnnotations", {flags}) into the pipeline, give ann_file, or set format_only=True'
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep one result a sample, its masks as run lengths."""
        number = len(class_names(self))
        for sample in data_samples:
            found = predicted(sample, number, self.with_masks)
            size = tuple(sample.get("ori_shape", (0, 0))[:2])
            result: dict[str, Any] = dict(img_id=self._image_id(sample), found=found, size=size)
            if self.ann_file is None and not self.format_only:
                result["truth"] = annotated(sample, number, self.with_masks)
            self._check_size(sample, result)
            self.results.append(result)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The numbers of every metric; the tables of all classes go to the log."""
        twice = [image for image, count in Counter(result["img_id"] for result in results).items() if count > 1]
        if twice:
            raise DataError(f"CocoMetric: image {twice[0]!r} was predicted more than once; is the data set repeated?")
        warn_of_dropped(self, sum(result["found"].dropped for result in results))
        results = sorted(results, key=lambda result: (isinstance(result["img_id"], str), result["img_id"]))
        category_ids = self._category_ids()
        if self._file is not None and len(self._file.images) > len(results):
            warn(
                f"CocoMetric: only the {len(results)} pictures that were tested of {len(self._file.images)} in "
                f"{self.ann_file} count"
            )
        if self.outfile_prefix is not None:
            self._write(results, category_ids)
        numbers: dict[str, float] = {}
        for metric in () if self.format_only else self.metrics:
            numbers |= self._evaluate(metric, results, category_ids)
        return numbers

    def _evaluate(self, metric: str, results: list, category_ids: Sequence[int]) -> dict[str, float]:
        kind = "segm" if metric == "segm" else "bbox"
        truth = self._truth(kind, results, category_ids)
        detections = [record for result in results for record in records(result, kind, category_ids)]
        # any id becomes a number that the evaluators' own types hold
        places = {image["id"]: place for place, image in enumerate(truth["images"], 1)}
        ranks = {category: rank for rank, category in enumerate(sorted(category_ids), 1)}
        for image in truth["images"]:
            image["id"] = places[image["id"]]
        for entry in truth["categories"]:
            entry["id"] = ranks[entry["id"]]
        for record in (*truth["annotations"], *detections):
            record |= dict(image_id=places[record["image_id"]], category_id=ranks[record["category_id"]])
        for number, annotation in enumerate(truth["annotations"], 1):
            annotation["id"] = number
        found = evaluate(truth, detections, kind, self.backend, self.limits[metric], by_category=metric != "proposal")
        if metric == "proposal":
            return {name: value for name, value in found.numbers().items() if name.startswith("AR")}
        table = class_table(class_names(self), category_ids, found)
        print_log(f"per class results of {metric}, in percent:\n{table}", MMLogger.get_current_instance())
        numbers = {f"{metric}_{name}": value for name, value in found.numbers().items()}
        if self.classwise:
            for name, category in zip(class_names(self), category_ids, strict=True):
                numbers[f"{metric}_{name}_precision"] = found.per_class(ranks[category] - 1)[0]
        return numbers

    def _truth(self, kind: str, results: list, category_ids: Sequence[int]) -> dict[str, list[dict]]:
        """Images, annotations and categories of the pictures of `results`, in COCO's form."""
        categories = [dict(id=key, name=name) for key, name in zip(category_ids, class_names(self), strict=True)]
        if self._file is None:
            annotations = [entry for result in results for entry in annotations_of(result, category_ids)]
            images = [image_entry(result["img_id"], *result["size"]) for result in results]
            return dict(images=images, annotations=annotations, categories=categories)
        sizes = {result["img_id"]: self._file.images[result["img_id"]] or result["size"] for result in results}
        annotations, left_out = [], 0
        for entry in self._file.annotations:
            if entry["image_id"] in sizes and entry["category_id"] in category_ids:
                complete = completed(entry, kind, sizes[entry["image_id"]])
                annotations += [complete] if complete else []
                left_out += complete is None
        if left_out:
            what = "segmentation" if kind == "segm" else "bbox"
            warn(f"CocoMetric: {left_out} objects of {self.ann_file} have no valid {what} and are left out of {kind}")
        images = [image_entry(key, *size) for key, size in sizes.items()]
        return dict(images=images, annotations=annotations, categories=categories)

    @cached_property
    def _file(self) -> Truth | None:
        if self.ann_file is None:
            return None
        truth = read_truth(self.ann_file)
        if truth.left_out:
            warn(f"CocoMetric: {truth}")
        if any(entry.get("id") == 0 for entry in truth.annotations):
            warn(
                f"CocoMetric: {self.ann_file} has an object of id 0, which pycocotools on its own counts as never "
                "found; here ids are renumbered and it counts as any other"
            )
        return truth

    def _check_size(self, sample: Any, result: dict) -> None:
        """Refuse a picture of another size than its entry in the file: the objects would be somewhere else."""
        size = self._file.images[result["img_id"]] if self._file is not None else None
        if size is None or 0 in result["size"] or size == result["size"]:
            return
        (h, w), (height, width) = size, result["size"]
        turned = (
            "; is it rotated by its EXIF tag? LoadImage(ignore_orientation=True)" if (w, h) == (height, width) else ""
        )
        raise BadSampleError(
            f"{where_of(sample)}: is {width}x{height}, but {self.ann_file} says {w}x{h} (width x height) of image "
            f"{result['img_id']!r}{turned}"
        )

    def _image_id(self, sample: Any) -> int | str:
        if "img_id" not in sample:
            raise BadSampleError(f"{where_of(sample)}: no img_id; CocoMetric names pictures by it")
        key = sample.get("img_id")
        key = key if isinstance(key, str) else int(key)
        if self._file is not None and key not in self._file.images:
            raise BadSampleError(
                f"{where_of(sample)}: image {key!r} is not in {self.ann_file}; the data set and CocoMetric must read "
                "the same annotation file"
            )
        return key

    def _category_ids(self) -> list[int]:
        """The category of each label: the file's by name, else the data set's, else 1, 2, ..."""
        classes = class_names(self)
        if self._file is None:
            return list((self.dataset_meta or {}).get("cat_ids") or range(1, len(classes) + 1))
        ids = self._file.categories
        for name in classes:
            if name not in ids:
                raise DataError(f'{self.ann_file}: no category "{name}", a class of the data set{nearest(name, ids)}')
        return [ids[name] for name in classes]

    def _write(self, results: list, category_ids: Sequence[int]) -> None:
        files = {
            kind: [record for result in results for record in records(result, kind, category_ids)]
            for kind in ("bbox", "segm")
            if kind == "bbox" or self.with_masks
        }
        contents: dict[str, Any] = dict(files)
        if self.ann_file is None and not self.format_only:
            contents["gt"] = self._truth("segm" if self.with_masks else "bbox", results, category_ids)
            for number, annotation in enumerate(contents["gt"]["annotations"], 1):
                annotation["id"] = number
        for kind, content in contents.items():
            path = Path(f"{self.outfile_prefix}.{kind}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content), encoding="utf-8")
            print_log(f"results written to {path}", MMLogger.get_current_instance())
