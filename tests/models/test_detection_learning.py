"""A tiny RetinaNet, Mask R-CNN and Cascade Mask R-CNN fit a few drawn pictures: targets, losses and decoding agree."""

import pytest
import torch
from mmengine.structures import InstanceData

from visionpatch.heads.box_coder import box_iou
from visionpatch.models import Detector
from visionpatch.structures import DataSample

SIDE, CHANNELS = 96, (16, 32, 64, 128)
BACKBONE = dict(
    type="CrossFormer",
    arch=dict(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)),
    drop_path_rate=0.0,
)
RETINA = dict(
    neck=dict(
        type="FPN", in_channels=CHANNELS, out_channels=32, start_level=1, add_extra_convs="on_output", num_outs=4
    ),
    bbox_head=dict(
        type="RetinaHead",
        num_classes=2,
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        anchor_generator=dict(
            type="AnchorGenerator",
            octave_base_scale=2,
            scales_per_octave=3,
            ratios=(0.5, 1.0, 2.0),
            strides=(8, 16, 32, 64),
        ),
    ),
)


def extractor(side):
    layer = dict(type="RoIAlign", output_size=side, sampling_ratio=0)
    return dict(type="SingleRoIExtractor", roi_layer=layer, out_channels=32, featmap_strides=(4, 8, 16, 32))


MASK = dict(
    neck=dict(type="FPN", in_channels=CHANNELS, out_channels=32, num_outs=5),
    rpn_head=dict(type="RPNHead", in_channels=32, feat_channels=32),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=extractor(7),
        bbox_head=dict(type="Shared2FCBBoxHead", in_channels=32, fc_out_channels=64, num_classes=2),
        mask_roi_extractor=extractor(14),
        mask_head=dict(type="FCNMaskHead", num_convs=1, in_channels=32, conv_out_channels=32, num_classes=2),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(type="RandomSampler", num=64, pos_fraction=0.5, add_gt_as_proposals=False)),
        rpn_proposal=dict(nms_pre=100, max_per_img=30),
        rcnn=dict(sampler=dict(type="RandomSampler", num=24, pos_fraction=0.33)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=30), rcnn=dict(score_thr=0.3)),
)


STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
BOX_HEAD = dict(MASK["roi_head"]["bbox_head"], reg_class_agnostic=True, loss_bbox=dict(type="SmoothL1Loss", beta=1.0))
CASCADE = dict(
    MASK,
    roi_head=dict(
        MASK["roi_head"],
        type="CascadeRoIHead",
        bbox_head=[dict(BOX_HEAD, bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_stds=stds)) for stds in STDS],
    ),
    train_cfg=dict(MASK["train_cfg"], rcnn=[MASK["train_cfg"]["rcnn"]] * 3),
)


def pictures(number=4):
    """Grey pictures of a blue box and a red ellipse each."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    images, samples = [], []
    for i in range(number):
        image, boxes, masks = torch.full((3, SIDE, SIDE), 60, dtype=torch.uint8), [], []
        labels = torch.tensor([i % 2, (i + 1) % 2])
        for k, label in enumerate(labels):
            width, height = (int(n) for n in torch.randint(24, 44, (2,), generator=generator))
            left = int(torch.randint(0, SIDE // 2 - width + 1, (1,), generator=generator)) + k * SIDE // 2
            top = int(torch.randint(0, SIDE - height, (1,), generator=generator))
            u, v = (x - left) / width, (y - top) / height
            box = (u > 0) & (u < 1) & (v > 0) & (v < 1)
            mask = ((u - 0.5) ** 2 + (v - 0.5) ** 2 <= 0.25) if label else box
            image[:, mask] = torch.tensor([30, 30, 220] if label else [220, 40, 40], dtype=torch.uint8)[:, None]
            boxes.append([left, top, left + width, top + height])
            masks.append(mask)
        sample = DataSample(metainfo=dict(img_path=f"{i}.png", img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE)))
        objects = dict(bboxes=torch.tensor(boxes).float(), labels=labels, masks=torch.stack(masks).byte())
        sample.gt_instances = InstanceData(**objects)
        images.append(image)
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def fit(parts, steps, rate):
    """The trained model's loss at the first and the last step, and its predictions for the pictures."""
    torch.manual_seed(0)
    model = Detector(BACKBONE, **parts).train()
    data = model.data_preprocessor(pictures(), training=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
    totals = []
    for _ in range(steps):
        total, _ = model.parse_losses(model(**data, mode="loss"))
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        totals.append(total.item())
    return totals[0], totals[-1], model.eval()(**data, mode="predict")


def average_precision(samples):
    """Mean precision at every object found, best score first, of all classes and pictures together; IoU above 0.5."""
    ranked = []
    for sample in samples:
        objects, found = sample.gt_instances, sample.pred_instances
        same = found.labels[:, None] == objects.labels
        iou = torch.where(same, box_iou(found.bboxes, objects.bboxes), 0.0)
        free = set(range(len(objects)))
        for score, row in zip(found.scores, iou, strict=True):
            best = int(row.argmax())
            hit = bool(row[best] > 0.5) and best in free
            free -= {best} if hit else set()
            ranked.append((float(score), hit))
    hits = torch.tensor([hit for _, hit in sorted(ranked, reverse=True)], dtype=torch.float32)
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / sum(len(sample.gt_instances) for sample in samples))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_retinanet_fits_four_pictures():
    first, last, samples = fit(RETINA, steps=100, rate=3e-3)
    assert last < 0.1 * first
    assert average_precision(samples) > 0.9


@pytest.mark.parametrize("parts", [MASK, CASCADE], ids=["mask_rcnn", "cascade_mask_rcnn"])
def test_mask_rcnn_fits_four_pictures(parts):
    first, last, samples = fit(parts, steps=80, rate=3e-3)
    assert last < 0.3 * first
    assert average_precision(samples) > 0.9
    for sample in samples:
        objects, found = sample.gt_instances, sample.pred_instances
        index = box_iou(objects.bboxes, found.bboxes).argmax(1)
        mask, truth = found.masks[index], objects.masks.bool()
        overlap = (mask & truth).sum((1, 2)) / (mask | truth).sum((1, 2))
        assert overlap.min() > 0.75
