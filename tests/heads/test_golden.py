"""The neck and heads give the outputs, losses and gradients of the published ones, stored under tests/golden/heads."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from check_golden import check_case
from golden.heads import translate

from visionpatch.errors import ConfigError

CASES = sorted((ROOT / "tests" / "golden" / "heads").iterdir())


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_outputs_losses_and_gradients_are_the_published_ones(folder: Path) -> None:
    torch.set_num_threads(1)
    errors = check_case(folder)
    assert len(errors) >= 17
    assert {name: error for name, error in errors.items() if not error <= 1e-4} == {}


def test_published_arguments_without_counterpart_are_refused() -> None:
    head = dict(type="FCNHead", in_channels=8, channels=4, num_classes=2)
    with pytest.raises(ConfigError, match="input_transform='resize_concat'"):
        translate({**head, "input_transform": "resize_concat"})
    assert translate({**head, "input_transform": None}) == {
        **head, "norm_cfg": None, "loss_decode": [{"type": "CrossEntropyLoss"}],
    }  # fmt: skip


def test_the_published_pixel_sampler_becomes_the_loss_option() -> None:
    sampler = dict(type="OHEMPixelSampler", thresh=0.7, min_kept=10)
    ours = translate(dict(type="FCNHead", in_channels=8, channels=4, num_classes=2, sampler=sampler))
    assert ours["loss_decode"] == [dict(type="CrossEntropyLoss", ohem=dict(thresh=0.7, min_kept=10))]
    assert "sampler" not in ours
