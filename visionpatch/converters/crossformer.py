"""CrossFormer and CrossFormer++ checkpoints of github.com/cheerss/CrossFormer.

Classification files name the backbone without a prefix and the classifier `head`; detection and segmentation files are
those of OpenMMLab's codebases, with `backbone.` and the neck's and heads' own prefixes, which are ours as well. The
first release also stored two index tables a block that follow from the group size; they are dropped.
"""

import math
import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from visionpatch.errors import ConfigError, WeightsError, nearest

DERIVED = re.compile(r"attn\.(biases|relative_position_index)$")
AFFINE = r"\.(weight|bias)$"
BACKBONE = re.compile(
    r"(patch_embed\.(projs\.\d+|norm)"
    r"|layers\.\d+\.downsample\.(norm|reductions\.\d+)"
    r"|layers\.\d+\.blocks\.\d+\.(norm[12]|attn\.(qkv|proj|pos\.pos_proj|pos\.pos[123]\.[02])|mlp\.fc[12]|ex_conv|ex_ln)"
    r"|norm)" + AFFINE
)
CLASSIFIER = re.compile(r"head" + AFFINE)
DENSE = re.compile(r"(neck|decode_head|auxiliary_head|bbox_head|rpn_head|roi_head)\.")


def convert(state: Mapping[str, Tensor], classification: bool | None = None) -> dict[str, Tensor]:
    """Our names for the tensors of a published checkpoint.

    Args:
        state: the published state dict (`model` of a classification file, `state_dict` of a dense one, or a bare one).
        classification: whether backbone names carry no prefix; None: seen from the names.

    Returns:
        `backbone.*`, and `head.fc.*` of a classifier or the neck and heads of a dense model.

    Raises:
        WeightsError: a name that no published CrossFormer has.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if classification is None:
        classification = not any(name.startswith("backbone.") for name in state)
    converted = {}
    for name, tensor in state.items():
        if not DERIVED.search(name):
            converted[_rename(name, classification)] = tensor
    return converted


def _rename(name: str, classification: bool) -> str:
    if classification and CLASSIFIER.match(name):
        return name.replace("head.", "head.fc.")
    bare = name if classification else name.removeprefix("backbone.")
    if BACKBONE.match(bare) and (classification or bare != name):
        return f"backbone.{bare}"
    if not classification and DENSE.match(name):
        return name
    raise WeightsError(f'"{name}" is not a tensor of a published CrossFormer checkpoint; nothing was converted')


def progressive_group_sizes(kind: str, side: int, depths: Sequence[int], group_sizes: Sequence[int]) -> list[list[int]]:
    """Group sizes a block that grow with depth (CrossFormer++, section 3.2), as `group_sizes` of `CrossFormer`.

    Args:
        kind: "constant", "linear", "linear_div", "alter" or "7_14", the published names.
        side: nominal side of the first stage's token map, image side / 4.
        depths: blocks of each stage.
        group_sizes: of each stage, for "constant" and "7_14".
    """
    rules = {"constant", "linear", "linear_div", "alter", "7_14"}
    if kind not in rules:
        raise ConfigError(f'group type "{kind}"{nearest(kind, rules)}')
    sizes: list[list[int]] = []
    for stage, depth in enumerate(depths):
        first = sum(depths[:stage])
        if kind in ("constant", "7_14"):
            halved = min(4, depth) if kind == "7_14" and stage == 2 else 0
            sizes.append([group_sizes[stage] // 2] * halved + [group_sizes[stage]] * (depth - halved))
        else:
            sizes.append([_grown(kind, side, stage, first + b, sum(depths)) for b in range(depth)])
    return sizes


def _grown(kind: str, side: int, stage: int, block: int, total: int) -> int:
    start = 4 / side
    here = side // 2**stage
    size = here * (start + block * ((1 - start) / total))
    if kind != "linear" and size > here // 2:
        whole = stage != 2 or (size > here * 3 / 4 if kind == "linear_div" else block % 2 == 1)
        size = here if whole else here // 2
    return max(4, math.ceil(size))
