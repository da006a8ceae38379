"""Key names of the published CrossFormer checkpoints load strictly into our models."""

import convert_checkpoint
import pytest
import torch

from visionpatch.apis import get_config, get_model
from visionpatch.converters.crossformer import convert, progressive_group_sizes
from visionpatch.errors import ConfigError, WeightsError
from visionpatch.models import Classifier, Segmentor

TINY = dict(embed_dims=32, depths=(1, 2, 3, 1), num_heads=(1, 2, 4, 8), cooling=True)
CHANNELS = (32, 64, 128, 256)


def backbone(**more):
    return dict(type="CrossFormer", arch=TINY, **more)


def published_names(model):
    """The tensors of one of our models under their published names: a classification file has no prefix."""
    return {
        name.replace("backbone.", "").replace("head.fc.", "head."): torch.randn_like(tensor)
        for name, tensor in model.state_dict().items()
    }


def test_classification_checkpoint_loads_strictly():
    model = Classifier(
        backbone(out_indices=(3,), out_norm=True), dict(type="LinearClsHead", in_channels=256, num_classes=7)
    )
    published = published_names(model)
    published["layers.0.blocks.0.attn.biases"] = torch.zeros(169, 2)  # index tables of the first release
    published["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    model.load_state_dict(convert(published), strict=True)
    assert torch.equal(model.head.fc.weight, published["head.weight"])
    assert torch.equal(model.backbone.layers[2].blocks[2].mlp.fc2.bias, published["layers.2.blocks.2.mlp.fc2.bias"])
    assert torch.equal(
        model.backbone.layers[2].blocks[0].attn.pos.pos3[2].bias, published["layers.2.blocks.0.attn.pos.pos3.2.bias"]
    )


@pytest.mark.parametrize("wrapped", ["", "module."])
def test_segmentation_checkpoints_load_strictly(wrapped):
    head = dict(num_classes=5, channels=8)
    fpn = Segmentor(
        backbone(),
        dict(type="FPNHead", in_channels=(16,) * 4, feature_strides=(4, 8, 16, 32), **head),
        neck=dict(type="FPN", in_channels=CHANNELS, out_channels=16, num_outs=4),
    )
    upernet = Segmentor(
        backbone(),
        dict(type="UPerHead", in_channels=CHANNELS, **head),
        auxiliary_head=dict(type="FCNHead", in_channels=128, in_index=2, num_convs=1, concat_input=False, **head),
    )
    for model, names in (
        (fpn, ("neck.lateral_convs.0.conv.bias", "decode_head.scale_heads.3.4.bn.running_mean")),
        (upernet, ("decode_head.psp_modules.3.1.conv.weight", "auxiliary_head.convs.0.bn.weight")),
    ):
        published = {wrapped + name: torch.randn_like(t.float()) for name, t in model.state_dict().items()}
        assert all(wrapped + name in published for name in names)
        model.load_state_dict(convert(published), strict=True)


DETECTORS = {  # what mmdet's RetinaNet and Mask R-CNN name the layers behind the backbone
    "retinanet": [f"neck.lateral_convs.{i}.conv" for i in range(3)]
    + [f"neck.fpn_convs.{i}.conv" for i in range(5)]
    + [f"bbox_head.{tower}_convs.{i}.conv" for tower in ("cls", "reg") for i in range(4)]
    + ["bbox_head.retina_cls", "bbox_head.retina_reg"],
    "mask-rcnn": [f"neck.{part}_convs.{i}.conv" for part in ("lateral", "fpn") for i in range(4)]
    + [f"rpn_head.rpn_{part}" for part in ("conv", "cls", "reg")]
    + [f"roi_head.bbox_head.{part}" for part in ("shared_fcs.0", "shared_fcs.1", "fc_cls", "fc_reg")]
    + [f"roi_head.mask_head.convs.{i}.conv" for i in range(4)]
    + ["roi_head.mask_head.upsample", "roi_head.mask_head.conv_logits"],
}


@pytest.mark.parametrize("kind", DETECTORS)
def test_detection_checkpoints_load_strictly(tmp_path, kind):
    """A file as mmdet 2 saves it, converted by the tool, fills the whole model of the config."""
    cfg = get_config(f"crossformer-s_{kind}_8xb2-1x_coco")
    cfg.model.backbone.arch, cfg.model.neck.in_channels = TINY, CHANNELS
    ours = get_model(cfg).state_dict()
    layers = [f"{layer}.{leaf}" for layer in DETECTORS[kind] for leaf in ("weight", "bias")]
    names = [name for name in ours if name.startswith("backbone.")] + layers
    published = {name: torch.full_like(ours[name], i % 97) for i, name in enumerate(names)}
    published["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    meta = dict(epoch=12, config="model = dict()", CLASSES=("person", "bicycle"))
    torch.save(dict(meta=meta, state_dict=published, optimizer={}), tmp_path / "epoch_12.pth")
    assert convert_checkpoint.main(["crossformer", str(tmp_path / "epoch_12.pth"), str(tmp_path / "ours.pth")]) == 0
    filled = get_model(cfg, tmp_path / "ours.pth").state_dict()
    assert filled.keys() == set(names)
    assert all(torch.equal(filled[name], published[name]) for name in names)


def test_unknown_names_are_refused():
    with pytest.raises(
        WeightsError, match=r'"layers\.0\.blocks\.0\.attn\.rpe\.weight" is not a tensor of a published CrossFormer'
    ):
        convert({"patch_embed.projs.0.weight": torch.zeros(1), "layers.0.blocks.0.attn.rpe.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r'"backbone\.head\.weight"'):
        convert({"backbone.head.weight": torch.zeros(1)})


def test_progressive_group_sizes():
    published = [[4, 7], [5, 6], [4, 4, 5, 5, 6, 6, *[7] * 8, *[14] * 4], [7, 7]]
    assert progressive_group_sizes("linear_div", 56, (2, 2, 18, 2), (4, 4, 14, 7)) == published
    assert progressive_group_sizes("7_14", 56, (1, 1, 6, 1), (4, 4, 14, 7)) == [[4], [4], [7] * 4 + [14] * 2, [7]]
    assert progressive_group_sizes("constant", 56, (1, 2), (4, 7)) == [[4], [7, 7]]
    with pytest.raises(ConfigError, match='did you mean "linear" or "linear_div"'):
        progressive_group_sizes("liner", 56, (1,), (4,))
