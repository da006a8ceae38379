"""The two-layer classification head."""

import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.heads import MLPClsHead
from visionpatch.structures import DataSample


def test_it_is_mean_linear_relu_linear():
    torch.manual_seed(0)
    head, x = MLPClsHead(6, 3, hidden_channels=4), torch.randn(2, 6, 5, 7)
    first, last = head.fc[0], head.fc[2]
    hidden = (x.mean((2, 3)) @ first.weight.T + first.bias).clamp(min=0)
    expected = hidden @ last.weight.T + last.bias
    torch.testing.assert_close(head((torch.zeros(2, 1, 1, 1), x)), expected)
    samples = [DataSample(), DataSample()]
    for sample, label in zip(samples, (2, 0)):
        sample.gt_label = torch.tensor([label])
    loss = head.loss((x,), samples)["loss"]
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(expected, torch.tensor([2, 0])))
    assert [int(s.pred_label) for s in head.predict((x,), samples)] == expected.argmax(1).tolist()


def test_bad_arguments():
    with pytest.raises(ConfigError, match="hidden_channels=0 must be positive"):
        MLPClsHead(6, 3, hidden_channels=0)
    with pytest.raises(ConfigError, match=r"in_channels=6, but the map .* has 5 channels"):
        MLPClsHead(6, 3)((torch.zeros(1, 5, 2, 2),))
