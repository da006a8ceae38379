"""The cascade: refinement between the stages, averaged scores and masks, losses of every stage."""

from copy import deepcopy

import pytest
import torch
from mmengine.structures import InstanceData

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.heads import CascadeRoIHead, ConvFCBBoxHead, StandardRoIHead
from visionpatch.heads.bbox_head import RoITargets, to_rois
from visionpatch.structures import DataSample

WIDTH, CLASSES = 8, 3
STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))


def extractor(side, width=WIDTH, strides=(4, 8), finest_scale=16):
    layer = dict(type="RoIAlign", output_size=side, sampling_ratio=0)
    args = dict(out_channels=width, featmap_strides=strides, finest_scale=finest_scale)
    return dict(type="SingleRoIExtractor", roi_layer=layer, **args)


def bbox_heads(**more):
    sizes = dict(in_channels=WIDTH, fc_out_channels=16, num_classes=CLASSES, reg_class_agnostic=True)
    coders = [dict(type="DeltaXYWHBBoxCoder", target_stds=stds) for stds in STDS]
    return [dict(dict(type="Shared2FCBBoxHead", bbox_coder=coder, **sizes), **more) for coder in coders]


PARTS = dict(
    bbox_roi_extractor=extractor(7),
    bbox_head=bbox_heads(),
    mask_roi_extractor=extractor(14),
    mask_head=dict(type="FCNMaskHead", num_convs=1, in_channels=WIDTH, conv_out_channels=8, num_classes=CLASSES),
)
BOXES_ONLY = dict(mask_roi_extractor=None, mask_head=None)
SEVERAL = dict(bbox_head=bbox_heads(reg_class_agnostic=False))  # a box for every class
DECODED = dict(  # as published for transformers: convolutions with a norm, and a loss of boxes in pixels
    bbox_head=bbox_heads(
        type="ConvFCBBoxHead",
        num_shared_convs=2,
        num_shared_fcs=1,
        conv_out_channels=4,
        norm_cfg=dict(type="BN"),
        reg_class_agnostic=False,
        reg_decoded_bbox=True,
        loss_bbox=dict(type="GIoULoss", loss_weight=10.0),
    )
)


def build(spread=0.0, **more):
    """A head; with `spread` its classes and boxes differ as those of a trained one."""
    torch.manual_seed(0)
    head = CascadeRoIHead(**deepcopy(PARTS) | more)
    if spread:
        for part in head.bbox_head:
            torch.nn.init.normal_(part.fc_cls.weight, std=spread)
            torch.nn.init.normal_(part.fc_reg.weight, std=spread)
    return head


def features(batch=2):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, WIDTH, 64 // s, 96 // s, generator=generator)[:batch] for s in (4, 8)]


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


def test_names_and_shapes_of_the_published_cascade_mask_rcnn():
    wide = dict(width=256, strides=(4, 8, 16, 32), finest_scale=56)
    coders = [dict(type="DeltaXYWHBBoxCoder", target_stds=stds) for stds in STDS]
    head = CascadeRoIHead(
        extractor(7, **wide),
        [dict(type="Shared2FCBBoxHead", bbox_coder=coder, reg_class_agnostic=True) for coder in coders],
        extractor(14, **wide),
        dict(type="FCNMaskHead"),
    )
    weights = {
        "bbox_head.{}.fc_cls": (81, 1024),
        "bbox_head.{}.fc_reg": (4, 1024),
        "bbox_head.{}.shared_fcs.0": (1024, 12544),
        "bbox_head.{}.shared_fcs.1": (1024, 1024),
        **{f"mask_head.{{}}.convs.{i}.conv": (256, 256, 3, 3) for i in range(4)},
        "mask_head.{}.upsample": (256, 256, 2, 2),
        "mask_head.{}.conv_logits": (80, 256, 1, 1),
    }
    expected = {f"{name.format(i)}.weight": shape for i in range(3) for name, shape in weights.items()}
    expected |= {name.replace("weight", "bias"): shape[:1] for name, shape in expected.items()}
    assert {name: tuple(x.shape) for name, x in head.state_dict().items()} == expected


def test_names_of_a_box_head_with_convolutions():
    norm = dict(type="BN")
    head = ConvFCBBoxHead(num_shared_convs=2, num_shared_fcs=1, conv_out_channels=4, norm_cfg=norm, fc_out_channels=5)
    shapes = {name: tuple(x.shape) for name, x in head.state_dict().items() if "bn" not in name}
    assert shapes == {
        "shared_convs.0.conv.weight": (4, 256, 3, 3), "shared_convs.1.conv.weight": (4, 4, 3, 3),
        "shared_fcs.0.weight": (5, 196), "shared_fcs.0.bias": (5,),
        "fc_cls.weight": (81, 5), "fc_cls.bias": (81,), "fc_reg.weight": (320, 5), "fc_reg.bias": (320,),
    }  # fmt: skip
    assert {f"shared_convs.{i}.bn.{leaf}" for i in (0, 1) for leaf in ("weight", "bias")} <= set(head.state_dict())
    logits, deltas = head.eval()(torch.randn(3, 256, 7, 7))
    assert (logits.shape, deltas.shape) == ((3, 81), (3, 320))


def test_the_defaults_are_the_published_stages():
    head = build()
    assert [a.pos_iou_thr for a in head.assigners] == [a.negative[1] for a in head.assigners] == [0.5, 0.6, 0.7]
    assert [a.min_pos_iou for a in head.assigners] == [0.5, 0.6, 0.7]
    assert not any(a.match_low_quality for a in head.assigners)
    assert [(s.num, s.pos_fraction, s.add_gt_as_proposals) for s in head.samplers] == [(512, 0.25, True)] * 3
    assert head.stage_loss_weights == (1.0, 0.5, 0.25)
    assert [part.coder.stds for part in head.bbox_head] == list(STDS)


def test_refinement_by_hand():
    heads = [part.bbox_head for part in build().stages]
    boxes, still = torch.tensor([[10.0, 10, 30, 50], [80, 20, 96, 60]]), torch.tensor([0, 1])
    deltas = torch.tensor([[1.0, -1, 0, 0], [2.0, 0, 0, 0]])
    # widths 20 and 16, heights 40: the centre moves by std * side; the second box is cut at the right border
    first = heads[0].refine(boxes, still, deltas, (64, 96))
    torch.testing.assert_close(first, torch.tensor([[12.0, 6, 32, 46], [83.2, 20, 96, 60]]))
    second = heads[1].refine(boxes, still, deltas, None)
    torch.testing.assert_close(second, torch.tensor([[11.0, 8, 31, 48], [81.6, 20, 97.6, 60]]))


def test_every_box_moves_by_the_deltas_of_its_class():
    head = build(**SEVERAL).bbox_head[0]
    boxes = torch.tensor([[10.0, 10, 30, 50]] * 3)
    deltas = torch.zeros(3, 4 * CLASSES)
    deltas[:, 4], deltas[:, 8] = 1.0, 2.0  # dx of classes 1 and 2
    moved = head.refine(boxes, torch.tensor([0, 1, 2]), deltas, (64, 96))
    assert moved[:, 0].tolist() == [10.0, 12.0, 14.0]


def test_the_next_stage_trains_on_refined_proposals_without_the_objects_own_boxes():
    head, given = build(**SEVERAL), samples()
    stage = head.stages[0]
    drawn = [stage.sample(found.bboxes, sample) for found, sample in zip(proposals(), given, strict=True)]
    assert [one.own.tolist() for one in drawn] == [[True, True, False, False, False], [True, False, False]]
    number = sum(len(one.boxes) for one in drawn)
    logits = torch.zeros(number, CLASSES + 1)
    logits[:, 1], logits[:, CLASSES] = 1.0, 9.0  # background first, then class 1
    deltas = torch.zeros(number, 4 * CLASSES)
    deltas[:, 0], deltas[:, 4] = 1.0, 2.0  # dx of classes 0 and 1: a tenth and a fifth of the width
    first, second = head.next_proposals(stage, drawn, logits, deltas, given)
    # positive ones of object 0, which is of class 0, then a background one as class 1
    expected = torch.tensor([[7.4, 6, 41.4, 50], [9.8, 4, 47.8, 48], [44, 30, 64, 60]])
    torch.testing.assert_close(first, expected)
    torch.testing.assert_close(second, torch.tensor([[15.6, 12, 33.6, 30], [64, 10, 84, 20]]))  # class 1 both
    assert not first.requires_grad


def test_a_cascade_whose_boxes_stay_is_three_heads_on_the_same_proposals():
    head = build(spread=0.5)
    for part in head.bbox_head:
        torch.nn.init.zeros_(part.fc_reg.weight)
    boxes = [one.bboxes for one in proposals()]
    rois = to_rois(boxes)
    each = [stage.boxes(features(), rois)[0] for stage in head.stages]
    masks = [stage.masks(features(), rois).sigmoid() for stage in head.stages]
    logits, deltas, probability = head(features(), boxes, samples())
    torch.testing.assert_close(logits, (each[0] + each[1] + each[2]) / 3)
    torch.testing.assert_close(probability, (masks[0] + masks[1] + masks[2]) / 3)
    assert not deltas.any()
    found = build_like(head, score_thr=0.0, nms=dict(type="nms", iou_threshold=1.0)).predict(
        features(), proposals(), samples()
    )
    scores = logits.softmax(1)[:3, :CLASSES].flatten().sort(descending=True).values
    torch.testing.assert_close(found[0].scores, scores)
    assert sorted({tuple(box.tolist()) for box in found[0].bboxes}) == sorted(tuple(b.tolist()) for b in boxes[0])


def build_like(head, **test_cfg):
    other = build(test_cfg=test_cfg).eval()
    other.load_state_dict(head.state_dict())
    return other


def test_predicted_masks_are_the_mean_of_the_stages():
    head = build(spread=0.5, test_cfg=dict(score_thr=0.0, max_per_img=4)).eval()
    found = head.predict(features(), proposals(), samples())
    for value, expected in ((3.0, True), (-3.0, False)):  # sigmoid 0.95 and 0.05: two stages of three outvote one
        for i, part in enumerate(head.mask_head):
            torch.nn.init.zeros_(part.conv_logits.weight)
            torch.nn.init.constant_(part.conv_logits.bias, -value if i == 1 else value)
        for one in head.predict(features(), proposals(), samples()):
            x1, y1, x2, y2 = one.bboxes[0].tolist()
            assert one.masks[0, int(y1 + y2) // 2, int(x1 + x2) // 2].item() is expected
    assert [one.masks.shape for one in found] == [(4, 64, 96)] * 2


def test_losses_of_every_stage_have_its_name_and_weight():
    plain, weighted = (
        build(stage_loss_weights=w).loss(features(), proposals(), samples()) for w in ((1, 1, 1), (1, 0.5, 0.25))
    )
    names = [f"s{i}.{name}" for i in range(3) for name in ("loss_cls", "loss_bbox", "acc", "loss_mask")]
    assert list(weighted) == names
    for name, value in weighted.items():
        factor = 1.0 if "acc" in name else (1.0, 0.5, 0.25)[int(name[1])]
        torch.testing.assert_close(value, factor * plain[name])


def test_the_first_stage_is_a_standard_head():
    head = build(spread=0.3)
    parts = {name: part[0] if isinstance(part, list) else part for name, part in deepcopy(PARTS).items()}
    single = StandardRoIHead(**parts, train_cfg=dict(assigner=head.train_cfg[0]["assigner"]))
    single.load_state_dict({k.replace(".0.", ".", 1): v for k, v in head.state_dict().items() if "head.0." in k})
    expected = single.loss(features(), proposals(), samples())
    found = head.loss(features(), proposals(), samples())
    assert all(torch.equal(found[f"s0.{name}"], value) for name, value in expected.items())


@pytest.mark.parametrize("parts", [{}, SEVERAL, BOXES_ONLY, DECODED])
def test_gradients_are_finite_and_reach_every_parameter_and_no_box(parts):
    head, boxes = build(spread=0.1, **parts), proposals()
    for one in boxes:
        one.bboxes.requires_grad_()
    losses = head.loss(features(), boxes, samples())
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name
    assert all(one.bboxes.grad is None for one in boxes)


def test_the_gradient_of_a_stage_stays_in_it():
    head = build(spread=0.1)
    losses = head.loss(features(), proposals(), samples())
    losses["s2.loss_bbox"].backward()  # the boxes it was given do not lead back
    touched = {name.split(".")[1] for name, p in head.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"2"}


@pytest.mark.parametrize("parts", [{}, SEVERAL, DECODED])
@pytest.mark.parametrize("number", [0, 2])
def test_pictures_without_objects_and_without_proposals_train(parts, number):
    head = build(**parts)
    losses = head.loss(features(), [InstanceData(bboxes=one.bboxes[:number]) for one in proposals()], without_objects())
    total = sum(value for name, value in losses.items() if "loss" in name)
    assert len(losses) == 12 and total.isfinite()
    for i in range(3):
        assert losses[f"s{i}.loss_bbox"] == 0 and losses[f"s{i}.loss_mask"] == 0
        assert (losses[f"s{i}.loss_cls"] > 0) == (number > 0)
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_objects_alone_train_the_first_stage_and_are_added_to_every_other():
    given = samples()
    losses = build().loss(features(), [InstanceData(bboxes=torch.zeros(0, 4))] * 2, given)
    # each stage gets the three objects as its only proposals: their deltas are 0, their boxes are fitted as they are
    head = build()
    for stage in head.stages:
        drawn = [stage.sample(torch.zeros(0, 4), sample) for sample in given]
        assert [one.boxes.tolist() for one in drawn] == [s.gt_instances.bboxes.tolist() for s in given]
        assert not stage.targets(drawn).deltas.any()
    assert all(value.isfinite().all() for value in losses.values())
    assert all(losses[f"s{i}.loss_cls"] > 0 and losses[f"s{i}.loss_mask"] > 0 for i in range(3))


@pytest.mark.parametrize("count", [0, 2])
def test_zero_predictions_are_defined(count):
    head = build(test_cfg=dict(score_thr=0.9999)).eval()
    boxes = [InstanceData(bboxes=one.bboxes[:count]) for one in proposals()]
    for one in head.predict(features(), boxes, samples()):
        assert one.bboxes.shape == (0, 4) and one.scores.shape == one.labels.shape == (0,)
        assert one.masks.shape == (0, 64, 96)
    logits, deltas, masks = head(features(), [one.bboxes for one in boxes], samples())
    assert (logits.shape, deltas.shape) == ((2 * count, CLASSES + 1), (2 * count, 4))
    assert masks.shape == (2 * count, CLASSES, 28, 28)
    worthless = [torch.full_like(x, float("nan")) for x in features()]
    assert [len(one) for one in build().eval().predict(worthless, proposals(), samples())] == [0, 0]


@pytest.mark.parametrize("parts", [{}, SEVERAL, DECODED])
def test_a_batch_of_one_equals_a_batch_of_two_and_evaluation_twice_is_equal(parts):
    head = build(spread=0.5, test_cfg=dict(score_thr=0.0), **parts).eval()
    both, again = (head.predict(features(), proposals(), samples()) for _ in range(2))
    alone = head.predict([x[1:] for x in features()], proposals()[1:], samples()[1:])[0]
    assert torch.equal(both[1].bboxes, again[1].bboxes) and len(both[1]) > 2
    torch.testing.assert_close(both[1].bboxes, alone.bboxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(both[1].scores, alone.scores, rtol=1e-4, atol=1e-6)
    assert torch.equal(both[1].labels, alone.labels) and torch.equal(both[1].masks, alone.masks)


def test_predictions_are_rescaled_once_at_the_end():
    head, given = build(spread=0.5, test_cfg=dict(score_thr=0.0, max_per_img=5)).eval(), samples()
    given[1].set_metainfo(dict(ori_shape=(32, 192), scale_factor=(0.5, 2.0)))
    found, plain = (head.predict(features(), proposals(), given, rescale=r)[1] for r in (True, False))
    torch.testing.assert_close(found.bboxes, plain.bboxes * torch.tensor([2.0, 0.5, 2.0, 0.5]))
    assert found.masks.shape == (5, 32, 192) and plain.masks.shape == (5, 64, 96)
    assert (plain.bboxes <= torch.tensor([96.0, 64, 96, 64])).all()


def test_a_loss_of_decoded_boxes_by_hand():
    head = ConvFCBBoxHead(4, 0, 1, 4, 8, num_classes=2, reg_decoded_bbox=True, loss_bbox=dict(type="GIoULoss"))
    boxes, objects = torch.tensor([[10.0, 10, 30, 50]]), torch.tensor([[12.0, 10, 32, 50]])
    assert torch.equal(head.encode(boxes, objects), objects)
    targets = RoITargets(torch.tensor([1, 2]), torch.ones(2), objects, boxes)
    deltas = torch.zeros(2, 8)
    deltas[0, 4] = 1.0  # of class 1: a tenth of the width, which is where the object is
    assert head.loss(torch.zeros(2, 3), deltas, targets)["loss_bbox"].item() == pytest.approx(0, abs=1e-6)
    deltas[0, 4] = 0.0  # IoU 18 / 22, and the enclosing box is covered
    assert head.loss(torch.zeros(2, 3), deltas, targets)["loss_bbox"].item() == pytest.approx((4 / 22) / 2, rel=1e-5)


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match=r"CascadeRoIHead.bbox_head: 3 entries, but num_stages=2; give one a stage"):
        build(num_stages=2, stage_loss_weights=(1, 1))
    with pytest.raises(ConfigError, match=r"stage_loss_weights: 3 entries, but num_stages=2"):
        build(num_stages=2)
    with pytest.raises(ConfigError, match=r"train_cfg: one dict, but num_stages=3; give one a stage"):
        build(train_cfg=dict(mask_size=28))
    with pytest.raises(ConfigError, match=r"stage_loss_weights: one float, but num_stages=3; give one a stage"):
        build(stage_loss_weights=1.0)
    with pytest.raises(ConfigError, match=r'train_cfg.1 has no key "sampling"; did you mean "sampler"'):
        build(train_cfg=[{}, dict(sampling={}), {}])
    with pytest.raises(ConfigError, match=r"roi_head.train_cfg.2.mask_size = 14, but the masks of mask_head have 28"):
        build(train_cfg=[{}, {}, dict(mask_size=14)])
    with pytest.raises(ConfigError, match=r"bbox_head.1.num_classes = 4, but bbox_head.0 has 3"):
        build(bbox_head=[*bbox_heads()[:1], *bbox_heads(num_classes=4)[1:]], **BOXES_ONLY)
    with pytest.raises(ConfigError, match=r"roi_head.bbox_head.0: .*\(9, 7, 7\), the extractor gives \(8, 7, 7\)"):
        build(bbox_head=bbox_heads(in_channels=9))
    with pytest.raises(ConfigError, match="mask_head: one module; give a config, or a list"):
        build(mask_head=build().mask_head[0])
    with pytest.raises(ConfigError, match="num_stages=0 must be positive"):
        build(num_stages=0)
    with pytest.raises(ConfigError, match="loss_bbox compares boxes, not deltas: set reg_decoded_bbox=True"):
        build(bbox_head=bbox_heads(loss_bbox=dict(type="GIoULoss")))
    with pytest.raises(ConfigError, match="num_shared_fcs=0 must be positive"):
        ConvFCBBoxHead(num_shared_fcs=0)


def test_samples_that_do_not_fit_are_named():
    given = samples()
    del given[0].gt_instances.masks
    with pytest.raises(DataError, match=r"0\.png: no masks .*with_mask=True"):
        build().loss(features(), proposals(), given)
    assert build(**BOXES_ONLY).loss(features(), proposals(), given)["s2.loss_cls"] > 0
    given = samples()
    given[1].gt_instances.labels[0] = CLASSES
    with pytest.raises(BadSampleError, match=r"1\.png: an object of label 3, but the head has num_classes=3"):
        build().loss(features(), proposals(), given)
