"""The Inception file of FID: read with its names, and no other file in its place."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from visionpatch.converters.inception import read_inception
from visionpatch.errors import WeightsError

WANTED = {
    "a.bn.weight": torch.zeros(2),
    "a.bn.num_batches_tracked": torch.tensor(0),
    "fc.weight": torch.zeros(1008, 4),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def held(**changes: Tensor) -> dict[str, Tensor]:
    """What a file holds; "__" in a name stands for a dot."""
    state = {"a.bn.weight": torch.ones(2), "fc.weight": torch.ones(1008, 4)}
    return state | {name.replace("__", "."): tensor for name, tensor in changes.items()}


def test_the_counters_may_lack(path: Path) -> None:
    torch.save(held(), path)
    found = read_inception(str(path), WANTED)
    assert found.keys() == WANTED.keys() and found["fc.weight"].eq(1).all()
    torch.save(held(a__bn__num_batches_tracked=torch.tensor(7)), path)
    assert read_inception(str(path), WANTED)["a.bn.num_batches_tracked"] == 7


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (held(fc__weight=torch.ones(1000, 4)), r"fc.weight has the shape \(1000, 4\), not \(1008, 4\)"),
        (held(AuxLogits=torch.ones(1)), "AuxLogits is no tensor of pt_inception"),
        ({"fc.weight": torch.ones(1008, 4)}, "lacks a.bn.weight"),
        ([torch.ones(1)], "holds a list; expected the state dict"),
    ],
)
def test_other_files(path: Path, state: object, text: str) -> None:
    torch.save(state, path)
    with pytest.raises(WeightsError, match=text):
        read_inception(str(path), WANTED)


def test_damage(path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file; expected the Inception weights pt_inception"):
        read_inception(str(path), WANTED)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_inception(str(path), WANTED)
