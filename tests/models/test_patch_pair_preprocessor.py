"""PatchPairPreprocessor: grey, normalised, stacked."""

import numpy as np
import pytest
import torch

from visionpatch.errors import BadSampleError, ConfigError
from visionpatch.models import PatchPairPreprocessor
from visionpatch.structures import DataSample

RNG = np.random.default_rng(0)


def patch(channels=1, bits=8, size=64):
    kind = np.uint8 if bits == 8 else np.uint16
    return torch.from_numpy(RNG.integers(0, 2**bits, (channels, size, size), dtype=kind))


def run(visible, thermal, **arguments):
    samples = [DataSample(metainfo=dict(img_path=f"{i}.png")) for i in range(len(visible))]
    data = dict(inputs=dict(visible=visible, thermal=thermal), data_samples=samples)
    return PatchPairPreprocessor(**arguments)(data)["inputs"]


def test_standardize_by_definition():
    visible, thermal = [patch(), patch()], [patch(bits=16), patch()]  # both depths in one batch
    made = run(visible, thermal)
    for name, given in (("visible", visible), ("thermal", thermal)):
        assert made[name].shape == (2, 1, 64, 64) and made[name].dtype == torch.float32
        for one, raw in zip(made[name], given):
            x = raw.numpy().astype(np.float64)
            expected = (x - x.mean()) / (x.std() + 1e-6)
            assert np.abs(one.numpy() - expected).max() < 1e-5


def test_depth_does_not_matter_to_standardized_patches():
    shallow = patch()
    deep = (shallow.int() * 257).to(torch.uint16)
    made = run([shallow], [deep])
    assert (made["visible"] - made["thermal"]).abs().max() < 1e-5
    made = run([shallow], [deep], input_norm="unit")
    assert (made["visible"] - made["thermal"]).abs().max() < 1e-6
    assert torch.equal(made["visible"][0], shallow.float() / 255)


def test_a_constant_patch_is_zero():
    assert not run([torch.full((1, 64, 64), 77, dtype=torch.uint8)], [patch()])["visible"].any()


def test_colour_becomes_grey():
    blue_green_red = torch.zeros(3, 64, 64, dtype=torch.uint8)
    for channel, weight in enumerate((0.114, 0.587, 0.299)):
        image = blue_green_red.clone()
        image[channel] = 255
        made = run([image], [patch()], input_norm="unit")["visible"]
        assert made.shape == (1, 1, 64, 64) and (made - weight).abs().max() < 1e-6
    grey = patch()
    made = run([grey.expand(3, -1, -1)], [grey], input_norm="unit")
    assert (made["visible"] - made["thermal"]).abs().max() < 1e-6


def test_batches_and_other_sizes():
    batch = torch.stack([patch(size=32) for _ in range(3)])
    made = run(batch, list(batch), size=32)
    assert torch.equal(made["visible"], made["thermal"]) and made["visible"].shape == (3, 1, 32, 32)


def test_one_pair_is_as_in_a_batch():
    pairs = [(patch(), patch()) for _ in range(3)]
    together = run(*map(list, zip(*pairs)))
    alone = run([pairs[1][0]], [pairs[1][1]])
    assert torch.equal(together["thermal"][1:2], alone["thermal"])


def test_errors():
    with pytest.raises(
        BadSampleError, match=r"0.png: thermal patch of shape \(1, 48, 64\), expected \(1 or 3, 64, 64\)"
    ):
        run([patch()], [patch()[:, :48]])
    with pytest.raises(BadSampleError, match=r"0.png: visible patch of torch.float32, expected uint8 or uint16"):
        run([patch().float()], [patch()])
    with pytest.raises(BadSampleError, match="2 visible and 1 thermal patches"):
        run([patch(), patch()], [patch()])
    with pytest.raises(BadSampleError, match=r"a pair is inputs=dict\(visible=..., thermal=...\); given: visible"):
        PatchPairPreprocessor()(dict(inputs=dict(visible=[patch()])))
    with pytest.raises(ConfigError, match='did you mean "standardize"'):
        PatchPairPreprocessor(input_norm="standardise")
    with pytest.raises(ConfigError, match="size"):
        PatchPairPreprocessor(size=0)
