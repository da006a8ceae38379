"""DependencyViT's tree finds regions that were planted in pictures; those of attention as usual do not."""

import importlib.util
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).resolve().parents[2] / "benchmarks" / "dependency_planted.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("dependency_planted", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_planted(benchmark):
    scenes = benchmark.planted(3, torch.Generator().manual_seed(0))
    for region, hub, target, image in zip(scenes.region, scenes.hub, scenes.target, scenes.image):
        assert region[hub].tolist() == [0, 1, 2, 3]
        assert set(target.nonzero().flatten().tolist()) == set(hub.tolist())
        patches = image.unflatten(1, (6, 4)).unflatten(3, (6, 4)).permute(1, 3, 0, 2, 4).flatten(0, 1)  # (N, 3, 4, 4)
        colours = patches.mean((2, 3)).round()  # stripes and marks have the mean 0
        for index in range(4):
            assert len(colours[region == index].unique(dim=0)) == 1
        number = (patches * torch.tensor([-1.0, 1, -1, 1])[:, None]).mean((1, 2, 3))  # (N,), that of its stripes
        sums = torch.stack([number[region == index].sum() for index in range(4)]) / 3
        assert torch.allclose(target[hub], sums, atol=0.1)


def test_reversed_attention_finds_the_regions(benchmark):
    found = benchmark.learn("reversed", 250)
    assert found["NMI"] > 0.8 and found["ARI"] > 0.75 and found["mIoU"] > 0.7 and found["parents"] > 0.85
    assert found["error"] < 0.1


def test_attention_as_usual_learns_the_sums_without_a_tree(benchmark):
    found = benchmark.learn("forward", 150)
    assert found["error"] < 0.2  # the task is learnt
    assert found["NMI"] < 0.6 and found["parents"] < 0.3
