"""The Inception weights of the Frechet Inception distance, as published for PyTorch. Names are kept.

Source: the file ``pt_inception-2015-12-05-6726825d.pth`` of github.com/mseitzer/pytorch-fid, a state dict.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from visionpatch.errors import WeightsError, nearest

FILE = "pt_inception-2015-12-05-6726825d.pth"


def read_inception(path: str, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the file, of the names and shapes of `wanted`, the state dict of `InceptionFID`.

    The counters of batch normalisation are taken from `wanted` where the file has none.

    Raises:
        WeightsError: no such file, or one of another network: the later Inception-v3 has 1000 classes.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such file; expected the Inception weights {FILE}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each kind of damage has its own class
        raise WeightsError(f"{path}: cannot be read as weights ({type(error).__name__})") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: holds a {type(state).__name__}; expected the state dict {FILE}")
    counters = {name: tensor for name, tensor in wanted.items() if name.endswith("num_batches_tracked")}
    found = counters | dict(state)
    for name, tensor in wanted.items():
        if name not in found:
            raise WeightsError(f"{path}: lacks {name}{nearest(name, found)}; expected {FILE}")
        if not isinstance(found[name], Tensor) or found[name].shape != tensor.shape:
            shape = tuple(getattr(found[name], "shape", ()))
            raise WeightsError(f"{path}: {name} has the shape {shape}, not {tuple(tensor.shape)}; expected {FILE}")
    if unknown := sorted(set(found) - set(wanted)):
        raise WeightsError(f"{path}: {unknown[0]} is no tensor of {FILE}; FID is defined by that network alone")
    return found
