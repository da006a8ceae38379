"""What detection heads share: reading objects, settings, checks of maps, and the end of every prediction.

Letters: G objects of a picture, n predictions, B batch, C channels, H, W rows and columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from visionpatch.errors import BadSampleError, ConfigError, DataError, nearest
from visionpatch.losses import BoxLoss
from visionpatch.ops import batched_nms
from visionpatch.structures import DataSample


@dataclass
class Objects:
    """The annotated objects of one picture, in pixels of the network's input."""

    boxes: Tensor  # (G, 4) float32
    labels: Tensor  # (G,) int64
    masks: Tensor | None  # (G, H, W) of 0 and 1
    ignored: Tensor  # (M, 4) boxes that count neither way


def read_objects(sample: DataSample, num_classes: int, device: torch.device) -> Objects:
    """The objects of `sample` on `device`; boxes without an area, which nothing could match, are left out.

    Raises:
        DataError: a sample without ``gt_instances``.
        BadSampleError: a label outside [0, num_classes).
    """
    if "gt_instances" not in sample:
        raise DataError(
            f"{sample.where()}: no objects (gt_instances); does the pipeline load them (LoadAnnotations, "
            "with_bbox=True)?"
        )
    objects = sample.gt_instances
    boxes = objects.bboxes.to(device, torch.float32).reshape(-1, 4)
    labels = objects.labels.to(device, torch.int64)
    if ((labels < 0) | (labels >= num_classes)).any():
        wrong = int(labels[(labels < 0) | (labels >= num_classes)][0])
        raise BadSampleError(
            f"{sample.where()}: an object of label {wrong}, but the head has num_classes={num_classes} (labels 0 to "
            f"{num_classes - 1}); check num_classes and the dataset's classes"
        )
    ignored = sample.ignored_instances.bboxes if "ignored_instances" in sample else boxes.new_zeros(0, 4)
    masks = objects.masks.to(device) if "masks" in objects else None
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if not keep.all():
        boxes, labels, masks = boxes[keep], labels[keep], None if masks is None else masks[keep]
    return Objects(boxes, labels, masks, ignored.to(device, torch.float32).reshape(-1, 4))


def picture_shape(sample: DataSample, name: str = "img_shape") -> tuple[int, int]:
    """The (H, W) of `sample` under `name`, or its ``img_shape`` where it has none.

    Raises:
        DataError: a sample without ``img_shape``.
    """
    shape = sample.get(name) or sample.get("img_shape")
    if shape is None:
        raise DataError(f"{sample.where()}: no img_shape in its metadata; does the pipeline end with PackInputs?")
    return int(shape[0]), int(shape[1])


def scale_of(sample: DataSample, boxes: Tensor) -> Tensor:
    """What boxes are divided by to fit the original picture: the scale factor as (4,), w, h, w, h."""
    width, height = sample.get("scale_factor") or (1.0, 1.0)
    return boxes.new_tensor([width, height, width, height])


def settings(path: str, given: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults` with what is `given` in their place.

    Raises:
        ConfigError: an unknown key, or an ``nms`` that no suppression takes.
    """
    for key in given or {}:
        if key not in defaults:
            raise ConfigError(f'{path} has no key "{key}"{nearest(str(key), defaults)}')
    merged = {**defaults, **(given or {})}
    if "nms" in merged:
        try:
            none = torch.zeros(0, device="cpu")  # whatever device the model is being built on
            batched_nms(none.reshape(0, 4), none, none.long(), merged["nms"])
        except ConfigError as error:
            raise ConfigError(f"{path}.nms: {error}") from None
    return merged


def check_box_loss(name: str, loss: nn.Module, reg_decoded_bbox: bool) -> None:
    """Raises ConfigError for a loss of boxes where deltas are compared."""
    if isinstance(loss, BoxLoss) and not reg_decoded_bbox:
        raise ConfigError(f"{name} compares boxes, not deltas: set reg_decoded_bbox=True")


def check_maps(name: str, features: Sequence[Tensor], in_channels: int, number: int) -> None:
    """Raises ConfigError unless there are `number` maps of `in_channels` channels each."""
    if len(features) != number:
        raise ConfigError(
            f"{name}: {len(features)} maps, but its anchors are made for {number} levels; set the neck's num_outs or "
            "anchor_generator.strides"
        )
    given = tuple(x.shape[1] for x in features)
    if set(given) != {in_channels}:
        raise ConfigError(f"{name}: in_channels={in_channels}, but the maps it got have channels {given}")


def suppress(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    nms: Mapping[str, Any],
    max_per_img: int,
    groups: Tensor | None = None,
) -> InstanceData:
    """The `max_per_img` best of `boxes` (n, 4) after non-maximum suppression within each label, best first.

    `groups` (n,) takes the place of the labels in the suppression. Non-finite boxes and scores are dropped; a
    `max_per_img` not above 0 keeps all.
    """
    finite = scores.isfinite() & boxes.isfinite().all(1)
    boxes, scores, labels = boxes[finite], scores[finite], labels[finite]
    if len(boxes):
        found, keep = batched_nms(boxes, scores, labels if groups is None else groups[finite], dict(nms))
        boxes, scores, labels = found[:, :4], found[:, 4], labels[keep]
    most = max_per_img if max_per_img > 0 else len(boxes)
    return InstanceData(bboxes=boxes[:most], scores=scores[:most], labels=labels[:most])
