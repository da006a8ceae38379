"""Adapters of OpenMMLab's detection metrics: CocoMetric, VOCMetric and the function eval_map behind it.

Pictures are read from the case's inputs, lists with one entry a picture (``gt_instances``, ``pred_instances``,
``annotations``, ``det_results``), from arrays numbered by picture (``gt_bboxes0``, ``pred_scores_0``, ``dets0``, ...),
or from a COCO file and a list of COCO's results.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golden.heads import Arrays, Draw
from visionpatch.errors import ConfigError
from visionpatch.evaluation import CocoMetric
from visionpatch.evaluation.instances import Objects, annotated, predicted
from visionpatch.evaluation.voc_metric import class_precisions

KINDS = {  # what the cases may call the objects that were found, those that are there, and those that do not count
    "pred_instances": ("pred_instances", "pred", "det", "dt", ""),
    "gt_instances": ("gt_instances", "gt", "annotations", "ann"),
    "ignored_instances": ("ignored_instances", "gt_instances_ignore", "gt_ignore", "ignore"),
}
NAMES = dict(bboxes=("bboxes", "boxes"), labels=("labels",), scores=("scores",), masks=("masks",))


def run_coco(case: Mapping, arrays: Arrays, state: Mapping, draw: Draw) -> dict[str, Tensor]:
    """The metric's numbers by their names, with and without prefix, and all twelve as ``stats``."""
    model, inputs = case["model"], case["inputs"]
    limits = model.get("proposal_nums", (100, 300, 1000))
    wanted = model.get("metric", "bbox")
    kinds = [wanted] if isinstance(wanted, str) else list(wanted)
    options = dict(metric=kinds, max_dets=limits, proposal_nums=limits, classwise=model.get("classwise", False))
    file = next((v for v in _values(inputs) if isinstance(v, Mapping) and {"images", "categories"} <= set(v)), None)
    with tempfile.TemporaryDirectory() as folder:
        if file is not None:
            options["ann_file"] = str(Path(folder) / "truth.json")
            Path(options["ann_file"]).write_text(json.dumps({"annotations": []} | dict(file)))
        metric = CocoMetric(**options)
        names = [entry["name"] for entry in file["categories"]] if file is not None else _classes(case)
        metric.dataset_meta = dict(classes=names)
        pictures = _coco_pictures(file, inputs) if file is not None else list(read_pictures(inputs, arrays))
        metric.process({}, pictures)
        found = metric.evaluate(len(pictures))
    outputs = {}
    for name, value in found.items():
        plain = name.removeprefix("coco/")
        outputs |= {key: _as_published(value, arrays.get(key)) for key in (name, plain)}
    for kind in kinds:
        values = [value for name, value in found.items() if name.startswith(f"coco/{kind}_m") or f"{kind}_AR" in name]
        outputs |= dict.fromkeys((f"{kind}_stats", "stats"), torch.tensor(values, dtype=torch.float64))
    return outputs


def run_map(case: Mapping, arrays: Arrays, state: Mapping, draw: Draw) -> dict[str, Tensor]:
    """``mean_ap``, and of every class ``ap``, ``num_gts``, ``num_dets``; one setting or several by name."""
    model, outputs = case["model"], {}
    several = bool(model) and all(isinstance(value, Mapping) for value in model.values())
    pictures = list(read_pictures(case["inputs"], arrays))
    number = len(_classes(case, pictures))
    for setting, args in model.items() if several else [("", model)]:
        found = _map_numbers(pictures, number, args)
        outputs |= {f"{setting}_{name}" if setting else name: value for name, value in found.items()}
    single = {name: float(value) for name, value in outputs.items() if value.numel() == 1}
    return outputs | {name: _as_published(value, arrays.get(name)) for name, value in single.items()}


def _map_numbers(pictures: Sequence[dict], number: int, args: Mapping) -> dict[str, Tensor]:
    for name in ("scale_ranges", "ioa_thr", "tpfp_fn_name"):
        if args.get(name) not in (None, "default"):
            raise ConfigError(f"published argument {name}={args[name]!r} is not supported")
    legacy = args.get("use_legacy_coordinate", args.get("type") == "VOCMetric")
    pairs = [tuple(_widened(one, legacy) for one in (predicted(p, number), annotated(p, number))) for p in pictures]
    mode = args.get("eval_mode") or ("11points" if args.get("dataset") == "voc07" else "area")
    given = args.get("iou_thrs", args.get("iou_thr", 0.5))
    means, outputs = [], {}
    for threshold in given if isinstance(given, Sequence) else [given]:
        values = class_precisions(pairs, number, threshold, mode)
        means.append(float(np.nanmean(values)) if not np.isnan(values).all() else 0.0)
        outputs[f"AP{round(100 * threshold)}"] = torch.tensor([means[-1]])
    outputs |= {name: torch.tensor([float(np.mean(means))]) for name in ("mean_ap", "mAP")}
    outputs["ap"] = torch.from_numpy(np.nan_to_num(values))
    outputs["num_gts"] = torch.from_numpy(sum(_count(truth, number, ~truth.ignored) for _, truth in pairs))
    outputs["num_dets"] = torch.from_numpy(sum(_count(found, number) for found, _ in pairs))
    return outputs


def read_pictures(inputs: Mapping, arrays: Arrays) -> Iterator[dict]:
    """The samples of a case as a metric gets them.

    Raises:
        LookupError: the case holds its pictures in another way.
    """
    index = 0
    while True:
        sample = {kind: _instances(kind, index, inputs, arrays) for kind in KINDS}
        if not sample["gt_instances"] or not sample["pred_instances"]:
            break
        yield dict(img_id=index, img_path=f"picture {index}") | {key: value for key, value in sample.items() if value}
        index += 1
    if not index:
        raise LookupError(f"no objects of pictures found in the inputs {sorted(inputs)} and arrays {sorted(arrays)}")


def _instances(kind: str, index: int, inputs: Mapping, arrays: Arrays) -> dict[str, np.ndarray]:
    """bboxes, labels, scores and masks of one picture; empty where the case has none."""
    for name in KINDS[kind]:
        listed = inputs.get(name)
        if isinstance(listed, Sequence) and not isinstance(listed, str) and index < len(listed):
            return _complete({key: np.array(value) for key, value in listed[index].items()})
    if kind == "ignored_instances":
        listed = inputs.get("annotations")
        entry = listed[index] if isinstance(listed, Sequence) and index < len(listed) else {}
        if "bboxes_ignore" in entry:
            return _complete({name: np.array(entry[f"{name}_ignore"]) for name in ("bboxes", "labels")})
    per_class = inputs.get("det_results")
    if kind == "pred_instances" and isinstance(per_class, Sequence) and not isinstance(per_class, str):
        return _from_classes(per_class[index]) if index < len(per_class) else {}
    found = {}
    for field, spellings in NAMES.items():
        keys = [f"{p}{'_' if p else ''}{n}{s}{index}" for p in KINDS[kind] for n in spellings for s in ("", "_")]
        array = next((arrays[key] for key in keys if key in arrays), None)
        if array is not None:
            found[field] = array
    joined = next((arrays[key] for key in (f"dets{index}", f"dets_{index}") if key in arrays), None)
    if kind == "pred_instances" and joined is not None:
        found |= dict(bboxes=joined[:, :4], scores=joined[:, 4])
    return _complete(found)


def _complete(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "bboxes" not in found:
        return {}
    if found["bboxes"].ndim == 2 and found["bboxes"].shape[1] == 5:
        found |= dict(bboxes=found["bboxes"][:, :4], scores=found["bboxes"][:, 4])
    return {"labels": np.zeros(len(found["bboxes"]), np.int64)} | found


def _from_classes(per_class: Sequence) -> dict[str, np.ndarray]:
    """Detections (n, 5) of each class, joined."""
    arrays = [np.array(values, np.float32).reshape(-1, 5) for values in per_class]
    joined = np.concatenate(arrays)
    labels = np.repeat(np.arange(len(arrays)), [len(array) for array in arrays])
    return dict(bboxes=joined[:, :4], scores=joined[:, 4], labels=labels)


def _coco_pictures(file: Mapping, inputs: Mapping) -> list[dict]:
    """A sample for every image of a COCO file, with the entries of a list of COCO's results."""
    lists = [v for v in _values(inputs) if isinstance(v, Sequence) and not isinstance(v, str)]
    results = next((v for v in lists if v and isinstance(v[0], Mapping) and "score" in v[0]), [])
    labels = {entry["id"]: label for label, entry in enumerate(file["categories"])}
    samples = []
    for image in file["images"]:
        mine = [entry for entry in results if entry["image_id"] == image["id"]]
        boxes = np.array([entry.get("bbox", (0, 0, 0, 0)) for entry in mine], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        fields: dict[str, Any] = dict(bboxes=boxes, labels=np.array([labels[e["category_id"]] for e in mine], int))
        fields["scores"] = np.array([entry["score"] for entry in mine])
        if mine and "segmentation" in mine[0]:
            fields["masks"] = [entry["segmentation"] for entry in mine]
        samples.append(dict(img_id=image["id"], pred_instances=fields))
    return samples


def _classes(case: Mapping, pictures: Sequence[Mapping] = ()) -> list[str]:
    """Names from the case's arguments or inputs, else as many numbers as its labels need."""
    for place in (case["model"], case["inputs"]):
        for name in ("classes", "num_classes"):
            value = place.get(name)
            if value is not None:
                return [str(c) for c in (range(value) if isinstance(value, int) else value)]
    per_class = case["inputs"].get("det_results")
    if isinstance(per_class, Sequence) and not isinstance(per_class, str):
        return [str(c) for c in range(len(per_class[0]))]
    labels = [p[kind]["labels"].max(initial=0) for p in pictures for kind in KINDS if kind in p]
    return [str(c) for c in range(int(max(labels, default=79)) + 1)]


def _values(inputs: Mapping) -> Iterator[Any]:
    yield inputs
    yield from inputs.values()


def _widened(objects: Objects, legacy: bool) -> Objects:
    """Boxes whose last pixel is counted, as edges."""
    if legacy:
        objects.boxes[:, 2:] += 1
    return objects


def _count(objects: Objects, number: int, chosen: Any = ...) -> np.ndarray:
    return np.bincount(objects.labels[chosen], minlength=number)


def _as_published(value: float, reference: np.ndarray | None) -> Tensor:
    """(1,) float64, rounded to three decimals where the stored number is, as the published metrics round."""
    rounded = reference is not None and np.allclose(reference, np.round(reference, 3), rtol=0, atol=1e-7)
    return torch.tensor([round(value, 3) if rounded else value], dtype=torch.float64)


ADAPTERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "CocoMetric": run_coco,
    "VOCMetric": run_map,
    "eval_map": run_map,
}
