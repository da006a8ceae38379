"""The Classifier is the published classification form: features, mean over positions, linear layer."""

import pytest
import torch

from visionpatch.errors import ConfigError, DataError
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


def test_soft_and_hard_targets_in_one_batch():
    """A sample without gt_score stands for its label; the cross entropy is that of the probabilities."""
    torch.manual_seed(0)
    head = build().head
    samples = [DataSample(gt_label=torch.tensor([2])), DataSample(gt_score=torch.tensor([0.5, 0.0, 0.0, 0.25, 0.25]))]
    assert torch.equal(head.targets(samples)[0], torch.tensor([0.0, 0, 1, 0, 0]))
    features = [torch.randn(2, 256, 3, 2)]
    logs = head(features).log_softmax(1)
    by_hand = -(logs[0, 2] + 0.5 * logs[1, 0] + 0.25 * logs[1, 3] + 0.25 * logs[1, 4]) / 2
    torch.testing.assert_close(head.loss(features, samples)["loss"], by_hand)


def test_targets_that_do_not_fit():
    head, features = build().head, [torch.randn(1, 256, 1, 1)]
    for sample, message in (
        (DataSample(gt_label=torch.tensor([5])), r"label 5, but the head has num_classes=5 \(labels 0 to 4\)"),
        (DataSample(gt_label=torch.tensor([1, 2])), "gt_label must hold one class index"),
        (DataSample(), "gt_label must hold one class index"),
        (DataSample(gt_score=torch.ones(3)), r"gt_score has the shape \(3,\), .* expected \(5,\)"),
    ):
        with pytest.raises(DataError, match=message):
            head.loss(features, [sample])
