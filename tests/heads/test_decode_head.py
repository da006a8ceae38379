"""Segmentation heads: names in the state dict, losses, label checks, arguments that contradict each other."""

import math

import pytest
import torch
from mmengine.structures import PixelData

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.heads import FCNHead, FPNHead, LinearClsHead, UPerHead
from visionpatch.heads.decode_head import pixel_accuracy
from visionpatch.structures import DataSample

BLOCK = ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]
CLASSIFIER = ["conv_seg.weight", "conv_seg.bias"]


def names(*blocks: str) -> set[str]:
    return {f"{block}.{leaf}" for block in blocks for leaf in BLOCK} | set(CLASSIFIER)


def sample(labels: torch.Tensor, name: str = "a.png") -> DataSample:
    return DataSample(metainfo=dict(img_path=name), gt_sem_seg=PixelData(data=labels[None]))


def test_state_dict_names() -> None:
    fpn = FPNHead((8,) * 4, 4, num_classes=3)
    blocks = [f"scale_heads.{level}.{2 * i}" for level in range(4) for i in range(max(1, level))]
    assert set(fpn.state_dict()) == names(*blocks)
    uper = UPerHead((8, 9, 10), 4, num_classes=3, pool_scales=(1, 2))
    blocks = ["psp_modules.0.1", "psp_modules.1.1", "bottleneck", "lateral_convs.0", "lateral_convs.1"]
    assert set(uper.state_dict()) == names(*blocks, "fpn_convs.0", "fpn_convs.1", "fpn_bottleneck")
    assert uper.bottleneck.conv.weight.shape == (4, 10 + 2 * 4, 3, 3)
    assert set(FCNHead(8, 4, num_classes=3).state_dict()) == names("convs.0", "convs.1", "conv_cat")
    assert set(FCNHead(8, 4, num_classes=3, num_convs=1, concat_input=False).state_dict()) == names("convs.0")
    assert set(FCNHead(4, 4, num_classes=3, num_convs=0, concat_input=False).state_dict()) == names()
    assert set(LinearClsHead(4, 3).state_dict()) == {"fc.weight", "fc.bias"}


def test_initial_values() -> None:
    head = FCNHead(64, 64, num_classes=100, num_convs=1, concat_input=False)
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.conv_seg.bias.abs().sum() == 0
    assert head.convs[0].conv.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)  # fan_out


def classifier_only(**arguments: object) -> FCNHead:
    """The incoming map's channels are the logits."""
    head = FCNHead(2, 2, num_classes=2, num_convs=0, concat_input=False, dropout_ratio=0, **arguments)
    with torch.no_grad():
        head.conv_seg.weight.copy_(torch.eye(2)[:, :, None, None])
    return head


def test_the_loss_is_taken_at_the_label_size_over_all_pixels() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    logits[:, 0] = math.log(3)  # probabilities 0.75 and 0.25 everywhere
    labels = torch.tensor([[0, 1, 255, 255]] * 4, dtype=torch.uint8)
    losses = classifier_only().loss([logits], [sample(labels)])
    assert losses["loss_ce"].item() == pytest.approx(4 * (-math.log(0.75) - math.log(0.25)) / 16, rel=1e-6)
    assert losses["acc_seg"].item() == 50


def test_several_losses_are_named_and_those_of_one_name_added() -> None:
    labels = torch.zeros(2, 2, dtype=torch.uint8)
    ce = dict(type="CrossEntropyLoss", loss_weight=0.5)
    head = classifier_only(loss_decode=[ce, ce, dict(type="DiceLoss", loss_weight=3.0)])
    losses = head.loss([torch.zeros(1, 2, 2, 2)], [sample(labels)])
    assert list(losses) == ["loss_ce", "loss_dice", "acc_seg"]
    assert losses["loss_ce"].item() == pytest.approx(math.log(2))


def test_accuracy_of_a_batch_without_valid_pixels_is_zero() -> None:
    assert pixel_accuracy(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2), 255), 255) == 0


def test_a_label_out_of_range_names_the_file_and_the_class_count() -> None:
    good, bad = torch.zeros(2, 2, dtype=torch.uint8), torch.tensor([[0, 255], [7, 1]], dtype=torch.uint8)
    with pytest.raises(BadSampleError, match=r"^b\.png: label 7 found.*num_classes=2 \(labels 0 to 1, ignored 255\)"):
        classifier_only().loss([torch.zeros(2, 2, 2, 2)], [sample(good), sample(bad, "b.png")])


def test_label_maps_that_are_missing_or_differ_in_size() -> None:
    head, maps = classifier_only(), [torch.zeros(2, 2, 2, 2)]
    with pytest.raises(DataError, match="c.png: no label map"):
        head.loss(maps, [DataSample(metainfo=dict(img_path="c.png"))])
    small, large = torch.zeros(2, 2), torch.zeros(4, 2)
    with pytest.raises(DataError, match=r"a\.png \(2, 2\), b\.png \(4, 2\)"):
        head.loss(maps, [sample(small), sample(large, "b.png")])


def test_predictions_have_the_padded_size() -> None:
    given = [DataSample(metainfo=dict(img_shape=(5, 6), batch_input_shape=(8, 8)))]
    (predicted,) = classifier_only().eval().predict([torch.randn(1, 2, 2, 2)], given)
    assert predicted.pred_sem_seg.data.shape == (1, 8, 8)
    with pytest.raises(DataError, match=r"\[\(4, 4\), \(8, 8\)\]"):
        classifier_only().predict([torch.randn(2, 2, 2, 2)], [*given, DataSample(metainfo=dict(img_shape=(4, 4)))])


def test_contradicting_arguments() -> None:
    with pytest.raises(ConfigError, match="in_index"):
        UPerHead((8, 9), 4, num_classes=3, in_index=(0, 1, 2))
    with pytest.raises(ConfigError, match="feature_strides=\\(4, 8, 16, 32\\)"):
        FPNHead((8, 9), 4, num_classes=3)
    with pytest.raises(ConfigError, match="num_convs=0"):
        FCNHead(8, 4, num_classes=3, num_convs=0)
    with pytest.raises(ConfigError, match="num_classes=0"):
        FCNHead(8, 4, num_classes=0)
    with pytest.raises(ConfigError, match='norm_cfg: unknown type "SynBN"; did you mean "SyncBN"'):
        FCNHead(8, 4, num_classes=3, norm_cfg=dict(type="SynBN"))


def test_batch_norm_after_pooling_to_one_pixel_needs_two_images() -> None:
    head = UPerHead((8, 9), 4, num_classes=3)
    with pytest.raises(ConfigError, match="one value per channel"):
        head([torch.randn(1, 8, 8, 8), torch.randn(1, 9, 4, 4)])
    assert head.eval()([torch.randn(1, 8, 8, 8), torch.randn(1, 9, 4, 4)]).shape == (1, 3, 8, 8)


def test_classification_loss_with_label_smoothing() -> None:
    head = LinearClsHead(2, 2, label_smoothing=0.2)
    with torch.no_grad():
        head.fc.weight.copy_(torch.eye(2))
    maps = [torch.tensor([2 * math.log(3), 0.0]).view(1, 2, 1, 1) * torch.tensor([0.0, 1.0])]  # mean: log 3, 0
    labelled = [DataSample(gt_label=torch.tensor([0]))]
    expected = -0.9 * math.log(0.75) - 0.1 * math.log(0.25)
    assert head.loss(maps, labelled)["loss"].item() == pytest.approx(expected, rel=1e-6)
    assert head.predict(maps, labelled)[0].pred_score.tolist() == pytest.approx([0.75, 0.25])
    with pytest.raises(BadSampleError, match="label 4, but the head has num_classes=2"):
        head.loss(maps, [DataSample(gt_label=torch.tensor([4]))])
    with pytest.raises(DataError, match="gt_label must hold one class index"):
        head.loss(maps, [DataSample()])
