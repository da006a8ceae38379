"""Adapter of whole detectors: RetinaNet, Faster R-CNN, Mask R-CNN and Cascade R-CNN around a backbone of ours."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from golden import heads
from golden.detection import (
    build_args,
    is_training,
    mask_outputs,
    named_inputs,
    predictions,
    read_samples,
)
from golden.heads import Arrays, Draw, load_state
from visionpatch.errors import ConfigError
from visionpatch.registry import MODELS

# published arguments of ResNet that have one value in the published detectors
RESNET = {"num_stages": 4, "style": "pytorch"}
PARTS = ("bbox_head", "rpn_head", "roi_head")


def run_detector(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """Maps, predictions, or losses and gradients, whichever the case's inputs allow, of a normalised batch."""
    inputs = named_inputs(case["inputs"])
    model = build(case["model"])
    load_state(model, state)
    model.train(is_training(case))
    specs = inputs["x"]
    image = heads.read_inputs([specs] if isinstance(specs, Mapping | str) else specs, arrays, draw)[0].requires_grad_()
    outputs = {f"feat{i}": x for i, x in enumerate(model.extract_features(image))}
    if "batch_img_metas" not in inputs:
        return outputs
    samples = read_samples(inputs, arrays)
    if "gt_instances" not in inputs:
        results = [sample.pred_instances for sample in model(image, samples, mode="predict")]
        return outputs | predictions(results) | mask_outputs(results, case["outputs"])
    losses = {
        name: torch.stack(list(value)) if isinstance(value, list) else value.reshape(1)
        for name, value in model(image, samples, mode="loss").items()
    }
    sum(value.sum() for name, value in losses.items() if "loss" in name).backward()
    outputs |= losses | {"grad_x": image.grad}
    return outputs | {f"grad_{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}


def build(args: Mapping[str, Any]) -> Any:
    """Our detector for the published constructor's arguments.

    Raises:
        ConfigError: a backbone we do not have, or an argument with a value we have no counterpart for.
    """
    ours = {name: value for name, value in args.items() if name not in ("init_cfg", "data_preprocessor", "pretrained")}
    if ours["backbone"]["type"] not in MODELS:
        raise ConfigError(f"no backbone {ours['backbone']['type']} among ours")
    ours["backbone"] = {k: v for k, v in ours["backbone"].items() if k not in ("init_cfg", "pretrained")}
    if ours["backbone"]["type"] == "ResNet":
        ours["backbone"] = _resnet(ours["backbone"])
    if ours.get("neck"):
        ours["neck"] = heads.translate(ours["neck"])
    for name in PARTS:
        if name in ours:
            train, test = ((ours.get(key) or {}) for key in ("train_cfg", "test_cfg"))
            stage = {"rpn_head": "rpn", "roi_head": "rcnn"}.get(name)
            own = {"train_cfg": train.get(stage) if stage else train, "test_cfg": test.get(stage) if stage else test}
            ours[name] = build_args({**ours[name], **{key: value for key, value in own.items() if value}})
            if name == "rpn_head" and "rpn_proposal" in train:
                ours[name]["proposal_cfg"] = train["rpn_proposal"]
    return MODELS.build({name: value for name, value in ours.items() if name not in ("train_cfg", "test_cfg")})


def _resnet(args: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in RESNET.items():
        if args.get(name, value) != value:
            raise ConfigError(f"published argument {name}={args[name]!r} of ResNet is not supported, only {value!r}")
    if args.get("norm_cfg", {"type": "BN"})["type"] != "BN":
        raise ConfigError(f"published argument norm_cfg={args['norm_cfg']!r} of ResNet is not supported, only BN")
    return {name: value for name, value in args.items() if name not in (*RESNET, "norm_cfg")}


ADAPTERS: dict[str, Callable[..., dict[str, Tensor]]] = dict.fromkeys(
    ("RetinaNet", "FasterRCNN", "MaskRCNN", "CascadeRCNN"), run_detector
)
