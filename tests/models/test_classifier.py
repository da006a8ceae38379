"""The Classifier is the published classification form: features, mean over positions, linear layer."""

import pytest
import torch

from visionpatch.errors import ConfigError
from visionpatch.models import Classifier
from visionpatch.structures import DataSample

ARCH = dict(embed_dims=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))


def build(in_channels=256):
    backbone = dict(type="CrossFormer", arch=ARCH, out_indices=(3,), out_norm=True, drop_path_rate=0.0)
    return Classifier(backbone, dict(type="LinearClsHead", in_channels=in_channels, num_classes=5))


def test_scores_losses_and_predictions_agree():
    torch.manual_seed(0)
    model, x = build().eval(), torch.randn(3, 3, 64, 48)
    scores = model(x)
    by_hand = model.head.fc(model.backbone(x)[-1].mean((2, 3)))
    torch.testing.assert_close(scores, by_hand)
    samples = [DataSample() for _ in range(3)]
    for sample, label in zip(samples, (1, 4, 0), strict=True):
        sample.gt_label = torch.tensor([label])
    loss = model(x, samples, mode="loss")["loss"]
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, torch.tensor([1, 4, 0])))
    predictions = model(x, samples, mode="predict")
    torch.testing.assert_close(torch.stack([p.pred_score for p in predictions]), scores.softmax(1))
    assert [int(p.pred_label) for p in predictions] == scores.argmax(1).tolist()


def test_wrong_channels():
    with pytest.raises(
        ConfigError, match=r"model\.head\.in_channels = \[255\], but CrossFormer gives \[256\] channels"
    ):
        build(255)
