"""Adapters of OpenMMLab's FPN neck, segmentation heads and IoU metric."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from visionpatch.errors import ConfigError
from visionpatch.evaluation.iou_metric import IoUMetric
from visionpatch.layers.resize import resize
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

Arrays = Mapping[str, np.ndarray]
Draw = Callable[[str, Sequence[int]], Tensor]

# published arguments that have one value in every published config; another value is refused, never ignored
FIXED: dict[str, Any] = {
    "conv_cfg": None,
    "act_cfg": None,
    "init_cfg": None,
    "no_norm_on_lateral": False,
    "upsample_cfg": {"mode": "nearest"},
    "input_transform": None,
    "threshold": None,
    "reduction": "mean",
    "use_mask": False,
}
HEADS = {"decode_head": "decode", "auxiliary_head": "aux"}  # state-dict prefix -> prefix of the outputs


def run_fpn(case: Mapping, arrays: Arrays, state: Mapping, draw: Draw) -> dict[str, Tensor]:
    """The neck's maps and, for the objective the case describes, the gradients; one variant or several by name."""
    if "type" in case["model"]:
        return _run_neck(case["model"], case, arrays, state, draw)
    outputs = {}
    for variant, model in case["model"].items():
        ours = _run_neck(model, case, arrays, state[variant], draw)
        outputs |= {f"{variant}_{name}": value for name, value in ours.items()}
    return outputs


def run_seg(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """Logits, losses, prediction, updated buffers and all gradients of one or more heads, with or without a neck."""
    model = _build_seg(case["model"])
    load_state(model, state)
    train = any(name.startswith("after.") for name in case["outputs"]) or "train mode" in case.get("notes", "")
    model.train(train)
    features = [x.requires_grad_() for x in read_inputs(case["inputs"]["inputs"], arrays, draw)]
    maps = model["neck"](features) if "neck" in model else features
    labels = arrays.get("gt_sem_seg")
    outputs: dict[str, Tensor] = {}
    total = torch.zeros(())
    for prefix, short in HEADS.items():
        for name, key, head in _heads(model, prefix, short):
            logits, losses = _run_head(head, maps, labels)
            outputs |= {f"{name}_logits": logits, f"{name}_logits_meanstd": mean_std(logits)}
            outputs |= {f"{name}.{loss}": value for loss, value in losses.items()}
            total = total + sum(value for loss, value in losses.items() if "loss" in loss)
            if key == "decode_head":
                size = labels.shape[-2:] if labels is not None else [4 * n for n in features[0].shape[-2:]]
                outputs["pred"] = resize(logits, size, head.align_corners).argmax(1)
    if total.requires_grad:
        total.backward()
    outputs |= {f"grad_x{i}": x.grad for i, x in enumerate(features) if x.grad is not None}
    outputs |= {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return outputs | {f"after.{name}": buffer for name, buffer in model.named_buffers()}


def run_iou(case: Mapping, arrays: Arrays, state: Mapping, draw: Draw) -> dict[str, Tensor]:
    """The metric's results over the maps stored as inputs: ``*pred*``, and the labels ``*gt*`` or ``*label*``."""
    model = case["model"]
    classes = model.get("classes") or range(int(model.get("num_classes") or case["inputs"]["num_classes"]))
    metric = IoUMetric(**{key: value for key, value in model.items() if key not in ("type", "num_classes", "classes")})
    metric.dataset_meta = {"classes": [str(c) for c in classes]}
    inputs = sorted(name for name, text in case["outputs"].items() if text.startswith("INPUT"))
    predicted = [m for name in inputs if "pred" in name for m in _image_maps(arrays[name])]
    labelled = [
        m for name in inputs if re.search("gt|label", name) and "pred" not in name for m in _image_maps(arrays[name])
    ]
    pairs = zip(predicted, labelled, strict=True)
    metric.process({}, [{"pred_sem_seg": {"data": p}, "gt_sem_seg": {"data": g}} for p, g in pairs])
    results = metric.evaluate(len(predicted))
    return {name.rpartition("/")[2]: torch.tensor([value]) for name, value in results.items()}


def read_inputs(specs: Sequence, arrays: Arrays, draw: Draw) -> list[Tensor]:
    """Input tensors: drawn by rule, or stored under the name that ends the text "output.npz <name>"."""
    stored = [arrays[s.split()[1]] if isinstance(s, str) else None for s in specs]
    return [
        draw(s["draw"], s["shape"]) * s.get("scale", 1.0) if x is None else torch.from_numpy(x)
        for s, x in zip(specs, stored, strict=True)
    ]


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load strictly, but for the batch norms' step counters, which the cases leave out."""
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict({**counters, **state}, strict=True)


def translate(args: Mapping[str, Any]) -> dict[str, Any]:
    """Published constructor arguments as ours: drops those at their fixed value, moves the OHEM sampler into the loss.

    Raises:
        ConfigError: an argument with a value we have no counterpart for.
    """
    ours = dict(args)
    sampler = ours.pop("sampler", None)
    if ours["type"] != "FPN":
        ours.setdefault("norm_cfg", None)  # published default
        ours.pop("act_cfg", None) if ours.get("act_cfg") == {"type": "ReLU"} else None
        losses = ours.get("loss_decode", {"type": "CrossEntropyLoss"})
        losses = [losses] if isinstance(losses, Mapping) else losses
        ours["loss_decode"] = [_without_fixed(loss) for loss in losses]
        if sampler:
            ohem = {key: value for key, value in sampler.items() if key != "type"}
            ours["loss_decode"] = [loss | {"ohem": ohem} for loss in ours["loss_decode"]]
    if ours.get("out_channels") == ours.get("num_classes"):
        ours.pop("out_channels", None)
    return _without_fixed(ours)


def _without_fixed(args: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in args.items():
        if name in FIXED and value != FIXED[name] and not (name == "input_transform" and value == "multiple_select"):
            raise ConfigError(f"published argument {name}={value!r} is not supported, only {FIXED[name]!r}")
    return {name: value for name, value in args.items() if name not in FIXED}


def _run_neck(
    model: Mapping, case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw
) -> dict[str, Tensor]:
    strides = [4 * 2**i for i in range(len(model["in_channels"]))]
    wrapper = nn.ModuleDict({"neck": MODELS.build(translate(model) | {"in_strides": strides})}).eval()
    load_state(wrapper, state)
    features = [x.requires_grad_() for x in read_inputs(case["inputs"]["inputs"], arrays, draw)]
    maps = wrapper["neck"](features)
    outputs = {f"out{i}": x for i, x in enumerate(maps)}
    sum((x * draw(f"cotangent.{i}", x.shape)).sum() for i, x in enumerate(maps)).backward()
    outputs |= {f"grad_input{i}": x.grad for i, x in enumerate(features) if x.grad is not None}
    return outputs | {f"grad.{name}": p.grad for name, p in wrapper.named_parameters()}


def _build_seg(config: Mapping) -> nn.ModuleDict:
    """Our parts under the names a whole segmentor gives them."""
    parts = {"decode_head": config} if "type" in config else {k: v for k, v in config.items() if k in (*HEADS, "neck")}
    model = nn.ModuleDict()
    for name, args in parts.items():
        several = isinstance(args, Sequence)
        model[name] = (
            nn.ModuleList(MODELS.build(translate(a)) for a in args) if several else MODELS.build(translate(args))
        )
    return model


def _heads(model: nn.ModuleDict, prefix: str, short: str) -> list[tuple[str, str, Any]]:
    """(prefix of the outputs, key, head) of the heads under `prefix`."""
    if prefix not in model:
        return []
    if isinstance(model[prefix], nn.ModuleList):
        return [(f"{short}_{i}", f"{prefix}.{i}", head) for i, head in enumerate(model[prefix])]
    return [(short, prefix, model[prefix])]


def _run_head(head: Any, maps: Sequence[Tensor], labels: np.ndarray | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and losses from one forward pass (a second one would move the batch norms' buffers again)."""
    seen: list[Tensor] = []
    hook = head.register_forward_hook(lambda module, args, output: seen.append(output))
    losses = {}
    if labels is None:
        head(maps)
    else:
        samples = [DataSample(gt_sem_seg=PixelData(data=torch.from_numpy(m)[None])) for m in labels]
        losses = head.loss(maps, samples)
    hook.remove()
    return seen[0], losses


def mean_std(x: Tensor) -> Tensor:
    return torch.stack([x.mean(), x.std(unbiased=False)])


def _image_maps(array: np.ndarray) -> list[Tensor]:
    """One stored map (H, W), or a stack of them (N, H, W), as tensors (1, H, W)."""
    stack = array[None] if array.ndim == 2 else array
    return [torch.from_numpy(m.astype(np.int64))[None] for m in stack]


ADAPTERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "FPN": run_fpn,
    "FPNHead": run_seg,
    "UPerHead": run_seg,
    "FCNHead": run_seg,
    "IoUMetric": run_iou,
}
