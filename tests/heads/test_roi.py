"""The second stage: pooling, classes and boxes of proposals, training samples."""

from copy import deepcopy

import pytest
import torch
from mmengine.structures import InstanceData

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.heads import Shared2FCBBoxHead, SingleRoIExtractor, StandardRoIHead
from visionpatch.heads.bbox_head import RoITargets, to_rois
from visionpatch.structures import DataSample

WIDTH, CLASSES = 8, 3


def extractor(side):
    layer = dict(type="RoIAlign", output_size=side, sampling_ratio=0)
    return dict(type="SingleRoIExtractor", roi_layer=layer, out_channels=WIDTH, featmap_strides=(4, 8), finest_scale=16)


PARTS = dict(
    bbox_roi_extractor=extractor(7),
    bbox_head=dict(type="Shared2FCBBoxHead", in_channels=WIDTH, fc_out_channels=16, num_classes=CLASSES),
    mask_roi_extractor=extractor(14),
    mask_head=dict(type="FCNMaskHead", num_convs=1, in_channels=WIDTH, conv_out_channels=8, num_classes=CLASSES),
)


def build(**more):
    torch.manual_seed(0)
    return StandardRoIHead(**deepcopy(PARTS) | more)


def features():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, WIDTH, 64 // s, 96 // s, generator=generator) for s in (4, 8)]


def proposals():
    boxes = [[4.0, 6, 38, 50], [40, 30, 60, 60], [6, 4, 44, 48]], [[12.0, 12, 30, 30], [60, 10, 80, 20]]
    return [InstanceData(bboxes=torch.tensor(b)) for b in boxes]


def samples():
    made = []
    for i, (boxes, labels) in enumerate([([[4.0, 6, 40, 50], [50, 10, 90, 30]], [0, 2]), ([[10.0, 10, 30, 30]], [1])]):
        meta = dict(img_path=f"{i}.png", img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1.0, 1.0))
        masks = torch.zeros(len(boxes), 64, 96, dtype=torch.uint8)
        for mask, box in zip(masks, boxes, strict=True):
            x1, y1, x2, y2 = (int(v) for v in box)
            mask[y1:y2, x1:x2] = 1
        objects = InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels), masks=masks)
        made.append(DataSample(metainfo=meta, gt_instances=objects))
    return made


def without_objects():
    given = samples()
    for sample in given:
        sample.gt_instances = sample.gt_instances[:0]
    return given


def test_names_and_shapes_are_the_published_ones():
    def layer(side):
        return dict(type="RoIAlign", output_size=side, sampling_ratio=0)

    args = dict(type="SingleRoIExtractor", out_channels=256, featmap_strides=(4, 8, 16, 32))
    head = StandardRoIHead(
        dict(args, roi_layer=layer(7)),
        dict(type="Shared2FCBBoxHead"),
        dict(args, roi_layer=layer(14)),
        dict(type="FCNMaskHead"),
    )
    weights = {
        "bbox_head.fc_cls": (81, 1024),
        "bbox_head.fc_reg": (320, 1024),
        "bbox_head.shared_fcs.0": (1024, 12544),
        "bbox_head.shared_fcs.1": (1024, 1024),
        **{f"mask_head.convs.{i}.conv": (256, 256, 3, 3) for i in range(4)},
        "mask_head.upsample": (256, 256, 2, 2),
        "mask_head.conv_logits": (80, 256, 1, 1),
    }
    expected = {f"{name}.weight": shape for name, shape in weights.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in weights.items()}
    assert {name: tuple(x.shape) for name, x in head.state_dict().items()} == expected


def test_the_level_follows_the_size():
    pool = SingleRoIExtractor(dict(type="RoIAlign", output_size=7), 4, (4, 8, 16, 32), finest_scale=56)
    sides = [1.0, 56, 111, 113, 223, 225, 449, 5000]
    rois = torch.tensor([[0, 10, 10, 10 + s, 10 + s] for s in sides])
    assert pool.levels(rois).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    assert pool.levels(torch.tensor([[0.0, 5, 5, 5, 9]])).tolist() == [0]  # without area


def test_boxes_are_pooled_from_their_picture_and_level():
    pool = SingleRoIExtractor(dict(type="RoIAlign", output_size=2, sampling_ratio=2), 1, (4, 8), finest_scale=16)
    maps = [torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 16, 16), torch.full((2, 1, 8, 8), 7.0)]
    rois = torch.tensor([[1.0, 4, 4, 20, 20], [0, 8, 8, 24, 24], [0, 2, 2, 60, 60]])
    assert pool(maps, rois)[:, 0, 0, 0].tolist() == [1.0, 0.0, 7.0]
    assert pool(maps, rois[:0]).shape == (0, 1, 2, 2)
    with pytest.raises(ConfigError, match=r"featmap_strides=\(4, 8\), but there are 1 maps"):
        pool(maps[:1], rois)


def test_losses_are_finite_and_reach_every_parameter():
    head = build()
    losses = head.loss(features(), proposals(), samples())
    assert list(losses) == ["loss_cls", "loss_bbox", "acc", "loss_mask"]
    assert 0 <= losses["acc"] <= 100
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_pictures_without_objects_and_without_proposals_train():
    for boxes in (proposals(), [InstanceData(bboxes=torch.zeros(0, 4))] * 2):
        head = build()
        losses = head.loss(features(), boxes, without_objects())
        total = sum(value for name, value in losses.items() if "loss" in name)
        assert total.isfinite() and losses["loss_bbox"] == 0 and losses["loss_mask"] == 0
        assert (losses["loss_cls"] > 0) == (len(boxes[0]) > 0)
        total.backward()
        assert all(p.grad is not None for p in head.parameters())


def test_the_loss_of_boxes_by_hand():
    head = Shared2FCBBoxHead(4, 8, 7, num_classes=2)
    logits = torch.tensor([[2.0, 0, 0], [0, 0, 1]])
    deltas = torch.tensor([[1.0, 1, 1, 1, 9, 9, 9, 9], [5] * 8])
    wanted, boxes = torch.tensor([[0.0, 1, 3, 1]]), torch.zeros(1, 4)
    targets = RoITargets(torch.tensor([0, 2]), torch.tensor([2.0, 1.0]), wanted, boxes)
    losses = head.loss(logits, deltas, targets)
    log = logits.log_softmax(1)
    torch.testing.assert_close(losses["loss_cls"], -(2 * log[0, 0] + log[1, 2]) / 2)
    assert losses["loss_bbox"].item() == pytest.approx((1 + 2) / 2)
    assert losses["acc"].item() == 100


def test_objects_own_boxes_come_first_and_are_positive():
    one = build().stage.sample(proposals()[0].bboxes, samples()[0])
    # own boxes 0 and 1, then the proposals: the first and the last overlap the first object, the second nothing
    assert one.sampled.positive.tolist() == [0, 1, 2, 4]
    assert one.sampled.objects.tolist() == [0, 1, 0, 0]
    assert one.sampled.negative.tolist() == [3]
    assert one.labels.tolist() == [0, 2, 0, 0]
    targets = build(train_cfg=dict(pos_weight=3.0)).stage.targets([one])
    assert targets.labels.tolist() == [0, 2, 0, 0, CLASSES]
    assert targets.weights.tolist() == [3, 3, 3, 3, 1]
    assert not targets.deltas[:2].any() and targets.deltas[2].any()


def test_low_quality_matches_belong_to_mask_r_cnn():
    assert build().assigner.match_low_quality
    assert not build(mask_head=None, mask_roi_extractor=None).assigner.match_low_quality


def test_predictions_are_sorted_rescaled_and_have_masks_of_the_original_size():
    head, given = build(test_cfg=dict(score_thr=0.0, max_per_img=5)).eval(), samples()
    given[1].set_metainfo(dict(ori_shape=(32, 192), scale_factor=(0.5, 2.0)))
    found, plain = (head.predict(features(), proposals(), given, rescale=rescale) for rescale in (True, False))
    for one, shape in zip(found, ((64, 96), (32, 192)), strict=True):
        assert one.bboxes.shape == (5, 4) and one.masks.shape == (5, *shape) and one.masks.dtype == torch.bool
        assert torch.equal(one.scores, one.scores.sort(descending=True).values)
        assert one.labels.max() < CLASSES
    torch.testing.assert_close(found[1].bboxes, plain[1].bboxes * torch.tensor([2.0, 0.5, 2.0, 0.5]))
    assert torch.equal(found[0].masks, plain[0].masks)
    assert plain[1].masks.shape == (5, 64, 96)
    boxes_only = build(mask_head=None, mask_roi_extractor=None, test_cfg=head.test_cfg).eval()
    boxes_only.load_state_dict({k: v for k, v in head.state_dict().items() if "mask" not in k})
    for one, other in zip(boxes_only.predict(features(), proposals(), given), found, strict=True):
        torch.testing.assert_close(one.bboxes, other.bboxes)
        assert "masks" not in one


@pytest.mark.parametrize("count", [0, 2])
def test_zero_predictions_are_defined(count):
    head = build(test_cfg=dict(score_thr=0.9999)).eval()
    boxes = [InstanceData(bboxes=one.bboxes[:count]) for one in proposals()]
    for one in head.predict(features(), boxes, samples()):
        assert one.bboxes.shape == (0, 4) and one.scores.shape == one.labels.shape == (0,)
        assert one.masks.shape == (0, 64, 96)
    worthless = [torch.full_like(x, float("nan")) for x in features()]
    assert [len(one) for one in build().eval().predict(worthless, proposals(), samples())] == [0, 0]


def test_masks_and_boxes_may_share_an_extractor():
    head = build(mask_roi_extractor=None, bbox_roi_extractor=extractor(14),
                 bbox_head=dict(PARTS["bbox_head"], roi_feat_size=14))  # fmt: skip
    assert head.stage.mask_extractor is head.bbox_roi_extractor
    assert head.loss(features(), proposals(), samples())["loss_mask"].isfinite()


def test_one_box_for_all_classes():
    head = build(bbox_head=dict(PARTS["bbox_head"], reg_class_agnostic=True), test_cfg=dict(score_thr=0.0))
    logits, deltas, masks = head(features(), [one.bboxes for one in proposals()])
    assert (logits.shape, deltas.shape, masks.shape) == ((5, CLASSES + 1), (5, 4), (5, CLASSES, 28, 28))
    assert head.loss(features(), proposals(), samples())["loss_bbox"] > 0
    assert len(head.predict(features(), proposals(), samples())[0]) > 0


def test_rois_name_their_picture():
    rois = to_rois([torch.ones(1, 4), torch.zeros(0, 4), torch.zeros(2, 4)])
    assert rois[:, 0].tolist() == [0, 2, 2] and rois[0, 1:].tolist() == [1] * 4


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match=r"roi_head.bbox_head: .*\(9, 7, 7\), the extractor gives \(8, 7, 7\)"):
        build(bbox_head=dict(PARTS["bbox_head"], in_channels=9))
    with pytest.raises(ConfigError, match=r"roi_head.mask_head: .*\(8, 7, 7\), the extractor gives \(8, 14, 14\)"):
        build(mask_head=dict(PARTS["mask_head"], roi_feat_size=7))
    with pytest.raises(ConfigError, match=r"mask_head.num_classes = 4, but bbox_head has 3"):
        build(mask_head=dict(PARTS["mask_head"], num_classes=4))
    with pytest.raises(ConfigError, match=r"mask_size = 14, but the masks of mask_head have 28"):
        build(train_cfg=dict(mask_size=14))
    with pytest.raises(ConfigError, match=r'train_cfg has no key "sampling"; did you mean "sampler"'):
        build(train_cfg=dict(sampling={}))
    with pytest.raises(ConfigError, match="set use_sigmoid=False"):
        Shared2FCBBoxHead(loss_cls=dict(type="FocalLoss"))


def test_samples_that_do_not_fit_are_named():
    given = samples()
    del given[0].gt_instances.masks
    with pytest.raises(DataError, match=r"0\.png: no masks .*with_mask=True"):
        build().loss(features(), proposals(), given)
    given = samples()
    given[1].gt_instances.labels[0] = CLASSES
    with pytest.raises(BadSampleError, match=r"1\.png: an object of label 3, but the head has num_classes=3"):
        build().loss(features(), proposals(), given)
