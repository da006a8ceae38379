"""Adapters of the published SCCAN classes: the whole network, its attention blocks, its backbone."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionpatch.backbones.resnet import ResNet
from visionpatch.converters.sccan import convert, convert_transformer
from visionpatch.errors import ConfigError
from visionpatch.heads.sccan import SCCANHead
from visionpatch.layers.scca import PatchAlignment, SCCATransformer
from visionpatch.losses import DiceLoss
from visionpatch.models.few_shot_segmentor import FewShotSegmentor

Arrays = Mapping[str, np.ndarray]
Draw = Callable[[str, Any], Tensor]
# arguments of the published attention network that no published model sets otherwise
FIXED: dict[str, Any] = dict(qkv_bias=True, qk_scale=None, drop_rate=0.0, attn_drop_rate=0.0, drop_path_rate=0.0,
                             patch_norm=True, ape=False, use_checkpoint=False, frozen_stages=-1)  # fmt: skip
DILATED = dict(deep_stem=True, stem_channels=128, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True)


def run_model(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """Logits, loss and all intermediate maps of `OneModel`."""
    depth = 1 + max(int(name.split(".")[4]) for name in state if name.startswith("transformer.layers.0.blocks."))
    high = dict(out_indices=(1, 2, 3), frozen_stages=4, **DILATED)
    model = FewShotSegmentor(ResNet(int(case["model"]["layers"]), **high), SCCANHead(depth=depth)).eval()
    load(model, convert(state))
    head, inputs = model.decode_head, case["inputs"]
    query, shots = (cells(inputs[name], inputs["x"], draw) for name in ("x", "s_x"))  # (B, 3, H, W), (B, K, 3, H, W)
    masks, labels = rectangles(inputs["s_y"]), rectangles(inputs["y_m"]).long()
    seen, handles = watch(head)
    with torch.no_grad():
        support = [model.encode_support(*pair) for pair in zip(shots, masks, strict=True)]
        features = model.extract_features(query)
        size = [int((side - 1) / 8 * case["model"].get("zoom_factor", 8) + 1) for side in query.shape[-2:]]
        logits = head(features, support, size)
        outputs = seen | {"logits": logits, "pred": logits.argmax(1)}
        if logits.shape[-2:] == labels.shape[-2:]:
            loss = DiceLoss(per_class=True, ignored_count=True, eps=5e-9)
            outputs["dice_loss"] = loss(logits, labels, case["model"].get("ignore_label", 255))
    for handle in handles:
        handle.remove()
    return with_statistics(outputs)


def run_blocks(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """Tokens, patch choices and gradients of `SwinTransformer`."""
    args = case["model"]
    for name, expected in FIXED.items():
        if args.get(name, expected) != expected:
            raise ConfigError(f"published argument {name} = {args[name]!r} is not supported; expected {expected!r}")
    if len(args["depths"]) != 1:
        raise ConfigError(f"published argument depths = {args['depths']}; the published SCCAN has one stage")
    model = SCCATransformer(
        args["embed_dim"], args["depths"][0], args["num_heads"][0], args["window_size"], args.get("mlp_ratio", 4.0)
    ).eval()
    load(model, convert_transformer(state))
    query, support = (coarse_and_fine(case["inputs"][name], draw).requires_grad_() for name in ("q", "s"))
    mask = rectangles(case["inputs"]["s_mask"]).float()
    seen, handles = watch(model)
    tokens, other = model(
        query.permute(0, 2, 3, 1), support.permute(0, 2, 3, 1), mask[:, 0], torch.arange(len(query)), with_support=True
    )
    for handle in handles:
        handle.remove()
    result = tokens.permute(0, 3, 1, 2)
    (result * draw("cotangent", result.shape)).sum().backward()
    outputs = {name: value for name, value in seen.items() if name.startswith("pam")}
    outputs |= {"query": result, "support": other.flatten(1, 2), "grad_q": query.grad, "grad_s": support.grad}
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    outputs |= {f"grad.{theirs}": grads[ours] for ours, theirs in zip(convert_transformer(state), state, strict=True)}
    return with_statistics({name: value for name, value in outputs.items() if value is not None})


def run_backbone(case: Mapping, arrays: Arrays, state: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
    """The four stages of `Backbone`."""
    args = case["model"]
    dilated = args.get("dilation", [False, True, True])
    dilations, strides, rate = [1], [1], 1
    for one in dilated:
        rate *= 2 if one else 1
        dilations.append(rate)
        strides.append(1 if one else 2)
    depth = int(args["name"].removeprefix("resnet"))
    model = ResNet(depth, **{**DILATED, "dilations": dilations, "strides": strides}).eval()
    load(model, {name.removeprefix("backbone."): x for name, x in convert(with_prefix(state)).items()})
    with torch.no_grad():
        maps = model(draw(case["inputs"]["x"]["draw"], case["inputs"]["x"]["shape"]))
    return with_statistics({f"layer{i + 1}": x for i, x in enumerate(maps)})


def with_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"backbone.{name}": tensor for name, tensor in state.items()}


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load strictly; frozen batch norms count no batches."""
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict({**counters, **state}, strict=True)


def watch(model: nn.Module) -> tuple[dict[str, Tensor], list]:
    """A dict that fills with intermediate results while `model` runs, and the hooks that do it."""
    seen: dict[str, Tensor] = {}
    handles = []

    def keep(name: str, module: nn.Module, pick: Callable[[tuple, Any], Tensor]) -> None:
        handles.append(module.register_forward_hook(lambda _, args, output: seen.update({name: pick(args, output)})))

    aligned = [module for module in model.modules() if isinstance(module, PatchAlignment)]
    for index, module in enumerate(aligned):
        keep(f"pam_{index}", module, lambda args, output: output)
    if isinstance(model, SCCANHead):
        keep("prior", model.merge_query, lambda args, output: args[2])
        keep("query_0", model.merge_query, lambda args, output: output)
        keep("supp_0", model.merge_support, lambda args, output: output)
        keep(f"query_{len(aligned)}", model.transformer.norm, lambda args, output: output.permute(0, 3, 1, 2))
    return seen, handles


def cells(spec: Mapping, first: Mapping, draw: Draw) -> Tensor:
    """A drawn picture whose cells are repeated and cut to the size and scale its text, or that of `first`, tells."""
    x, text = draw(spec["draw"], spec["shape"]), spec.get("then", "")
    text = first.get("then", "") if text.startswith("as ") else text
    shape = re.search(r"\[([\d, ]+)\]", text)
    times, scale = re.search(r"repeated (\d+) times", text), re.search(r"times (\d+(?:\.\d+)?)\b(?! times)", text)
    if times:
        x = x.repeat_interleave(int(times[1]), -1).repeat_interleave(int(times[1]), -2)
    if shape:
        height, width = (int(side) for side in shape[1].split(",")[-2:])
        x = x[..., :height, :width]
    return x * (float(scale[1]) if scale else spec.get("scale", 1.0))


def coarse_and_fine(spec: Mapping, draw: Draw) -> Tensor:
    """The sum of two drawn maps, the first one's cells repeated to the size of the second."""
    if isinstance(spec["draw"], str):
        return draw(spec["draw"], spec["shape"])
    coarse, fine = (draw(name, shape) for name, shape in zip(spec["draw"], spec["shape"], strict=True))
    for axis in (-2, -1):
        coarse = coarse.repeat_interleave(-(-fine.shape[axis] // coarse.shape[axis]), axis)
    return coarse[..., : fine.shape[-2], : fine.shape[-1]] + fine


def rectangles(spec: Mapping) -> Tensor:
    """A label map of zeros with rectangles [index..., y0, x0, y1, x1(, value)], as described in order."""
    labels = torch.zeros(spec["shape"])
    for text, boxes in spec.items():
        if not isinstance(boxes, list) or text == "shape":
            continue
        named, value = "value" in text, 255.0 if "255" in text else 1.0
        for box in boxes:
            *box, value = box if named else (*box, value)
            *index, y0, x0, y1, x1 = (int(number) for number in box)
            labels[tuple(index)][..., y0:y1, x0:x1] = value
    return labels


def with_statistics(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = dict(outputs)
    for name, x in outputs.items():
        if x.is_floating_point() and x.numel() > 1:
            found |= {f"{name}_mean": x.mean(), f"{name}_std": x.std()}
    return found


ADAPTERS = {"OneModel": run_model, "SwinTransformer": run_blocks, "Backbone": run_backbone}
