"""Adapters of mmcv's ops.

The `model` of a case is one call's arguments, or several calls' by name; the names begin those of the outputs. Tensors
are stored (also under a call's name), drawn, or written as an expression of draws.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionpatch import ops

Arrays = Mapping[str, np.ndarray]
Draw = Callable[[str, Sequence[int]], Tensor]
Call = Callable[[dict[str, Any], "Inputs"], dict[str, Tensor]]

MAIN = ("", "out", "output", "result", "loss")  # names of an op's only output
OTHER_NAMES = {  # of inputs
    "input": ("x", "feature", "logits", "pred", "map"),
    "idxs": ("ids", "labels", "classes", "groups"),
    "target": ("targets", "labels"),
    "value_spatial_shapes": ("spatial_shapes", "shapes"),
}
FUNCTIONS: dict[str, Callable] = {"sigmoid": torch.sigmoid, "abs": torch.abs, "exp": torch.exp, "sqrt": torch.sqrt}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


class Inputs:
    """The tensors of one call by name; those that were asked for as leaves can be differentiated."""

    def __init__(self, call: str, case: Mapping, arrays: Arrays, state: Mapping, draw: Draw) -> None:
        self.call, self.arrays, self.draw = call, arrays, draw
        own = case["inputs"].get(call)
        self.specs = {**case["inputs"], **(own if isinstance(own, Mapping) and "draw" not in own else {})}
        self.state = state.get(call, state) if call else state
        self.leaves: dict[str, Tensor] = {}

    def leaf(self, name: str) -> Tensor:
        """A floating-point input that takes gradients."""
        self.leaves[name] = self[name].requires_grad_()
        return self.leaves[name]

    def get(self, name: str) -> Tensor | None:
        """The tensor, or None where the case has none of that name."""
        for word in (name, *OTHER_NAMES.get(name, ())):
            keys = (f"{self.call}_{word}", f"{word}_{self.call}", f"{self.call}.{word}", word)
            for key in keys:
                if key in self.arrays:
                    return torch.from_numpy(self.arrays[key])
            for key in keys:
                if key in self.specs:
                    return self._made(self.specs[key])
            if isinstance(self.state.get(word), Tensor):
                return self.state[word]
        return None

    def __getitem__(self, name: str) -> Tensor:
        found = self.get(name)
        if found is None:
            raise LookupError(f"no input {name} in the case")
        return found

    def _made(self, spec: Any) -> Tensor:
        if isinstance(spec, Mapping):
            return self.draw(spec["draw"], spec["shape"]) * spec.get("scale", 1.0)
        if not isinstance(spec, str):
            return torch.tensor(spec)
        for part in (spec, *re.split(r"[:;]", spec)):
            text = re.sub(r"\|([^|]*)\|", r"abs(\1)", part.strip())
            try:
                return torch.as_tensor(self._evaluate(ast.parse(text, mode="eval").body))
            except (SyntaxError, LookupError, TypeError, ValueError):
                continue
        raise LookupError(f"no tensor can be made from: {spec}")

    def _evaluate(self, node: ast.expr) -> Any:
        """The value of an arithmetic expression of draws, functions of FUNCTIONS and other inputs."""
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](self._evaluate(node.left), self._evaluate(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._evaluate(node.operand)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            args = [self._evaluate(arg) for arg in node.args]
            return self.draw(*args) if node.func.id == "draw" else FUNCTIONS[node.func.id](*args)
        return self[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)


def adapter(call: Call) -> Callable[[Mapping, Arrays, Mapping, Draw], dict[str, Tensor]]:
    """The adapter that makes each call of a case and names its outputs and gradients as the case does."""

    def run(case: Mapping, arrays: Arrays, state: Mapping, draw: Draw) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, arguments in _calls(case["model"]):
            inputs = Inputs(name, case, arrays, state, draw)
            results = call({**arguments, "_case": case, "_name": name}, inputs)
            wanted = [key for key in arrays if key.startswith(name) and key not in found]
            found |= {key: x for key in wanted if (x := _output(key, name, results, inputs, case)) is not None}
        return found

    return run


def _calls(model: Mapping) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, arguments) of each call, longer names first: "a_b" is not taken for an output of "a"."""
    several = model and all(isinstance(arguments, Mapping) for arguments in model.values()) and "nms_cfg" not in model
    for name in sorted(model, key=len, reverse=True) if several else [""]:
        yield name, dict(model[name] if several else model)


def _output(key: str, name: str, results: Mapping[str, Tensor], inputs: Inputs, case: Mapping) -> Tensor | None:
    rest = key[len(name) :].strip("._")
    if not rest.startswith("grad"):
        return results.get(rest, results[""] if rest in MAIN and "" in results else None)
    leaf = rest[4:].strip("._") or next(iter(inputs.leaves))
    main = results[""]
    if leaf not in inputs.leaves:
        named = {alias: leaf for leaf, aliases in OTHER_NAMES.items() for alias in aliases}
        leaf = named.get(leaf, leaf)
    texts = [text for pattern, text in case["outputs"].items() if pattern in (key, rest)] + [case.get("notes", "")]
    drawn = re.search(r'draw\(["\']([^"\']*cotangent[^"\']*)["\']', " ".join(texts))
    plain = main.ndim == 0 or (not drawn and re.search(r"gradient of (the sum of|out\w*\.sum\()", " ".join(texts)))
    weight = torch.ones(()) if plain else inputs.draw(drawn[1] if drawn else "cotangent", main.shape)
    return torch.autograd.grad((main * weight).sum(), inputs.leaves[leaf], retain_graph=True, allow_unused=True)[0]


def _plain(arguments: Mapping, *dropped: str) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if not key.startswith("_") and key not in dropped}


def call_nms(arguments: dict[str, Any], inputs: Inputs) -> dict[str, Tensor]:
    dets, keep = ops.nms(inputs["boxes"], inputs["scores"], **_plain(arguments))
    return {"dets": dets, "inds": keep, "keep": keep}


def call_batched_nms(arguments: dict[str, Any], inputs: Inputs) -> dict[str, Tensor]:
    """The arguments of `nms_cfg` may stand beside `class_agnostic`."""
    kept = {key: arguments[key] for key in ("nms_cfg", "class_agnostic") if key in arguments}
    kept.setdefault("nms_cfg", _plain(arguments, "class_agnostic"))
    dets, keep = ops.batched_nms(inputs["boxes"], inputs["scores"], inputs["idxs"], **kept)
    return {"dets": dets, "inds": keep, "keep": keep}


def call_soft_nms(arguments: dict[str, Any], inputs: Inputs) -> dict[str, Tensor]:
    dets, keep = ops.soft_nms(inputs["boxes"], inputs["scores"], **_plain(arguments))
    return {"dets": dets, "inds": keep, "keep": keep}


def call_roi_align(arguments: dict[str, Any], inputs: Inputs) -> dict[str, Tensor]:
    return {"": ops.roi_align(inputs.leaf("input"), inputs["rois"], **_plain(arguments, "use_torchvision"))}


def call_deform_conv(arguments: dict[str, Any], inputs: Inputs) -> dict[str, Tensor]:
    modulated = inputs.get("mask") is not None
    tensors = [inputs.leaf(name) for name in ("input", "offset", *(["mask"] if modulated else []), "weight")]
    fitting = _plain(arguments, "in_channels", "out_channels", "kernel_size", "bias")
    if not modulated:
        return {"": ops.deform_conv2d(*tensors, **fitting)}
    biased = arguments.get("bias", True) and inputs.get("bias") is not None
    return {"": ops.modulated_deform_conv2d(*tensors, inputs.leaf("bias") if biased else None, **fitting)}


def call_point_sample(arguments: dict[str, Any], inputs: Inputs) -> dict[str, Tensor]:
    return {"": ops.point_sample(inputs.leaf("input"), inputs.leaf("points"), **_plain(arguments))}


def call_focal_loss(arguments: dict[str, Any], inputs: Inputs) -> dict[str, Tensor]:
    """mmdet's form: unreduced without `reduction`; `weight` per sample, where the case says so; `avg_factor`."""
    case, name = arguments["_case"], arguments["_name"]
    options = {key: arguments[key] for key in ("gamma", "alpha") if key in arguments}
    loss = ops.sigmoid_focal_loss(inputs.leaf("input"), inputs["target"], **options, reduction="none")
    if "weight" in name or "weight" in case["outputs"].get(name, ""):
        loss = loss * inputs["weight"].view(-1, *[1] * (loss.ndim - 1))
    if arguments.get("reduction", "none") != "none":
        mean = arguments["reduction"] == "mean"
        loss = loss.sum() / (arguments.get("avg_factor") or (loss.numel() if mean else 1))
    return {"": loss}


def run_focal_loss(case: Mapping, arrays: Arrays, state: Mapping, draw: Draw) -> dict[str, Tensor]:
    """`call_focal_loss`, and the losses of the logits listed as "extreme", all of them positive and all negative."""
    found = adapter(call_focal_loss)(case, arrays, state, draw)
    text = str(case["inputs"].get("extreme", ""))
    if logits := re.search(r"\[\[.*?\]\]", text):
        column = torch.tensor(ast.literal_eval(logits[0]), dtype=torch.float32).view(-1, 1)
        options = {key: float(m[1]) for key in ("gamma", "alpha") if (m := re.search(rf"{key} ([\d.]+\d|\d)", text))}
        for kind, target in (("positive", 0), ("negative", 1)):
            targets = torch.full((len(column),), target)
            found[f"extreme_{kind}"] = ops.sigmoid_focal_loss(column, targets, **options, reduction="none").view(1, -1)
    return found


class DeformableAttention(nn.Module):
    """The published module around `multi_scale_deformable_attn`, in evaluation mode and batch first.

    Letters: B batch, Q queries, N values, C channels, M heads, L levels, P points.
    """

    def __init__(self, embed_dims: int, num_heads: int, num_levels: int, num_points: int, value_dims: int) -> None:
        super().__init__()
        self.layout = (num_heads, num_levels, num_points)
        points = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, points * 2)
        self.attention_weights = nn.Linear(embed_dims, points)
        self.value_proj = nn.Linear(embed_dims, value_dims)
        self.output_proj = nn.Linear(value_dims, embed_dims)

    def forward(
        self, query: Tensor, value: Tensor, reference: Tensor, shapes: Tensor, padding: Tensor | None
    ) -> Tensor:
        """(B, Q, C), (B, N, C), points (B, Q, L, 2) or boxes (B, Q, L, 4), (L, 2), True where padded (B, N)."""
        value = self.value_proj(value)
        if padding is not None:
            value = value.masked_fill(padding[..., None], 0.0)
        offsets = self.sampling_offsets(query).unflatten(-1, (*self.layout, 2))  # (B, Q, M, L, P, 2)
        weights = self.attention_weights(query).unflatten(-1, (self.layout[0], -1)).softmax(-1)
        centre = reference[:, :, None, :, None, :2]
        if reference.shape[-1] == 2:
            locations = centre + offsets / shapes.flip(1)[None, None, None, :, None]
        else:
            locations = centre + offsets / self.layout[2] * reference[:, :, None, :, None, 2:] * 0.5
        values = value.unflatten(-1, (self.layout[0], -1))  # (B, N, M, C / M)
        weights = weights.unflatten(-1, self.layout[1:])
        return self.output_proj(ops.multi_scale_deformable_attn(values, shapes, locations, weights))


def call_deformable_attention(arguments: dict[str, Any], inputs: Inputs) -> dict[str, Tensor]:
    """The module with the published defaults; the bare function where the case gives sampling locations."""
    if inputs.get("sampling_locations") is not None:
        tensors = [inputs.leaf(name) for name in ("value", "sampling_locations", "attention_weights")]
        return {"": ops.multi_scale_deformable_attn(tensors[0], inputs["value_spatial_shapes"].long(), *tensors[1:])}
    dims = arguments.get("embed_dims", 256)
    layout = [arguments.get(key, default) for key, default in (("num_heads", 8), ("num_levels", 4), ("num_points", 4))]
    module = DeformableAttention(dims, *layout, int(dims * arguments.get("value_proj_ratio", 1.0)))
    parts = "|".join(name for name, _ in module.named_children())
    state = {re.sub(rf"^.*?(?=({parts})\.)", "", name): value for name, value in inputs.state.items()}
    module.load_state_dict(state, strict=True)
    inputs.leaves |= dict(module.named_parameters())
    query = inputs.leaf("query")
    value = inputs.leaf("value") if inputs.get("value") is not None else query
    identity = inputs.leaf("identity") if inputs.get("identity") is not None else query
    position, padding = inputs.get("query_pos"), inputs.get("key_padding_mask")
    queries = query if position is None else query + inputs.leaf("query_pos")
    if not arguments.get("batch_first", False):
        queries, value = queries.transpose(0, 1), value.transpose(0, 1)
    output = module(
        queries,
        value,
        inputs.leaf("reference_points"),
        inputs["value_spatial_shapes"].long(),
        None if padding is None else padding.bool(),
    )
    return {"": (output if arguments.get("batch_first", False) else output.transpose(0, 1)) + identity}


ADAPTERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "nms": adapter(call_nms),
    "batched_nms": adapter(call_batched_nms),
    "soft_nms": adapter(call_soft_nms),
    "roi_align": adapter(call_roi_align),
    "deform_conv2d": adapter(call_deform_conv),
    "DeformConv2d": adapter(call_deform_conv),
    "modulated_deform_conv2d": adapter(call_deform_conv),
    "ModulatedDeformConv2d": adapter(call_deform_conv),
    "MultiScaleDeformableAttention": adapter(call_deformable_attention),
    "multi_scale_deformable_attn_pytorch": adapter(call_deformable_attention),
    "point_sample": adapter(call_point_sample),
    "sigmoid_focal_loss": run_focal_loss,
    "py_sigmoid_focal_loss": run_focal_loss,
}
