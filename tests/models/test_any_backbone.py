"""Every method of the toolbox on every backbone: one training step and one prediction."""

from typing import Any

import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from torch import nn

from visionpatch.backbones import CrossFormer, DependencyViT, EfficientNetLite, SAGViT
from visionpatch.models import Classifier, Detector, FewShotSegmentor, Segmentor
from visionpatch.structures import DataSample

MICRO = dict(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))
TRUNK = dict(type="EfficientNetLite", out_indices=(0, 1, 2))
PLAIN = dict(arch=dict(embed_dims=24, num_layers=4, num_heads=3), img_size=64, out_indices=(0, 1, 2, 3))
# each gives four maps, of strides 4, 8, 16 and 32, DependencyViT after a neck
BACKBONES = {
    "CrossFormer": lambda: CrossFormer(MICRO),
    "DependencyViT": lambda: DependencyViT(**PLAIN),
    "DependencyViT, pruned": lambda: DependencyViT(**PLAIN, prune=dict(blocks=(2, 4), ratio=0.2)),
    "EfficientNetLite": lambda: EfficientNetLite("lite0"),
    "SAGViT": lambda: SAGViT(TRUNK, patch_size=2, tokens="nodes", refine=True),
    "SAGViT, pooled": lambda: SAGViT(TRUNK, patch_size=2),
}
STRIDES, SIZE = (4, 8, 16, 32), (60, 90)


def pyramid(backbone: Any) -> list[dict]:
    """The neck that makes four strides of one."""
    plain = len(set(backbone.out_strides)) == 1
    return [dict(type="FeaturePyramidFromPlain", in_channels=backbone.out_channels)] if plain else []


def classifier(backbone: Any) -> nn.Module:
    return Classifier(backbone, dict(type="LinearClsHead", in_channels=backbone.out_channels[-1], num_classes=3))


def semantic_fpn(backbone: Any) -> nn.Module:
    neck = dict(type="FPN", in_channels=backbone.out_channels, out_channels=16, num_outs=4)
    head = dict(type="FPNHead", in_channels=(16,) * 4, feature_strides=STRIDES, channels=16, num_classes=3)
    return Segmentor(backbone, head, neck=[*pyramid(backbone), neck])


def upernet(backbone: Any) -> nn.Module:
    head = dict(type="UPerHead", in_channels=backbone.out_channels, channels=16, num_classes=3)
    more = dict(type="FCNHead", in_channels=backbone.out_channels[2], in_index=2, channels=16, num_classes=3)
    return Segmentor(backbone, head, neck=pyramid(backbone) or None, auxiliary_head=more)


def retinanet(backbone: Any) -> nn.Module:
    neck = dict(type="FPN", in_channels=backbone.out_channels, out_channels=16, start_level=1, num_outs=5,
                add_extra_convs="on_output")  # fmt: skip
    head = dict(type="RetinaHead", num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1)
    return Detector(
        backbone, neck=[*pyramid(backbone), neck], bbox_head=head, test_cfg=dict(score_thr=0.0, max_per_img=10)
    )


def sccan(backbone: Any) -> nn.Module:
    small = dict(channels=16, map_size=16, depth=2, num_heads=2, patch_size=4, aspp_dilations=(2, 3))
    head = dict(type="SCCANHead", in_channels=backbone.out_channels[1:3], in_index=(1, 2), high_index=3, **small)
    return FewShotSegmentor(backbone, head)


MODELS = dict(classifier=classifier, semantic_fpn=semantic_fpn, upernet=upernet, retinanet=retinanet, sccan=sccan)


def picture(seed: int, **fields: Any) -> tuple[torch.Tensor, DataSample]:
    """An image with a bright rectangle, and its label, label map and box."""
    image = torch.randint(0, 100, (3, *SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    label_map = torch.zeros(1, *SIZE, dtype=torch.uint8)
    image[:, 10:40, 15:70] += 120
    label_map[:, 10:40, 15:70] = 1
    objects = InstanceData(bboxes=torch.tensor([[15.0, 10, 70, 40]]), labels=torch.tensor([2]))
    sample = DataSample(metainfo=dict(img_path=f"{seed}.png", img_shape=SIZE, ori_shape=SIZE, scale_factor=(1, 1)))
    known = dict(gt_label=torch.tensor([1]), gt_sem_seg=PixelData(data=label_map), gt_instances=objects)
    for name, value in (known | fields).items():
        setattr(sample, name, value)
    return image, sample


def batch(model: nn.Module) -> dict[str, Any]:
    few_shot, shots = isinstance(model, FewShotSegmentor), []
    if few_shot:
        image, shot = picture(9)
        shot.image = image
        shots = [shot]
    pairs = [picture(seed, **(dict(support=shots) if few_shot else {})) for seed in (0, 1)]
    return model.data_preprocessor(dict(inputs=[p[0] for p in pairs], data_samples=[p[1] for p in pairs]))


def check_prediction(kind: str, sample: DataSample) -> None:
    if kind == "classifier":
        assert sample.pred_score.shape == (3,) and sample.pred_score.sum().item() == pytest.approx(1, abs=1e-5)
    elif kind == "retinanet":
        assert len(sample.pred_instances) == 10 and sample.pred_instances.scores.isfinite().all()
    else:
        assert sample.pred_sem_seg.data.shape == (1, *SIZE)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_training_step_and_a_prediction(backbone: str, kind: str) -> None:
    torch.manual_seed(0)
    model = MODELS[kind](BACKBONES[backbone]())
    model.train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 1e-3)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    total, _ = model.parse_losses(model(**batch(model), mode="loss"))
    assert total.isfinite() and total > 0
    total.backward()
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if name in before and not torch.equal(p, before[name])}
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved >= trained and any(name.startswith("backbone.") for name in trained) is (kind != "sccan")
    with torch.no_grad():
        for sample in model.eval()(**batch(model), mode="predict"):
            check_prediction(kind, sample)
