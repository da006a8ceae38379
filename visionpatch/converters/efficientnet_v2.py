"""EfficientNetV2-S weights named as torchvision names them, such as ``efficientnet_v2_s-dd5fe13b.pth``."""

import re
from collections.abc import Mapping

from torch import Tensor

from visionpatch.errors import WeightsError

# torchvision's child of `features` -> (our stage, its first block there, kind of block)
CHILDREN = {
    1: (0, 0, "single"),
    2: (0, 2, "fused"),
    3: (1, 0, "fused"),
    4: (2, 0, "full"),
    5: (2, 6, "full"),
    6: (3, 0, "full"),
}
PARTS = {
    "single": {"0": "expand"},
    "fused": {"0": "expand", "1": "project"},
    "full": {"0": "expand", "1": "depthwise", "2": "excite", "3": "project"},
}
LEAVES = {
    "0": {"weight": "conv.weight"},
    "1": {n: f"norm.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")},
    "fc1": {"weight": "fc1.weight", "bias": "fc1.bias"},
    "fc2": {"weight": "fc2.weight", "bias": "fc2.bias"},
}
ENDS = {"0": "stem", "7": "head_conv"}
BLOCK = re.compile(r"(\d+)\.(\d+)\.block\.(\d)\.(\w+)\.(\w+)")
END = re.compile(r"([07])\.([01])\.(\w+)")
CLASSIFIER = {"classifier.1.weight": "head.fc.weight", "classifier.1.bias": "head.fc.bias"}


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a whole classifier or of its features -> that of ``Classifier(EfficientNetV2, LinearClsHead)``.

    Keys become ``backbone.*`` and ``head.fc.*``. Raises WeightsError naming the first key that has no place.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {_renamed(name): tensor for name, tensor in state.items()}


def feature_name(name: str) -> str | None:
    """Our name, without a prefix, of a tensor that torchvision calls ``features.<name>``; None: there is no such."""
    if match := END.fullmatch(name):
        child, layer, leaf = match.groups()
        found = LEAVES[layer].get(leaf)
        return found and f"{ENDS[child]}.{found}"
    match = BLOCK.fullmatch(name)
    if match is None or int(match[1]) not in CHILDREN:
        return None
    stage, first, kind = CHILDREN[int(match[1])]
    part, found = PARTS[kind].get(match[3], ""), LEAVES.get(match[4], {}).get(match[5])
    if not part or not found or (part == "excite") != match[4].startswith("fc"):
        return None
    return f"stages.{stage}.{first + int(match[2])}.{part}.{found}"


def _renamed(name: str) -> str:
    found = feature_name(name.removeprefix("features.")) if name.startswith("features.") else None
    if found is not None:
        return f"backbone.{found}"
    if name not in CLASSIFIER:
        raise WeightsError(f'"{name}" is not a tensor of torchvision\'s EfficientNetV2-S; nothing was converted')
    return CLASSIFIER[name]
