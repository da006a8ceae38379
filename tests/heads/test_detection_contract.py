"""What every dense detection head promises, checked for each registered one; the second stage's parts beside them."""

from typing import Any

import pytest
import torch
from mmengine.structures import InstanceData
from torch import Tensor

import visionpatch.heads  # noqa: F401  (registers)
from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.heads import AnchorHead
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

WIDTH, CLASSES = 8, 3
SHAPES = ((64, 96), (52, 70))  # of the two pictures, padded to 64 x 96
SMALL = dict(in_channels=WIDTH, feat_channels=WIDTH)
GRID = dict(type="AnchorGenerator", ratios=(0.5, 1.0, 2.0), strides=(8, 16, 32))
DENSE: dict[str, dict[str, Any]] = {
    "RetinaHead": dict(
        num_classes=CLASSES,
        stacked_convs=2,
        anchor_generator=dict(GRID, octave_base_scale=2, scales_per_octave=2),
        **SMALL,
    ),
    "RPNHead": dict(anchor_generator=dict(GRID, scales=(3,)), **SMALL),
}
# have their own tests in test_roi.py, test_cascade.py and test_fcn_mask.py
SECOND_STAGE = {"CascadeRoIHead", "ConvFCBBoxHead", "FCNMaskHead", "RoIAlign", "Shared2FCBBoxHead"}
SECOND_STAGE |= {"SingleRoIExtractor", "StandardRoIHead"}
DETECTION_PARTS = set(DENSE) | SECOND_STAGE


def features(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, WIDTH, 64 // s, 96 // s, generator=generator) for s in (8, 16, 32)]


def samples(batch: int = 2) -> list[DataSample]:
    objects = [([[4.0, 6, 40, 50], [50, 10, 90, 30]], [0, 2]), ([[10.0, 10, 30, 30]], [1])]
    made = []
    for i in range(batch):
        meta = dict(img_path=f"{i}.png", img_shape=SHAPES[i], ori_shape=SHAPES[i], pad_shape=(64, 96))
        boxes, labels = objects[i]
        instances = InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels))
        made.append(DataSample(metainfo=meta, gt_instances=instances))
    return made


def total(losses: dict[str, Any]) -> Tensor:
    return sum(x for values in losses.values() for x in values)


def test_every_registered_head_on_anchors_is_in_the_table() -> None:
    found = {name for name, member in MODELS.module_dict.items() if issubclass(member, AnchorHead)}
    assert found == set(DENSE)


@pytest.mark.parametrize("name", DENSE)
class TestDenseHead:
    @pytest.fixture(autouse=True)
    def _one_thread(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)

    def build(self, name: str, **more: Any) -> AnchorHead:
        return MODELS.build(dict(type=name, **(DENSE[name] | more)))

    def test_raw_outputs_have_the_channels_of_classes_and_boxes_for_every_anchor(self, name: str) -> None:
        head = self.build(name)
        logits, deltas = head(features())
        for x, y, z in zip(logits, deltas, features(), strict=True):
            assert x.shape == (2, head.anchors.num_anchors * head.num_classes, *z.shape[-2:])
            assert y.shape == (2, head.anchors.num_anchors * 4, *z.shape[-2:])

    def test_losses_are_finite_and_reach_every_parameter(self, name: str) -> None:
        head = self.build(name)
        losses = head.loss(features(), samples())
        assert list(losses) == list(head.LOSSES)
        assert all(len(values) == 3 for values in losses.values())
        total(losses).backward()
        for key, parameter in head.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().sum() > 0, key

    @pytest.mark.parametrize("ignored", [0, 1])
    def test_pictures_without_objects_train(self, name: str, ignored: int) -> None:
        head, given = self.build(name), samples()
        for sample in given:
            sample.gt_instances = sample.gt_instances[:0]
            sample.ignored_instances = InstanceData(bboxes=torch.rand(ignored, 4))
        losses = head.loss(features(), given)
        assert total(losses).isfinite() and sum(losses[head.LOSSES[0]]) > 0
        assert sum(losses[head.LOSSES[1]]) == 0
        total(losses).backward()

    def test_a_box_without_area_changes_nothing(self, name: str) -> None:
        torch.manual_seed(0)
        head, given = self.build(name, train_cfg=dict(sampler=dict(type="PseudoSampler"))), samples()
        before = total(head.loss(features(), given))
        flat = InstanceData(bboxes=torch.tensor([[5.0, 5, 5, 9]]), labels=torch.tensor([0]))
        given[0].gt_instances = InstanceData.cat([given[0].gt_instances, flat])
        assert torch.equal(total(head.loss(features(), given)), before)

    def test_predictions_are_sorted_lie_in_the_picture_and_are_rescaled(self, name: str) -> None:
        head = self.build(name, test_cfg=dict(score_thr=0.0) if name == "RetinaHead" else {}).eval()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.mul_(10.0)
        given = samples()
        given[1].set_metainfo(dict(scale_factor=(2.0, 0.5)))
        plain, scaled = head.predict(features(), given, rescale=False), head.predict(features(), given)
        for found, (height, width) in zip(plain, SHAPES, strict=True):
            assert len(found) > 20
            assert torch.equal(found.scores, found.scores.sort(descending=True).values)
            assert found.bboxes.min() >= 0 and (found.bboxes <= torch.tensor([width, height] * 2)).all()
        assert torch.equal(plain[0].bboxes, scaled[0].bboxes)
        assert scaled[1].bboxes[:, 2].max() <= 35 < scaled[1].bboxes[:, 3].max() <= 104

    def test_a_batch_of_one_equals_a_batch_of_two(self, name: str) -> None:
        head = self.build(name, test_cfg=dict(score_thr=0.0) if name == "RetinaHead" else {}).eval()
        both = head.predict(features(), samples())
        second = head.predict([x[1:] for x in features()], samples()[1:])
        torch.testing.assert_close(both[1].bboxes[:20], second[0].bboxes[:20], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(both[1].scores, second[0].scores, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e4])
    def test_predictions_of_worthless_features_are_defined(self, name: str, value: float) -> None:
        head = self.build(name).eval()
        found = head.predict([torch.full_like(x, value) for x in features()], samples())
        for one in found:
            assert one.bboxes.shape == (len(one), 4) and one.bboxes.isfinite().all()
            assert one.scores.shape == one.labels.shape == (len(one),) and one.scores.isfinite().all()

    def test_the_state_dict_round_trip(self, name: str) -> None:
        first, second = self.build(name), self.build(name)
        second.load_state_dict(first.state_dict(), strict=True)
        for x, y in zip(first(features()), second(features()), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(x, y, strict=True))

    def test_wrong_arguments_are_named(self, name: str) -> None:
        with pytest.raises(TypeError, match="feat_chanels"):
            self.build(name, feat_chanels=3)
        with pytest.raises(
            ConfigError, match=rf'{name}.test_cfg has no key "max_per_image"; did you mean "max_per_img"'
        ):
            self.build(name, test_cfg=dict(max_per_image=3))
        with pytest.raises(ConfigError, match=rf'{name}.test_cfg.nms: .*"nmss"; did you mean'):
            self.build(name, test_cfg=dict(nms=dict(type="nmss", iou_threshold=0.5)))
        with pytest.raises(ConfigError, match="set use_sigmoid=True"):
            self.build(name, loss_cls=dict(type="CrossEntropyLoss"))

    def test_wrong_maps_are_named(self, name: str) -> None:
        head = self.build(name)
        with pytest.raises(ConfigError, match=rf"{name}: 2 maps, but its anchors are made for 3 levels"):
            head(features()[:2])
        with pytest.raises(ConfigError, match=rf"{name}: in_channels=8, but the maps it got have channels \(7, 7, 7\)"):
            head([x[:, :7] for x in features()])

    def test_wrong_samples_are_named(self, name: str) -> None:
        head, given = self.build(name), samples()
        del given[1].gt_instances
        with pytest.raises(DataError, match=r"1\.png: no objects .*with_bbox=True"):
            head.loss(features(), given)
        given = samples()
        given[0].gt_instances.labels[1] = -1
        with pytest.raises(BadSampleError, match=r"0\.png: an object of label -1"):
            head.loss(features(), given)
        with pytest.raises(DataError, match="no img_shape"):
            head.predict(features(), [DataSample(), DataSample()])
