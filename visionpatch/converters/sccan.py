"""SCCAN checkpoints of github.com/Sam1224/SCCAN, and the ImageNet weights of its deep-stem ResNets.

Names of the published network, behind ``module.`` where it was trained on several GPUs: ``backbone.body.*`` with three
convolutions before the stages, the head's parts at the top level, ``transformer.layers.0.blocks.*``. The ImageNet files
(``resnet50_v2.pth``, ``resnet101_v2.pth``) hold the bare backbone and a classifier, which is dropped.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from visionpatch.errors import WeightsError

LEAF = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
STEM = re.compile(rf"(conv|bn)([123])({LEAF})")
STAGE = re.compile(rf"layer[1-4]\.\d+\.((conv|bn)[123]|downsample\.[01]){LEAF}")
BLOCK = re.compile(r"layers\.0\.blocks\.(\d+)\.(norm[12]|(attn|mlp)_([qs])\.(q|kv|proj|fc1|fc2))(\.(?:weight|bias))")
PARTS = {
    "down_query.0": "reduce_query",
    "down_supp.0": "reduce_support",
    "init_merge_query.0": "merge_query",
    "init_merge_supp.0": "merge_support",
    "res1_meta.0": "decoder.fuse",
    "res2_meta.0": "decoder.residual.0",
    "res2_meta.2": "decoder.residual.2",
    "cls_meta.0": "decoder.classify.0",
    "cls_meta.3": "decoder.classify.3",
    **{f"ASPP_meta.layer6_{i}.0": f"decoder.aspp.{i}" for i in range(5)},
}
SIDES = {"q": "query", "s": "support"}


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the tensors of a published checkpoint: ``backbone.*`` and ``decode_head.*``.

    Args:
        state: the published state dict, or that of an ImageNet file.

    Returns:
        A state dict for ``FewShotSegmentor(ResNet, SCCANHead)``. The published batch norms are frozen and count no
        batches; where the file has no ``num_batches_tracked``, neither has the result.

    Raises:
        WeightsError: a name that no published file has.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    whole = any(name.startswith("backbone.body.") for name in state)
    kept = {name: tensor for name, tensor in state.items() if whole or name not in ("fc.weight", "fc.bias")}
    return {_renamed(name, whole): tensor for name, tensor in kept.items()}


def convert_transformer(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for the published attention network alone, ``layers.0.blocks.*`` and ``norm0.*``."""
    return {_transformer(name, name): tensor for name, tensor in state.items()}


def _renamed(name: str, whole: bool) -> str:
    body = name.removeprefix("backbone.body.") if whole else name
    if body != name or not whole:
        return f"backbone.{_backbone(body, name)}"
    if name.startswith("transformer."):
        return f"decode_head.transformer.{_transformer(name.removeprefix('transformer.'), name)}"
    parent, _, leaf = name.rpartition(".")
    if parent not in PARTS or leaf not in ("weight", "bias"):
        raise _unknown(name)
    return f"decode_head.{PARTS[parent]}.{leaf}"


def _backbone(body: str, name: str) -> str:
    if match := STEM.fullmatch(body):
        kind, number, leaf = match[1], int(match[2]), match[3]
        return f"stem.{3 * (number - 1) + (kind == 'bn')}{leaf}"
    if not STAGE.fullmatch(body):
        raise _unknown(name)
    return body


def _transformer(body: str, name: str) -> str:
    if body in ("norm0.weight", "norm0.bias"):
        return body.replace("norm0", "norm")
    match = BLOCK.fullmatch(body)
    if match is None:
        raise _unknown(name)
    block, part, kind, side, layer, leaf = match.groups()
    if kind:
        part = f"{SIDES[side]}_{kind}.{layer}"
    return f"blocks.{block}.{part}{leaf}"


def _unknown(name: str) -> WeightsError:
    return WeightsError(f'"{name}" is not a tensor of a published SCCAN checkpoint; nothing was converted')
