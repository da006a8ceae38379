"""SAG-ViT checkpoints of github.com/shravan-18/SAG-ViT, such as ``SAG-ViT_GTSRB.pth`` or ``model.safetensors``."""

import re
from collections.abc import Mapping

from torch import Tensor

from visionpatch.converters.efficientnet_v2 import feature_name
from visionpatch.errors import WeightsError

TRUNK = "cnn.extractor."
PLACES = {
    "positional_embedding": "backbone.position",
    "extra_embedding": "backbone.extra",
    "gcn.conv1.att_src": "backbone.gat.source",
    "gcn.conv1.att_dst": "backbone.gat.target",
    "gcn.conv1.bias": "backbone.gat.bias",
    "gcn.conv1.lin.weight": "backbone.gat.proj.weight",
    "gcn.conv1.lin_src.weight": "backbone.gat.proj.weight",  # as torch-geometric called it before version 2.5
    "gcn.conv2.bias": "backbone.gcn.bias",
    "gcn.conv2.lin.weight": "backbone.gcn.proj.weight",
    **{f"mlp.mlp.{layer}.{leaf}": f"head.fc.{layer}.{leaf}" for layer in (0, 2) for leaf in ("weight", "bias")},
}
# shapes that differ by axes of size 1: (1, 1, D), (1, D), (1, heads, C)
VECTORS = {"positional_embedding": 1, "extra_embedding": 1, "gcn.conv1.att_src": 2, "gcn.conv1.att_dst": 2}
LAYER = re.compile(r"transformer_encoder\.transformer_encoder\.layers\.(\d+)\.([\w.]+)")
ENCODER = {
    "self_attn.in_proj_": "qkv.",
    "self_attn.out_proj.": "proj.",
    "linear1.": "fc1.",
    "linear2.": "fc2.",
    "norm1.": "norm1.",
    "norm2.": "norm2.",
}


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published state dict -> that of ``Classifier(SAGViT(out_indices=(3,), ...), MLPClsHead)``.

    The published function is that of ``SAGViT(**visionpatch.backbones.sag_vit.PUBLISHED)``.

    Raises:
        WeightsError: a name that no published file has.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {_renamed(name): _reshaped(name, tensor) for name, tensor in state.items()}


def _renamed(name: str) -> str:
    if name in PLACES:
        return PLACES[name]
    if name.startswith(TRUNK):
        found = feature_name(name.removeprefix(TRUNK))
        if found is not None and not found.startswith(("head_conv.", "stages.3.")):
            return f"backbone.trunk.{found}"
    if match := LAYER.fullmatch(name):
        for theirs, ours in ENCODER.items():
            if match[2] in (f"{theirs}weight", f"{theirs}bias"):
                return f"backbone.encoder.{match[1]}.{match[2].replace(theirs, ours)}"
    raise WeightsError(f'"{name}" is not a tensor of a published SAG-ViT checkpoint; nothing was converted')


def _reshaped(name: str, tensor: Tensor) -> Tensor:
    return tensor.reshape(tensor.shape[-VECTORS[name] :]) if name in VECTORS else tensor
