"""What counts as not finite, and what it costs."""

import pytest
import torch

from engine.tiny import TinyDataset
from visionpatch.engine.guard import check_losses
from visionpatch.errors import NonFiniteLossError


def test_check_losses() -> None:
    """Losses must be finite; other log values, such as the accuracy of no pixel, may be anything."""
    check_losses(
        {"loss": torch.tensor(1.0), "acc": torch.tensor(float("nan")), "map": torch.full((2,), float("nan"))}, 1, {}
    )
    sample = TinyDataset()[0]["data_samples"]
    sample.set_metainfo(dict(img_path="x.png"))
    losses = {"a": 1.0, "loss_b": [torch.tensor(1.0), torch.tensor(float("inf"))]}
    text = r"^iteration 7: loss_b is not finite \(a = 1, loss_b = inf\); samples: x.png; lower the learning rate"
    with pytest.raises(NonFiniteLossError, match=text):
        check_losses(losses, 7, {"data_samples": [sample]})
