"""How published arguments of the segmentation heads become ours."""

import pytest
from golden.heads import translate

from visionpatch.errors import ConfigError


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
