"""Adapters of OpenMMLab's detection heads: RetinaHead, RPNHead, StandardRoIHead with its box and mask heads."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from golden.heads import Arrays, Draw, mean_std, read_inputs
from visionpatch.errors import ConfigError
from visionpatch.heads import AnchorHead, StandardRoIHead
from visionpatch.heads.bbox_head import to_rois
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

# published arguments that have one value in every published config; another value is refused, never ignored
FIXED: dict[str, tuple[Any, ...]] = {
    "init_cfg": (None,),
    "conv_cfg": (None,),
    "act_cfg": (None,),
    "shared_head": (None,),
    "reg_decoded_bbox": (False,),
    "with_avg_pool": (False,),
    "add_ctr_clamp": (False,),
    "ctr_clamp": (32,),
    "centers": (None,),
    "use_box_type": (False,),
    "iou_calculator": (None, {"type": "BboxOverlaps2D"}),
    "upsample_cfg": ({"type": "deconv", "scale_factor": 2},),
    "predictor_cfg": ({"type": "Conv"},),
    "reduction": ("mean",),
    "activated": (False,),
    "use_mask": (False, True),
}
DENSE = dict(  # the published classes' own defaults, which no published config keeps
    loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True), loss_bbox=dict(type="SmoothL1Loss", beta=1 / 9)
)
DEFAULTS: dict[str, dict[str, Any]] = {
    "RetinaHead": DENSE,
    "RPNHead": DENSE
    | dict(
        anchor_generator=dict(
            type="AnchorGenerator", scales=(8, 16, 32), ratios=(0.5, 1.0, 2.0), strides=(4, 8, 16, 32, 64)
        )
    ),
    "Shared2FCBBoxHead": dict(loss_bbox=dict(type="SmoothL1Loss", beta=1.0)),
}
TEST_DEFAULTS = dict(nms_pre=-1, min_bbox_size=-1, score_thr=0)


def run_dense(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """Raw maps and anchors; predictions; targets, losses and gradients, whichever the case's inputs allow."""
    head = build(case["model"])
    load(head, state)
    inputs = case["inputs"]
    features = [x.requires_grad_() for x in read_inputs(inputs["x"], arrays, draw)]
    logits, deltas = head(features)
    sizes = [x.shape[-2:] for x in logits]
    grid = head.anchors.grid(sizes)
    outputs = {f"anchors{i}": x for i, x in enumerate(grid)}
    for name, maps in (("cls", logits), ("reg", deltas)):
        outputs |= {f"{name}{i}": x for i, x in enumerate(maps)}
        outputs |= {f"{name}{i}_meanstd": mean_std(x) for i, x in enumerate(maps)}
    if "batch_img_metas" not in inputs:
        return outputs
    samples = read_samples(inputs, arrays)
    if "gt_instances" not in inputs:
        results = head.results(logits, deltas, samples, head.test_cfg, inputs.get("rescale", True))
        return outputs | predictions(results)
    losses = head.losses(logits, deltas, samples)
    sum(x for values in losses.values() for x in values).backward()
    outputs |= {name: torch.stack(values) for name, values in losses.items()}
    outputs |= dense_targets(head, head.targets(torch.cat(grid), sizes, samples))
    return outputs | gradients(head, features)


def dense_targets(head: Any, targets: Any) -> dict[str, Tensor]:
    """The chosen anchors of every picture, their labels and deltas, and the divisor."""
    outputs = {"avg_factor": torch.tensor([float(targets.avg_factor)])}
    for i, (labels, weights, deltas) in enumerate(zip(targets.labels, targets.weights, targets.deltas, strict=True)):
        positive = (labels < head.num_classes).nonzero().flatten()
        outputs |= {
            f"pos_inds{i}": positive,
            f"pos_labels{i}": labels[positive],
            f"pos_targets{i}": deltas[positive],
            f"weight_zero{i}": (weights == 0).nonzero().flatten(),
        }
    return outputs


def run_roi(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """Predictions with the raw outputs behind them, or targets, losses and gradients; of a head alone what it gives."""
    head = build(case["model"])
    load(head, state)
    inputs = case["inputs"]
    if case["model"]["type"] != "StandardRoIHead":
        found = head(read_inputs(inputs["x"], arrays, draw)[0])
        names = ("mask_logits",) if isinstance(found, Tensor) else ("cls_score", "bbox_pred")
        return dict(zip(names, [found] if isinstance(found, Tensor) else found, strict=True))
    features = [x.requires_grad_() for x in read_inputs(inputs["x"], arrays, draw)]
    samples = read_samples(inputs, arrays)
    boxes = [torch.from_numpy(arrays[f"proposals{i}"]) for i in range(len(samples))]
    proposals = [InstanceData(bboxes=b) for b in boxes]
    if "gt_instances" in inputs:
        return roi_losses(head, features, proposals, samples)
    rois = to_rois(boxes)
    pooled = head.bbox_roi_extractor(features, rois)
    logits, deltas = head.bbox_head(pooled)
    outputs = {"roi_levels": head.bbox_roi_extractor.levels(rois), "roi_feats": pooled}
    outputs |= {"cls_score": logits, "bbox_pred": deltas}
    rescale = inputs.get("rescale", True)
    if head.mask_head is not None:
        found = head.predict(features, proposals, samples, rescale=False)
        maps = head.mask_head(head.mask_extractor(features, to_rois([one.bboxes for one in found])))
        outputs["mask_logits"] = head.mask_head.own_maps(maps, torch.cat([one.labels for one in found]))
    results = head.predict(features, proposals, samples, rescale=rescale)
    return outputs | predictions(results) | mask_outputs(results, case["outputs"])


def roi_losses(head: Any, features: Sequence[Tensor], proposals: Sequence[Any], samples: Sequence) -> dict[str, Tensor]:
    """Sampled proposals, their targets, losses and gradients."""
    drawn = [head.sample(p.bboxes, sample) for p, sample in zip(proposals, samples, strict=True)]
    targets = head.targets(drawn)
    outputs = {"roi_labels": targets.labels, "roi_targets": targets.deltas}
    for i, one in enumerate(drawn):
        outputs |= {f"pos_inds{i}": one.sampled.positive, f"pos_gt_inds{i}": one.sampled.objects}
    if head.mask_head is not None:
        outputs["mask_targets_packed"] = packed(head.mask_targets(drawn))
    losses = head.loss(features, proposals, samples)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    outputs |= {name: value.reshape(1) for name, value in losses.items()}
    return outputs | gradients(head, features)


def mask_outputs(results: Sequence[InstanceData], texts: Mapping[str, str]) -> dict[str, Tensor]:
    """Areas of the masks of every picture and, packed, as many masks as the case stores."""
    outputs = {}
    for i, found in enumerate(results):
        if "masks" in found:
            first = re.search(r"first (\d+)", texts.get(f"masks_packed{i}", ""))
            masks = found.masks[: int(first[1])] if first else found.masks
            outputs |= {f"mask_area{i}": found.masks.flatten(1).sum(1), f"masks_packed{i}": packed(masks)}
    return outputs


def predictions(results: Sequence[InstanceData]) -> dict[str, Tensor]:
    """Boxes, scores and labels of every picture."""
    return {f"{name}{i}": found[name] for i, found in enumerate(results) for name in ("bboxes", "scores", "labels")}


def gradients(head: nn.Module, features: Sequence[Tensor]) -> dict[str, Tensor]:
    """Those of the features and of every parameter that has one."""
    outputs = {f"grad_x{i}": torch.zeros_like(x) if x.grad is None else x.grad for i, x in enumerate(features)}
    return outputs | {f"grad_{name}": p.grad for name, p in head.named_parameters() if p.grad is not None}


def packed(masks: Tensor) -> Tensor:
    """Masks (n, H, W) as bits (n, bytes)."""
    return torch.from_numpy(np.packbits(masks.flatten(1).numpy().astype(bool), axis=1))


def read_samples(inputs: Mapping, arrays: Arrays) -> list[DataSample]:
    """The pictures' metadata with the annotated objects, where the case has any."""
    samples = []
    for i, meta in enumerate(inputs["batch_img_metas"]):
        sample = DataSample(metainfo={name: tuple(value) for name, value in meta.items()})
        if "gt_instances" in inputs:
            sample.gt_instances = instances(inputs["gt_instances"][i])
            bits = arrays.get(f"gt_masks_packed{i}")
            if bits is not None:
                height, width = meta["batch_input_shape"]
                masks = np.unpackbits(bits, axis=1)[:, : height * width].reshape(-1, height, width)
                sample.gt_instances.masks = torch.from_numpy(masks)
        if inputs.get("gt_instances_ignore"):
            sample.ignored_instances = instances(inputs["gt_instances_ignore"][i])
        samples.append(sample)
    return samples


def instances(values: Mapping[str, Any]) -> InstanceData:
    """Boxes and labels from lists."""
    boxes = torch.tensor(values["bboxes"], dtype=torch.float32).reshape(-1, 4)
    labels = values.get("labels", [0] * len(boxes))
    return InstanceData(bboxes=boxes, labels=torch.tensor(labels, dtype=torch.int64))


def load(head: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load strictly the tensors of a whole detector that belong to the head."""
    whole = isinstance(head, StandardRoIHead | AnchorHead)
    prefix = r"^(rpn|roi|bbox)_head\." if whole else r"^(roi_head\.)?(bbox|mask)_head\."
    head.load_state_dict({re.sub(prefix, "", name): value for name, value in state.items()})


def build(args: Mapping[str, Any]) -> Any:
    """Our head for the published constructor's arguments.

    Raises:
        ConfigError: an argument with a value we have no counterpart for.
    """
    ours = translate(args)
    if ours["type"] == "RPNHead" and ours.pop("num_classes", 1) != 1:
        raise ConfigError("published argument num_classes of RPNHead is not supported, only 1")
    if ours.get("test_cfg"):
        known = MODELS.get(ours["type"]).TEST
        ours["test_cfg"] = {k: v for k, v in TEST_DEFAULTS.items() if k in known} | ours["test_cfg"]
    return MODELS.build(ours)


def translate(args: Mapping[str, Any]) -> dict[str, Any]:
    """Published arguments, at every depth, without those at their one value, and with the published defaults."""
    ours: dict[str, Any] = dict(DEFAULTS.get(args.get("type", ""), {}))
    for name, value in args.items():
        if name in FIXED and value not in FIXED[name]:
            raise ConfigError(f"published argument {name}={value!r} is not supported, only {FIXED[name][0]!r}")
        if name not in FIXED or value is True:
            ours[name] = translate(value) if isinstance(value, Mapping) else value
    return ours


ADAPTERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "RetinaHead": run_dense,
    "RPNHead": run_dense,
    "StandardRoIHead": run_roi,
    "Shared2FCBBoxHead": run_roi,
    "FCNMaskHead": run_roi,
}
