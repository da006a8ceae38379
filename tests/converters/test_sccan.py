"""Key names of the published SCCAN checkpoints load strictly into our model; its published sizes."""

import pytest
import torch
from torch import nn

from visionpatch.apis.flops import count_macs
from visionpatch.backbones.resnet import ResNet
from visionpatch.converters.sccan import convert
from visionpatch.errors import WeightsError
from visionpatch.heads import SCCANHead
from visionpatch.models import FewShotSegmentor

DILATED = dict(deep_stem=True, stem_channels=128, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True)
TENSORS = {50: 489, 101: 744}
PARAMETERS = {50: 34_951_618, 101: 53_891_522}
LEARNABLE = 11_373_314
HEAD = {
    "decode_head.reduce_query.": "down_query.0.",
    "decode_head.reduce_support.": "down_supp.0.",
    "decode_head.merge_query.": "init_merge_query.0.",
    "decode_head.merge_support.": "init_merge_supp.0.",
    "decode_head.transformer.blocks.": "transformer.layers.0.blocks.",
    "decode_head.transformer.norm.": "transformer.norm0.",
    "decode_head.decoder.fuse.": "res1_meta.0.",
    "decode_head.decoder.residual.": "res2_meta.",
    "decode_head.decoder.classify.": "cls_meta.",
    **{f"decode_head.decoder.aspp.{i}.": f"ASPP_meta.layer6_{i}.0." for i in range(5)},
    **{f"backbone.stem.{3 * i}.": f"backbone.body.conv{i + 1}." for i in range(3)},
    **{f"backbone.stem.{3 * i + 1}.": f"backbone.body.bn{i + 1}." for i in range(3)},
    "backbone.layer": "backbone.body.layer",
}
SIDES = {
    "query_attn": "attn_q",
    "support_attn": "attn_s",
    "query_mlp": "mlp_q",
    "support_mlp": "mlp_s",
}


def build(depth: int) -> FewShotSegmentor:
    with torch.device("meta"):
        return FewShotSegmentor(ResNet(depth, out_indices=(1, 2, 3), frozen_stages=4, **DILATED), SCCANHead())


def published_names(model: nn.Module, prefix: str = "") -> dict[str, str]:
    """Our name -> published name of every tensor a published file holds: frozen norms count no batches."""
    names = {}
    for name in model.state_dict():
        if name.startswith("data_preprocessor.") or name.endswith("num_batches_tracked"):
            continue
        ours, theirs = next(pair for pair in HEAD.items() if name.startswith(pair[0]))
        found = theirs + name.removeprefix(ours)
        for side, letter in SIDES.items():
            found = found.replace(f".{side}.", f".{letter}.")
        names[name] = prefix + found
    return names


@pytest.mark.parametrize("depth", TENSORS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_checkpoints_fit_exactly(depth, prefix):
    model = build(depth)
    names = published_names(model, prefix)
    assert len(names) == TENSORS[depth]
    published = {theirs: model.state_dict()[ours] for ours, theirs in names.items()}
    converted = convert(published)
    assert {ours: published[theirs] for ours, theirs in names.items()} == converted
    left = set(model.state_dict()) - set(converted)
    assert all(name.endswith("num_batches_tracked") for name in left)


@pytest.mark.parametrize("depth", TENSORS)
def test_sizes_are_the_published_ones(depth):
    """Published frozen norms are buffers, so that their scales and shifts are no parameters there."""
    model = build(depth)
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    assert sum(p.numel() for p in model.parameters() if id(p) not in norms) == PARAMETERS[depth]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == LEARNABLE


def test_operations_are_those_of_the_published_network():
    """548 billion operations, 2 a multiply-add, are counted for the published code with one support at 473 x 473. Ours
    leave out the last block's support half, and count a pooled map's share of a convolution once."""
    macs = count_macs(build(50), (473, 473))
    assert 2 * macs / 1e9 == pytest.approx(548, rel=0.02)
    assert 2 * macs / 1e9 < 548


def test_imagenet_weights_of_the_backbone():
    net = build(50).backbone
    names = published_names(nn.ModuleDict({"backbone": net}))
    bare = {theirs.removeprefix("backbone.body."): net.state_dict()[ours.removeprefix("backbone.")]
            for ours, theirs in names.items()}  # fmt: skip
    converted = convert({**bare, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)})
    assert set(converted) == set(names)


@pytest.mark.parametrize(
    "name",
    [
        "backbone.body.fc.weight",
        "backbone.body.layer5.0.conv1.weight",
        "transformer.layers.1.blocks.0.norm1.weight",
        "transformer.layers.0.blocks.0.attn_x.q.weight",
        "ASPP_meta.layer6_5.0.weight",
        "cls_meta.3.running_mean",
        "learner_base.0.weight",
    ],
)
def test_unknown_names_are_refused(name):
    state = {"backbone.body.conv1.weight": torch.zeros(1), name: torch.zeros(1)}
    with pytest.raises(WeightsError, match=f'"{name}" is not a tensor of a published SCCAN checkpoint'):
        convert(state)
