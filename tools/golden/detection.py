"""Adapters of OpenMMLab's detection heads: RetinaHead, RPNHead, StandardRoIHead and CascadeRoIHead with their parts."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from golden.heads import Arrays, Draw, load_state, mean_std, read_inputs
from visionpatch.errors import ConfigError
from visionpatch.heads import AnchorHead, CascadeRoIHead, StandardRoIHead
from visionpatch.heads.bbox_head import to_rois
from visionpatch.heads.detection import picture_shape
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

# published arguments that have one value in every published config; another value is refused, never ignored
FIXED: dict[str, tuple[Any, ...]] = {
    "conv_cfg": (None,),
    "act_cfg": (None,),
    "shared_head": (None,),
    "with_avg_pool": (False,),
    "add_ctr_clamp": (False,),
    "ctr_clamp": (32,),
    "centers": (None,),
    "use_box_type": (False,),
    "iou_calculator": (None, {"type": "BboxOverlaps2D"}),
    "upsample_cfg": ({"type": "deconv", "scale_factor": 2},),
    "predictor_cfg": ({"type": "Conv"},),
    "use_torchvision": (False,),
    "reduction": ("mean",),
    "activated": (False,),
    "use_mask": (False, True),
    "num_cls_convs": (0,),
    "num_cls_fcs": (0,),
    "num_reg_convs": (0,),
    "num_reg_fcs": (0,),
}
WITHOUT_EFFECT = ("init_cfg", "pretrained")  # the weights are loaded
RENAMED = {"Shared4Conv1FCBBoxHead": "ConvFCBBoxHead"}
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
    "Shared4Conv1FCBBoxHead": dict(num_shared_convs=4, num_shared_fcs=1, loss_bbox=dict(type="SmoothL1Loss", beta=1.0)),
    "ConvFCBBoxHead": dict(num_shared_fcs=0, loss_bbox=dict(type="SmoothL1Loss", beta=1.0)),
}
TEST_DEFAULTS = dict(nms_pre=-1, min_bbox_size=-1, score_thr=0)
MASK_MAPS = ("mask_logits", "mask_pred", "mask_preds")  # names of a mask head's output
OTHER_NAMES = {  # of inputs
    "x": ("inputs", "features", "feats"),
    "gt_instances": ("batch_gt_instances",),
    "gt_instances_ignore": ("batch_gt_instances_ignore", "ignored_instances"),
    "batch_img_metas": ("img_metas",),
}


def run_dense(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """Raw maps and anchors; predictions; targets, losses and gradients, whichever the case's inputs allow."""
    head = build(case["model"])
    load(head, state)
    inputs = named_inputs(case["inputs"])
    head.train(is_training(case))
    features = [x.requires_grad_() for x in read_inputs(inputs["x"], arrays, draw)]
    logits, deltas = head(features)
    sizes = [x.shape[-2:] for x in logits]
    grid = head.anchors.grid(sizes)
    outputs = {f"anchors{i}": x for i, x in enumerate(grid)}
    for name, maps in (("cls", logits), ("reg", deltas), ("cls_score", logits), ("bbox_pred", deltas)):
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
    for i, (labels, weights, boxes) in enumerate(zip(targets.labels, targets.weights, targets.boxes, strict=True)):
        positive = (labels < head.num_classes).nonzero().flatten()
        outputs |= {
            f"pos_inds{i}": positive,
            f"pos_labels{i}": labels[positive],
            f"pos_targets{i}": boxes[positive],
            f"weight_zero{i}": (weights == 0).nonzero().flatten(),
        }
    return outputs


def run_roi(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """Raw outputs; predictions with those behind them; or targets, losses and gradients."""
    if case["model"].get("type") not in ("StandardRoIHead", "CascadeRoIHead"):
        return run_parts(case, arrays, state, draw)
    head = build(case["model"])
    load(head, state)
    inputs = named_inputs(case["inputs"])
    head.train(is_training(case))
    features = [x.requires_grad_() for x in read_inputs(inputs["x"], arrays, draw)]
    boxes = read_proposals(arrays, len(features[0]))
    if "batch_img_metas" not in inputs:
        samples = [DataSample(metainfo=dict(img_shape=tuple(4 * n for n in features[0].shape[-2:]))) for _ in boxes]
        outputs = roi_outputs(head, features, boxes, samples)
        for stage in head.stages if head.stages[0].mask_head is not None else ():
            maps = stage.masks(features, to_rois(boxes))
            outputs |= {f"{prefix(stage)}{name}": maps for name in MASK_MAPS}
        return outputs
    samples = read_samples(inputs, arrays)
    proposals = [InstanceData(bboxes=b) for b in boxes]
    if "gt_instances" in inputs:
        return roi_losses(head, features, proposals, samples)
    outputs = roi_outputs(head, features, boxes, samples)
    if head.stages[0].mask_head is not None:
        found = head.predict(features, proposals, samples, rescale=False)
        rois, labels = to_rois([one.bboxes for one in found]), torch.cat([one.labels for one in found])
        for stage in head.stages:
            outputs[f"{prefix(stage)}mask_logits"] = stage.mask_head.own_maps(stage.masks(features, rois), labels)
    results = head.predict(features, proposals, samples, rescale=inputs.get("rescale", True))
    return outputs | predictions(results) | mask_outputs(results, case["outputs"])


def run_parts(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """What a box head and a mask head give for pooled features, one of them alone or both as a model's parts."""
    model, outputs = case["model"], {}
    for name, config in ({"": model} if "type" in model else model).items():
        head = build(config)
        load(head, {key: value for key, value in state.items() if name in key.split(".")} if name else state)
        head.train(is_training(case))
        named = [key for key in case["inputs"] if ("mask" in key) == ("mask" in name)] or list(case["inputs"])
        specs = case["inputs"][named[0] if name else "x" if "x" in case["inputs"] else named[0]]
        found = head(read_inputs([specs] if isinstance(specs, Mapping | str) else specs, arrays, draw)[0])
        boxes = ("cls_score", "bbox_pred")
        outputs |= (
            dict.fromkeys(MASK_MAPS, found) if isinstance(found, Tensor) else dict(zip(boxes, found, strict=True))
        )
    return outputs


def is_training(case: Mapping) -> bool:
    """The mode the notes name; else training mode where there are objects to learn."""
    notes = case.get("notes", "")
    return "gt_instances" in named_inputs(case["inputs"]) and "eval mode" not in notes


def named_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs under the names used here."""
    known = {other: name for name, others in OTHER_NAMES.items() for other in others}
    return {known.get(name, name): value for name, value in inputs.items()}


def read_proposals(arrays: Arrays, number: int) -> list[Tensor]:
    """The stored boxes of each of `number` pictures: proposals<i>, or rois (R, 5) with the picture's index first."""
    if "rois" not in arrays:
        return [torch.from_numpy(arrays[f"proposals{i}"]) for i in range(number)]
    rois = torch.from_numpy(arrays["rois"])
    return [rois[rois[:, 0] == i, 1:] for i in range(number)]


def prefix(stage: Any) -> str:
    """What the names of a stage's outputs begin with: s0. of the first stage of a cascade."""
    return stage.suffix and f"s{stage.suffix[1:]}."


def roi_outputs(
    head: Any, features: Sequence[Tensor], boxes: Sequence[Tensor], samples: Sequence[DataSample]
) -> dict[str, Tensor]:
    """Levels, pooled features, logits and deltas; of a cascade those of every stage with the boxes it reads."""
    given, outputs, counts = boxes, {}, [len(own) for own in boxes]
    for stage in head.stages:
        name, rois = prefix(stage), to_rois(boxes)
        pooled = stage.bbox_extractor(features, rois)
        logits, deltas = stage.bbox_head(pooled)
        outputs |= {f"{name}roi_levels": stage.bbox_extractor.levels(rois), f"{name}roi_feats": pooled}
        outputs |= {f"{name}rois": rois[:, 1:], f"{name}cls_score": logits, f"{name}bbox_pred": deltas}
        parts = zip(boxes, logits[:, :-1].argmax(1).split(counts), deltas.split(counts), samples, strict=True)
        boxes = [stage.bbox_head.refine(*one, picture_shape(sample)) for *one, sample in parts]
    if len(head.stages) > 1:
        outputs["cls_score"], outputs["bbox_pred"] = head(features, given, samples)[:2]
    return outputs


def roi_losses(head: Any, features: Sequence[Tensor], proposals: Sequence[Any], samples: Sequence) -> dict[str, Tensor]:
    """Sampled proposals of every stage, their targets, losses and gradients."""
    outputs, boxes = {}, [found.bboxes for found in proposals]
    for stage in head.stages:
        name = prefix(stage)
        drawn = [stage.sample(own, sample) for own, sample in zip(boxes, samples, strict=True)]
        targets = stage.targets(drawn)
        outputs |= {f"{name}roi_labels": targets.labels, f"{name}roi_targets": targets.deltas}
        for i, one in enumerate(drawn):
            outputs |= {f"{name}pos_inds{i}": one.sampled.positive, f"{name}pos_gt_inds{i}": one.sampled.objects}
        if stage.mask_head is not None:
            outputs[f"{name}mask_targets_packed"] = packed(stage.mask_targets(drawn))
        if len(head.stages) > 1:
            with torch.no_grad():
                raw = stage.boxes(features, to_rois([one.boxes for one in drawn]))
            boxes = head.next_proposals(stage, drawn, *raw, samples)
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
    whole = isinstance(head, StandardRoIHead | CascadeRoIHead | AnchorHead)
    beginning = r"^(rpn|roi|bbox)_head\." if whole else r"^(roi_head\.)?(bbox|mask)_head\.(\d\.)?"
    load_state(head, {re.sub(beginning, "", name): value for name, value in state.items()})


def build(args: Mapping[str, Any]) -> Any:
    """Our head for the published constructor's arguments."""
    return MODELS.build(build_args(args))


def build_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """Our arguments for the published constructor's.

    Raises:
        ConfigError: an argument with a value we have no counterpart for.
    """
    ours = translate(args)
    if ours["type"] == "RPNHead" and ours.pop("num_classes", 1) != 1:
        raise ConfigError("published argument num_classes of RPNHead is not supported, only 1")
    if ours.get("train_cfg") and ours["type"] in ("RetinaHead", "RPNHead"):
        ours["train_cfg"] = {"sampler": {"type": "PseudoSampler"}} | ours["train_cfg"]
    if ours.get("test_cfg"):
        known = MODELS.get(ours["type"]).TEST
        ours["test_cfg"] = {k: v for k, v in TEST_DEFAULTS.items() if k in known} | ours["test_cfg"]
    return ours


def translate(args: Mapping[str, Any]) -> dict[str, Any]:
    """Published arguments, at every depth, without those at their one value, and with the published defaults."""
    ours: dict[str, Any] = dict(DEFAULTS.get(args.get("type", ""), {}))
    for name, value in args.items():
        if name in WITHOUT_EFFECT:
            continue
        if name in FIXED and value not in FIXED[name]:
            raise ConfigError(f"published argument {name}={value!r} is not supported, only {FIXED[name][0]!r}")
        if name not in FIXED or value is True:
            ours[name] = RENAMED.get(value, value) if name == "type" else _translate_value(value)
    return ours


def _translate_value(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_translate_value(one) for one in value]
    return translate(value) if isinstance(value, Mapping) else value


ADAPTERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "RetinaHead": run_dense,
    "RPNHead": run_dense,
    "StandardRoIHead": run_roi,
    "CascadeRoIHead": run_roi,
    "ConvFCBBoxHead": run_roi,
    "Shared2FCBBoxHead": run_roi,
    "Shared4Conv1FCBBoxHead": run_roi,
    "FCNMaskHead": run_roi,
}
