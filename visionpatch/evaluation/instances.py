"""The objects of a sample as a metric needs them: checked, as numpy arrays, masks as run lengths.

Letters: n objects, H, W picture.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionpatch.errors import BadSampleError, MissingDependencyError

TRUTH = ("gt_instances", "ignored_instances")


@dataclass
class Objects:
    """n objects of one picture.

    Attributes:
        boxes: (n, 4) float64, x1 y1 x2 y2 in pixels of the picture's file.
        labels: (n,) int64, class indices.
        scores: (n,) float64; ones for annotated objects.
        ignored: (n,) bool: annotated objects that count neither way. False for predictions.
        masks: n of COCO's compressed run lengths, dict(size=[H, W], counts=text), or None without masks.
        dropped: how many predictions were left out since a score or a coordinate is not finite.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    ignored: np.ndarray
    masks: list[dict] | None = None
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.boxes)


def predicted(sample: Mapping, num_classes: int, with_masks: bool = False) -> Objects:
    """The predicted objects of `sample`, in their order; those with a score or coordinate that is not finite left out.

    Raises:
        BadSampleError: no predictions, fields of different lengths, an unknown class, masks of another size.
    """
    where = where_of(sample)
    if "pred_instances" not in sample:
        raise BadSampleError(f"{where}: no pred_instances, so there is nothing to evaluate; is the model a detector?")
    found = _read(sample["pred_instances"], "pred_instances", num_classes, where, ("bboxes", "scores", "labels"))
    masks = _masks_of(sample, "pred_instances", len(found)) if with_masks else None
    finite = np.isfinite(found.boxes).all(1) & np.isfinite(found.scores)
    return Objects(
        boxes=found.boxes[finite],
        labels=found.labels[finite],
        scores=found.scores[finite],
        ignored=found.ignored[finite],
        masks=None if masks is None else [mask for mask, good in zip(masks, finite, strict=True) if good],
        dropped=int((~finite).sum()),
    )


def annotated(sample: Mapping, num_classes: int, with_masks: bool = False) -> Objects:
    """The annotated objects of `sample`: those of `gt_instances`, and those of `ignored_instances` marked as ignored.

    Raises:
        BadSampleError: as in `predicted`.
    """
    where = where_of(sample)
    if "gt_instances" not in sample:
        raise BadSampleError(f"{where}: no gt_instances, so there is nothing to compare the prediction with")
    parts, masks = [], []
    for key in TRUTH:
        if key in sample:
            parts.append(_read(sample[key], key, num_classes, where, ("bboxes", "labels")))
            parts[-1].ignored[:] = key == "ignored_instances"
            masks += _masks_of(sample, key, len(parts[-1])) if with_masks else []
    return Objects(
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        ignored=np.concatenate([part.ignored for part in parts]),
        masks=masks if with_masks else None,
    )


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's compressed run lengths, dict(size=[H, W], counts=text)."""
    runs = mask_codec().encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(size=[int(side) for side in runs["size"]], counts=runs["counts"].decode("ascii"))


@functools.cache  # asked for once a mask
def mask_codec() -> Any:
    """pycocotools.mask."""
    try:
        from pycocotools import mask
    except ImportError:
        raise MissingDependencyError("run lengths of masks need pycocotools: pip install pycocotools") from None
    return mask


def where_of(sample: Mapping) -> str:
    """The file or id of a sample, for messages."""
    return str(sample.get("img_path", sample.get("img_id", "a sample without img_path")))


def numbers(value: Any, kind: type) -> np.ndarray:
    """A tensor or an array as a numpy array of `kind`."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, dtype=kind)


def _read(instances: Any, key: str, num_classes: int, where: str, fields: Sequence[str]) -> Objects:
    for name in fields:
        if name not in instances:
            raise BadSampleError(f"{where}: {key} has no {name}; {', '.join(fields)} are needed")
    boxes, labels = numbers(instances["bboxes"], np.float64), numbers(instances["labels"], np.int64)
    scores = numbers(instances["scores"], np.float64) if "scores" in fields else np.ones(len(labels))
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    if boxes.shape != (len(labels), 4) or labels.ndim != 1 or scores.shape != labels.shape:
        raise BadSampleError(
            f"{where}: {key} holds bboxes {boxes.shape}, labels {labels.shape} and scores {scores.shape}; "
            "(n, 4), (n,) and (n,) are expected"
        )
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if wrong.size:
        raise BadSampleError(
            f"{where}: {key} holds label {wrong[0]}, but the data set names {num_classes} classes "
            f"(0 to {num_classes - 1}); check the head's num_classes and the data set's metainfo"
        )
    return Objects(boxes, labels, scores, np.zeros(len(labels), bool))


def _masks_of(sample: Mapping, key: str, count: int) -> list[dict]:
    """The masks under `key` as run lengths; given as (n, H, W) or as run lengths already."""
    where, instances = where_of(sample), sample[key]
    if "masks" not in instances:
        raise BadSampleError(f"{where}: {key} has no masks; segm is for models and data with masks, bbox is without")
    masks = instances["masks"]
    if not isinstance(masks, list):
        masks = [encode_mask(mask) for mask in numbers(masks, np.uint8)]
    sizes = {tuple(mask["size"]) for mask in masks}
    expected = tuple(sample["ori_shape"][:2]) if "ori_shape" in sample else None
    if len(masks) != count or len(sizes) > 1 or (expected and sizes - {expected}):
        raise BadSampleError(
            f"{where}: {key} holds {len(masks)} masks of (H, W) {sorted(sizes)} for {count} boxes; one a box, of the "
            f"picture's size {expected} is expected (LoadAnnotations comes after Resize in a test pipeline)"
        )
    return masks
