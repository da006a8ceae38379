"""DataSample: the one object that travels from dataset to model to metric to picture."""

from typing import Any

import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor


def _typed(name: str, kind: type, text: str) -> Any:
    """A property stored as the data field ``_name`` that accepts values of `kind` only."""
    field = f"_{name}"

    def get(self: "DataSample") -> Any:
        return getattr(self, field)

    def put(self: "DataSample", value: Any) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"DataSample.{name} takes a {kind.__name__}, not a {type(value).__name__}")
        self.set_field(value, field, dtype=kind)

    def drop(self: "DataSample") -> None:
        delattr(self, field)

    return property(get, put, drop, text)


class DataSample(BaseDataElement):
    """Ground truth (``gt_*``) and prediction (``pred_*``) of one image, and its metadata.

    | property | type | content |
    |---|---|---|
    | sem_seg | PixelData | ``data``: label map (1, H, W), integer; 255 = ignored |
    | seg_logits | PixelData | ``data``: class scores (C, H, W), predictions only |
    | saliency | PixelData | ``data``: how much each pixel is foreground (1, H, W), 0 to 1, predictions only |
    | instances | InstanceData | ``bboxes`` (n, 4) x1 y1 x2 y2 in pixels, ``labels`` (n,), ``scores``, ``masks`` |
    | ignored_instances | InstanceData | annotated objects that count neither as right nor as wrong: crowds |
    | label | Tensor | class indices (n,), int64 |
    | score | Tensor | class probabilities (C,), float; as ground truth those of a mixed picture |
    | image | Tensor | an image (C, H, W): a reconstruction, a generated picture |

    Two more belong to few-shot tasks: ``support``, a list with one DataSample a shot, each of which has its picture as
    ``image`` (C, h, w) and its mask as ``gt_sem_seg``.

    Metadata used by the toolbox: ``img_path``, ``seg_path``, ``img_id``, ``ori_shape`` (of the file), ``img_shape``
    (after the pipeline, before padding), ``pad_shape`` (its sides rounded up), ``batch_input_shape`` (of the padded
    batch), ``scale_factor`` (w, h), ``flip``, ``flip_direction``; shapes are (H, W).
    """

    gt_sem_seg = _typed("gt_sem_seg", PixelData, "Label map (1, H, W).")
    pred_sem_seg = _typed("pred_sem_seg", PixelData, "Predicted label map (1, H, W).")
    seg_logits = _typed("seg_logits", PixelData, "Class scores (C, H, W).")
    pred_saliency = _typed("pred_saliency", PixelData, "Predicted foreground (1, H, W), 0 to 1.")
    gt_instances = _typed("gt_instances", InstanceData, "Annotated instances.")
    ignored_instances = _typed("ignored_instances", InstanceData, "Annotated objects that count neither way: crowds.")
    pred_instances = _typed("pred_instances", InstanceData, "Predicted instances.")
    gt_label = _typed("gt_label", Tensor, "Class indices (n,), int64.")
    gt_score = _typed("gt_score", Tensor, "Class probabilities (C,) to be learnt, of a mixed picture.")
    pred_label = _typed("pred_label", Tensor, "Predicted class indices (n,), int64.")
    pred_score = _typed("pred_score", Tensor, "Class probabilities (C,).")
    gt_image = _typed("gt_image", Tensor, "Target image (C, H, W).")
    pred_image = _typed("pred_image", Tensor, "Predicted image (C, H, W).")

    support = _typed("support", list, "The annotated examples of a few-shot query, DataSamples.")
    image = _typed("image", Tensor, "The picture (C, H, W) of an annotated example.")

    def where(self) -> str:
        """The file this sample came from, for messages."""
        return str(self.get("img_path", self.get("img_id", "a sample without img_path")))


def label_map(sample: DataSample) -> Tensor:
    """The ground-truth label map of `sample` as (H, W), int64."""
    return sample.gt_sem_seg.data.squeeze(0).to(torch.int64)
