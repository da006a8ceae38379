"""The Detector's wiring, and the padding its heads rely on."""

from copy import deepcopy

import pytest
import torch
from mmengine.structures import InstanceData

from visionpatch.engine.config_keys import check_section
from visionpatch.errors import ConfigError
from visionpatch.heads import RetinaHead
from visionpatch.models import DataPreprocessor, Detector
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

CHANNELS = (16, 32, 64, 128)
BACKBONE = dict(type="CrossFormer", arch=dict(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)))
FPN = dict(type="FPN", in_channels=CHANNELS, out_channels=16)
ONE = dict(
    backbone=BACKBONE,
    neck=dict(FPN, start_level=1, add_extra_convs="on_output", num_outs=5),
    bbox_head=dict(type="RetinaHead", num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1),
)


def extractor(side):
    layer = dict(type="RoIAlign", output_size=side, sampling_ratio=0)
    return dict(type="SingleRoIExtractor", roi_layer=layer, out_channels=16, featmap_strides=(4, 8, 16, 32))


TWO = dict(
    backbone=BACKBONE,
    neck=dict(FPN, num_outs=5),
    rpn_head=dict(type="RPNHead", in_channels=16, feat_channels=16),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=extractor(7),
        bbox_head=dict(type="Shared2FCBBoxHead", in_channels=16, fc_out_channels=16, num_classes=3),
        mask_roi_extractor=extractor(14),
        mask_head=dict(type="FCNMaskHead", num_convs=1, in_channels=16, conv_out_channels=8, num_classes=3),
    ),
    test_cfg=dict(rpn=dict(max_per_img=20)),
    train_cfg=dict(rpn_proposal=dict(max_per_img=20), rcnn=dict(pos_weight=2.0)),
)
CASCADE = dict(
    TWO,
    roi_head=dict(TWO["roi_head"], type="CascadeRoIHead", num_stages=3, stage_loss_weights=[1, 0.5, 0.25]),
    train_cfg=dict(rpn_proposal=dict(max_per_img=20), rcnn=[dict(pos_weight=2.0), {}, {}]),
)
MODELS_UNDER_TEST = {"one": ("RetinaNet", ONE), "two": ("MaskRCNN", TWO), "cascade": ("CascadeRCNN", CASCADE)}


def build(kind, **more):
    torch.manual_seed(0)
    name, args = MODELS_UNDER_TEST[kind]
    return MODELS.build(deepcopy(dict(type=name, **args)) | more)


def batch(objects=(1, 2)):
    """Two pictures of 60 x 90 and 100 x 70."""
    images, samples = [], []
    for i, ((height, width), count) in enumerate(zip(((60, 90), (100, 70)), objects, strict=True)):
        generator = torch.Generator().manual_seed(i)
        images.append(torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8))
        boxes = torch.tensor([[5.0, 5, 45, 50], [20, 20, 60, 58]])[:count]
        masks = torch.ones(count, height, width, dtype=torch.uint8)
        meta = dict(
            img_path=f"{i}.png", img_shape=(height, width), ori_shape=(2 * height, width), scale_factor=(1, 0.5)
        )
        objects_of_it = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2])[:count], masks=masks)
        samples.append(DataSample(metainfo=meta, gt_instances=objects_of_it))
    return dict(inputs=images, data_samples=samples)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", MODELS_UNDER_TEST)
@pytest.mark.parametrize("objects", [(1, 2), (0, 2), (0, 0)])
def test_losses_reach_every_parameter_with_and_without_objects(kind, objects):
    model = build(kind).train()
    data = model.data_preprocessor(batch(objects), training=True)
    total, _ = model.parse_losses(model(**data, mode="loss"))
    assert total.isfinite() and total > 0
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_names_of_the_losses():
    data = build("one").data_preprocessor(batch(), training=True)
    assert set(build("one")(**data, mode="loss")) == {"loss_cls", "loss_bbox"}
    second = ("loss_cls", "loss_bbox", "acc", "loss_mask")
    first = {"loss_rpn_cls", "loss_rpn_bbox"}
    assert set(build("two")(**data, mode="loss")) == first | set(second)
    assert set(build("cascade")(**data, mode="loss")) == first | {f"s{i}.{name}" for i in range(3) for name in second}


@pytest.mark.parametrize("kind", MODELS_UNDER_TEST)
def test_predictions_are_in_pixels_of_the_original_picture(kind):
    score = dict(score_thr=0.0, max_per_img=10)
    model = build(kind, test_cfg=score if kind == "one" else dict(rcnn=score)).eval()
    data = model.data_preprocessor(batch())
    for sample in model(**data, mode="predict"):
        found, (height, width) = sample.pred_instances, sample.ori_shape
        assert len(found) == 10 and found.labels.max() < 3
        assert found.bboxes[:, 3].max() > height / 2  # stretched by two
        assert found.bboxes.min() >= 0 and (found.bboxes <= torch.tensor([width, height] * 2)).all()
        if kind != "one":
            assert found.masks.shape == (10, height, width)


@pytest.mark.parametrize("kind", MODELS_UNDER_TEST)
def test_evaluation_twice_is_equal(kind):
    model = build(kind, test_cfg=dict(score_thr=0.0) if kind == "one" else dict(rcnn=dict(score_thr=0.0))).eval()
    both = model(**model.data_preprocessor(batch()), mode="predict")
    again = model(**model.data_preprocessor(batch()), mode="predict")
    assert torch.equal(both[0].pred_instances.bboxes, again[0].pred_instances.bboxes)


def test_raw_outputs():
    data = build("one").data_preprocessor(batch())
    logits, deltas = build("one")(data["inputs"])
    assert [x.shape[1] for x in logits] == [27] * 5 and [x.shape[1] for x in deltas] == [36] * 5
    for kind in ("two", "cascade"):
        logits, deltas, masks = build(kind).eval()(data["inputs"])
        assert logits.shape[1:] == (4,) and deltas.shape[1:] == (12,) and masks.shape[1:] == (3, 28, 28)
        assert 0 < len(logits) <= 40


def test_outputs_without_values_are_those_of_every_stage():
    image = torch.zeros(1, 3, 64, 64, device="meta")
    one, three = (build(kind).to("meta").eval()(image) for kind in ("two", "cascade"))
    assert [x.shape for x in one[-3:]] == [(20, 4), (20, 12), (100, 3, 28, 28)]
    assert [x.shape for x in three[-9:]] == [x.shape for x in one[-3:]] * 3
    assert len(three) == len(one) + 6


def test_settings_reach_the_heads_and_the_number_of_classes_is_known():
    one, two = build("one", test_cfg=dict(max_per_img=7), train_cfg=dict(allowed_border=3)), build("two")
    assert (one.bbox_head.test_cfg["max_per_img"], one.bbox_head.train_cfg["allowed_border"]) == (7, 3)
    assert (two.rpn_head.test_cfg["max_per_img"], two.rpn_head.proposal_cfg["max_per_img"]) == (20, 20)
    assert two.roi_head.train_cfg["pos_weight"] == 2
    assert [own["pos_weight"] for own in build("cascade").roi_head.train_cfg] == [2, -1, -1]
    assert one.num_classes == two.num_classes == 3


def test_the_names_of_the_whole_are_those_of_mmdet():
    prefixes = {name.rsplit(".", 2)[0].split(".")[0] for name in build("two").state_dict()}
    assert prefixes == {"backbone", "neck", "rpn_head", "roi_head"}
    assert {name.split(".")[0] for name in build("one").state_dict()} == {"backbone", "neck", "bbox_head"}
    for name in ("Detector", "RetinaNet", "FasterRCNN", "MaskRCNN", "CascadeRCNN"):
        assert MODELS.get(name) is Detector


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match="give either bbox_head .* or both rpn_head and roi_head"):
        build("one", rpn_head=TWO["rpn_head"])
    with pytest.raises(ConfigError, match=r"model.bbox_head reads maps of 8 channels, but FPN gives \[16, 16"):
        build("one", bbox_head=dict(ONE["bbox_head"], in_channels=8))
    with pytest.raises(
        ConfigError, match=r"anchor_generator.strides = \[8, .*128\], but FPN gives .*\[4, 8.*in_strides"
    ):
        build("one", neck=TWO["neck"])
    wrong = deepcopy(TWO["roi_head"])
    wrong["mask_roi_extractor"]["featmap_strides"] = (8, 16)
    with pytest.raises(ConfigError, match=r"roi_head.mask_roi_extractor.featmap_strides = \[8, 16\], but FPN"):
        build("two", roi_head=wrong)
    wrong = deepcopy(CASCADE["roi_head"])
    wrong["bbox_roi_extractor"] = [
        *[wrong["bbox_roi_extractor"]] * 2,
        wrong["bbox_roi_extractor"] | {"featmap_strides": (8,)},
    ]
    with pytest.raises(ConfigError, match=r"roi_head.bbox_roi_extractor.2.featmap_strides = \[8\], but FPN"):
        build("cascade", roi_head=wrong)
    with pytest.raises(ConfigError, match=r'model.train_cfg has no key "rpn_proposals"; did you mean "rpn_proposal"'):
        build("two", train_cfg=dict(rpn_proposals={}))
    with pytest.raises(ConfigError, match=r'RetinaHead.test_cfg has no key "rpn"'):
        build("one", test_cfg=dict(rpn={}))
    with pytest.raises(ConfigError, match="test_cfg is for heads given as configs"):
        build("one", bbox_head=RetinaHead(3, 16, 1, 16), test_cfg=dict(max_per_img=3))
    with pytest.raises(ConfigError, match='mode = "losses"; did you mean "loss"'):
        build("one")(torch.zeros(1, 3, 64, 64), mode="losses")


def test_the_check_of_configs_knows_the_parts():
    suppression = dict(type="nms", iou_threshold=0.7)  # a function, not a registered part
    config = deepcopy(dict(type="MaskRCNN", **TWO)) | dict(test_cfg=dict(rpn=dict(nms=suppression)))
    check_section(config, "model", lambda path: "config.py")
    config["roi_head"]["bbox_roi_extractor"]["roi_layer"]["sampling_ration"] = 2
    with pytest.raises(
        ConfigError, match=r'roi_layer.sampling_ration is not an argument of RoIAlign; did you mean "sam'
    ):
        check_section(config, "model", lambda path: "config.py")


@pytest.mark.parametrize("kind", MODELS_UNDER_TEST)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (3, 150)])
def test_tiny_pictures_train_and_predict(kind, height, width):
    model = build(kind).train()
    objects = dict(bboxes=torch.tensor([[0.0, 0, width, height]]), labels=torch.tensor([1]))
    objects["masks"] = torch.ones(1, height, width, dtype=torch.uint8)
    sample = DataSample(metainfo=dict(img_shape=(height, width)), gt_instances=InstanceData(**objects))
    given = dict(inputs=[torch.zeros(3, height, width, dtype=torch.uint8)], data_samples=[sample])
    data = model.data_preprocessor(given, training=True)
    assert model.parse_losses(model(**data, mode="loss"))[0].isfinite()
    found = model.eval()(**data, mode="predict")[0].pred_instances
    assert (found.bboxes <= torch.tensor([width, height] * 2)).all()


@pytest.mark.parametrize("kind", MODELS_UNDER_TEST)
def test_worthless_features_give_a_loss_that_shows_it(kind):
    model = build(kind).train()
    data = model.data_preprocessor(batch(), training=True)
    data["inputs"].fill_(float("nan"))
    total, _ = model.parse_losses(model(**data, mode="loss"))
    assert total.isnan()  # and no error on the way, so that the guard of the training loop can name the step
    assert [len(sample.pred_instances) for sample in model.eval()(**data, mode="predict")] == [0, 0]


def test_every_picture_keeps_its_own_padded_shape_and_masks_are_padded():
    data = DataPreprocessor(pad_size_divisor=32)(batch((1, 0)), training=True)
    first, second = data["data_samples"]
    assert data["inputs"].shape == (2, 3, 128, 96)
    assert (first.pad_shape, second.pad_shape) == ((64, 96), (128, 96))
    assert first.batch_input_shape == second.batch_input_shape == (128, 96)
    assert first.gt_instances.masks.shape == (1, 128, 96) and second.gt_instances.masks.shape == (0, 128, 96)
    assert first.gt_instances.masks.sum() == 60 * 90
    untouched = DataPreprocessor(pad_size_divisor=32)(batch())["data_samples"][0]
    assert untouched.gt_instances.masks.shape == (1, 60, 90)


@pytest.mark.parametrize("kind", MODELS_UNDER_TEST)
def test_half_precision_trains_and_predicts_in_single(kind):
    model = build(kind, test_cfg=dict(score_thr=0.0) if kind == "one" else dict(rcnn=dict(score_thr=0.0)))
    plain = model.parse_losses(model(**model.data_preprocessor(batch((1, 1)), training=True), mode="loss"))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model.parse_losses(model(**model.data_preprocessor(batch((1, 1)), training=True), mode="loss"))[0]
        found = model.eval()(**model.data_preprocessor(batch()), mode="predict")
    assert half.item() == pytest.approx(plain.item(), rel=0.1)
    half.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    for sample in found:
        assert sample.pred_instances.bboxes.dtype == sample.pred_instances.scores.dtype == torch.float32
