"""LPIPS weights on VGG16, as published in ``vgg.pth``."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from visionpatch.errors import WeightsError

# number of the first convolution of each slice among the layers of VGG16, and how many there are; they lie two apart
SLICES = {1: (0, 2), 2: (5, 2), 3: (10, 3), 4: (17, 3), 5: (24, 3)}
CONV = re.compile(r"(?:net\.slice([1-5])|features)\.(\d+)\.(weight|bias)")
LIN = re.compile(r"lin([0-4])\.model\.1\.weight")
CONSTANTS = ("scaling_layer.shift", "scaling_layer.scale")


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published names, or torchvision's of VGG16, -> those of `LPIPS`. The constant scaling is dropped.

    Raises:
        WeightsError: a name that no such file has.
    """
    kept = {n: t for n, t in state.items() if n not in CONSTANTS and not n.startswith("classifier.")}
    return {_renamed(name): t.flatten() if LIN.fullmatch(name) else t for name, t in kept.items()}


def read_lpips(checkpoint: str, vgg: str | None = None) -> dict[str, Tensor]:
    """All weights of `LPIPS`, of the file `checkpoint` and, where it holds the ``lin`` weights alone, of `vgg`.

    Raises:
        WeightsError: a file cannot be read, is none of LPIPS, or weights are missing.
    """
    state = {} if vgg is None else convert(_read(vgg))
    state |= convert(_read(checkpoint))
    wanted = {_renamed(f"lin{i}.model.1.weight") for i in range(5)}
    wanted |= {
        f"slices.{i - 1}.{j}.{leaf}" for i, (_, n) in SLICES.items() for j in range(n) for leaf in ("weight", "bias")
    }
    if missing := wanted - set(state):
        hint = "" if vgg else "; it holds no network: give vgg, the ImageNet weights of torchvision's VGG16"
        raise WeightsError(f"{checkpoint}: lacks {len(missing)} of {len(wanted)} weights of LPIPS{hint}")
    return state


def _read(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such file; expected the LPIPS weights vgg.pth or those of VGG16")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each kind of damage has its own class
        raise WeightsError(f"{path}: cannot be read as weights ({type(error).__name__})") from error


def _renamed(name: str) -> str:
    if match := LIN.fullmatch(name):
        return f"lin.{match[1]}"
    if match := CONV.fullmatch(name):
        layer = int(match[2])
        for number, (first, count) in SLICES.items():
            index = (layer - first) // 2
            if (layer - first) % 2 == 0 and 0 <= index < count and match[1] in (None, str(number)):
                return f"slices.{number - 1}.{index}.{match[3]}"
    raise WeightsError(f'"{name}" is not a tensor of the LPIPS file or of VGG16; nothing was converted')
