"""What every head promises, checked for each registered one."""

import inspect
from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

import visionpatch.heads  # noqa: F401  (registers)
from visionpatch.errors import ConfigError
from visionpatch.heads import DecodeHead
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

from .test_detection_contract import DETECTION_PARTS
from .test_masked_token import GENERATIVE
from .test_patch_matching import MATCHING
from .test_sccan import FEW_SHOT

CHANNELS = (8, 12, 16, 20)
CLASSES, HEIGHT, WIDTH = 5, 72, 56
SEG = dict(channels=6, num_classes=CLASSES)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "FCNHead": dict(in_channels=16, in_index=2, **SEG),
    "FPNHead": dict(in_channels=CHANNELS, **SEG),
    "UPerHead": dict(in_channels=CHANNELS, **SEG),
    "LinearClsHead": dict(in_channels=20, num_classes=CLASSES),
    "MLPClsHead": dict(in_channels=20, num_classes=CLASSES),
}
REGISTERED = {
    name for name, member in MODELS.module_dict.items()
    if inspect.isclass(member) and member.__module__.startswith("visionpatch.heads")
}  # fmt: skip
HEADS = sorted(REGISTERED - DETECTION_PARTS - set(FEW_SHOT) - set(MATCHING) - GENERATIVE)


def features(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(batch, c, -(-HEIGHT // s), -(-WIDTH // s)) for c, s in zip(CHANNELS, (4, 8, 16, 32), strict=True)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def samples(batch: int = 2) -> list[DataSample]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for i in range(batch):
        labels = torch.randint(0, CLASSES, (1, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
        labels[:, :4] = 255
        meta = dict(img_path=f"image{i}.png", img_shape=(HEIGHT, WIDTH))
        made.append(DataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels), gt_label=torch.tensor([i])))
    return made


def test_every_registered_head_is_in_the_table() -> None:
    assert sorted(ARGUMENTS) == HEADS


@pytest.mark.parametrize("name", HEADS)
class TestHead:
    @pytest.fixture(autouse=True)
    def _one_thread(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)

    def build(self, name: str, **more: Any) -> nn.Module:
        return MODELS.build(dict(type=name, **ARGUMENTS[name], **more))

    def test_logits_have_one_channel_per_class(self, name: str) -> None:
        assert self.build(name)(features()).shape[:2] == (2, CLASSES)

    def test_losses_are_finite_and_reach_every_parameter(self, name: str) -> None:
        head = self.build(name)
        losses = head.loss(features(), samples())
        total = sum(value for key, value in losses.items() if "loss" in key)
        assert total.isfinite() and total > 0
        total.backward()
        for key, parameter in head.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            # a bias before a batch norm has no effect, but there is none: every gradient differs from zero
            assert parameter.grad.abs().sum() > 0, key

    def test_a_batch_of_one_equals_a_batch_of_two(self, name: str) -> None:
        head = self.build(name).eval()
        both, second = head(features()), head([x[1:] for x in features()])
        torch.testing.assert_close(both[1:], second, rtol=1e-4, atol=1e-6)

    def test_predictions_are_filled_in_and_agree_with_the_logits(self, name: str) -> None:
        head = self.build(name).eval()
        given = samples()
        predicted = head.predict(features(), given)
        assert [p is g for p, g in zip(predicted, given, strict=True)] == [True, True]
        for sample in predicted:
            if isinstance(head, DecodeHead):
                assert sample.seg_logits.data.shape == (CLASSES, HEIGHT, WIDTH)
                assert torch.equal(sample.pred_sem_seg.data, sample.seg_logits.data.argmax(0, keepdim=True))
            else:
                assert sample.pred_score.sum().item() == pytest.approx(1)
                assert sample.pred_label.tolist() == [sample.pred_score.argmax().item()]

    def test_evaluation_twice_is_equal_and_dropout_acts_in_training_only(self, name: str) -> None:
        head = self.build(name).eval()
        assert torch.equal(head(features()), head(features()))
        if isinstance(head, DecodeHead):
            head.dropout.train().p = 0.5
            assert not torch.equal(head(features()), head(features()))

    def test_the_state_dict_round_trip(self, name: str) -> None:
        first, second = self.build(name).eval(), self.build(name).eval()
        second.load_state_dict(first.state_dict(), strict=True)
        assert torch.equal(first(features()), second(features()))

    def test_an_unknown_argument_raises(self, name: str) -> None:
        with pytest.raises(TypeError, match="num_clases"):
            self.build(name, num_clases=3)

    def test_wrong_channels_name_what_was_given_and_expected(self, name: str) -> None:
        expected = ARGUMENTS[name]["in_channels"]
        with pytest.raises(
            ConfigError, match=rf"{name}: in_channels={expected}".replace("(", r"\(").replace(")", r"\)")
        ):
            self.build(name)([x[:, :7] for x in features()])
        with pytest.raises(ConfigError, match=r"set in_channels=(7|\(7, 7, 7, 7\))$"):
            self.build(name)([x[:, :7] for x in features()])

    def test_too_few_maps_are_reported(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"in_index=.*there are 0 maps"):
            self.build(name)([])
