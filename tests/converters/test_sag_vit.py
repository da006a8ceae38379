"""Names of the published SAG-ViT checkpoints and of torchvision's EfficientNetV2-S load strictly into our models."""

import json
from pathlib import Path

import convert_checkpoint
import pytest
import torch
from torch import Tensor

from visionpatch.backbones import EfficientNetV2
from visionpatch.backbones.sag_vit import PUBLISHED, SAGViT
from visionpatch.converters import efficientnet_v2, sag_vit
from visionpatch.errors import WeightsError
from visionpatch.heads import LinearClsHead, MLPClsHead
from visionpatch.models import Classifier

CASE = json.loads((Path(__file__).parents[1] / "golden/sag_vit/small_cls/case.json").read_text())


def published() -> dict[str, Tensor]:
    """A checkpoint with the names and shapes of the published code's, no two values alike."""
    shapes = CASE["state"] | dict.fromkeys(CASE["ignored"], [])
    sizes = [torch.Size(shape).numel() for shape in shapes.values()]
    values = torch.arange(sum(sizes), dtype=torch.float64).split(sizes)
    return {name: value.view(shape) for (name, shape), value in zip(shapes.items(), values)}


def model() -> Classifier:
    return Classifier(SAGViT(out_indices=(3,), **PUBLISHED), MLPClsHead(64, 10)).double()


def test_a_published_checkpoint_loads_strictly():
    state = published()
    assert len(state) == 416 + 64
    net = model()
    net.load_state_dict(sag_vit.convert(state), strict=True)
    ours, trunk = net.backbone, net.backbone.trunk
    for name, tensor in {
        "positional_embedding": ours.position,
        "extra_embedding": ours.extra,
        "gcn.conv1.att_src": ours.gat.source,
        "gcn.conv1.att_dst": ours.gat.target,
        "gcn.conv1.lin.weight": ours.gat.proj.weight,
        "gcn.conv2.bias": ours.gcn.bias,
        "transformer_encoder.transformer_encoder.layers.1.self_attn.in_proj_weight": ours.encoder[1].qkv.weight,
        "transformer_encoder.transformer_encoder.layers.0.self_attn.out_proj.bias": ours.encoder[0].proj.bias,
        "transformer_encoder.transformer_encoder.layers.0.linear2.weight": ours.encoder[0].fc2.weight,
        "mlp.mlp.2.weight": net.head.fc[2].weight,
        "cnn.extractor.0.1.running_var": trunk.stem.norm.running_var,
        "cnn.extractor.1.1.block.0.0.weight": trunk.stages[0][1].expand.conv.weight,
        "cnn.extractor.2.3.block.1.1.bias": trunk.stages[0][5].project.norm.bias,
        "cnn.extractor.3.0.block.0.0.weight": trunk.stages[1][0].expand.conv.weight,
        "cnn.extractor.4.5.block.2.fc1.bias": trunk.stages[2][5].excite.fc1.bias,
        "cnn.extractor.5.0.block.1.0.weight": trunk.stages[2][6].depthwise.conv.weight,
        "cnn.extractor.5.8.block.3.1.running_mean": trunk.stages[2][14].project.norm.running_mean,
    }.items():
        assert torch.equal(tensor.flatten(), state[name].flatten()), name


def test_both_spellings_and_the_prefix_of_several_devices():
    state = published()
    older = {f"module.{k.replace('conv1.lin.', 'conv1.lin_src.')}": v for k, v in state.items()}
    assert "module.gcn.conv1.lin_src.weight" in older
    new, old = sag_vit.convert(state), sag_vit.convert(older)
    assert new.keys() == old.keys() and all(torch.equal(new[key], old[key]) for key in new)


def test_a_checkpoint_without_counters_of_batches():
    state = {name: tensor for name, tensor in published().items() if not name.endswith("num_batches_tracked")}
    net = model()
    net.load_state_dict(sag_vit.convert(state), strict=True)  # torch fills in the counters of such older files
    assert net.backbone.trunk.stem.norm.num_batches_tracked == 0


def torchvision_state() -> dict[str, Tensor]:
    """The whole classifier under torchvision's names: children 0..5 as in SAG-ViT's file, 6 and 7 by their pattern."""
    state = {
        name.replace("cnn.extractor", "features"): tensor
        for name, tensor in published().items()
        if name.startswith("cnn.")
    }
    leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for i in range(15):
        for part in (0, 1, 3):
            state[f"features.6.{i}.block.{part}.0.weight"] = torch.randn(1)
            state |= {f"features.6.{i}.block.{part}.1.{leaf}": torch.randn(1) for leaf in leaves}
        state |= {f"features.6.{i}.block.2.fc{n}.{leaf}": torch.randn(1) for n in (1, 2) for leaf in leaves[:2]}
    state["features.7.0.weight"] = torch.randn(1)
    state |= {f"features.7.1.{leaf}": torch.randn(1) for leaf in leaves}
    return state | {f"classifier.1.{leaf}": torch.randn(1) for leaf in leaves[:2]}


def test_torchvision_names_are_ours():
    with torch.device("meta"):
        net = Classifier(EfficientNetV2(with_head_conv=True), LinearClsHead(1280, 1000))
    converted = efficientnet_v2.convert(torchvision_state())
    assert set(converted) == {name for name in net.state_dict() if not name.startswith("data_preprocessor.")}
    trunk = {f"backbone.{name}" for name in EfficientNetV2(out_indices=(0, 1, 2)).state_dict()}
    assert trunk < set(converted)


@pytest.mark.parametrize(
    "name",
    [
        "cnn.extractor.6.0.block.0.0.weight",  # a stage the published model does not have
        "cnn.extractor.1.0.block.1.0.weight",  # a single convolution has no second one
        "cnn.extractor.4.0.block.2.0.weight",
        "cnn.extractor.4.0.block.3.fc1.weight",
        "gcn.conv1.lin_dst.weight",
        "transformer_encoder.transformer_encoder.layers.0.linear3.weight",
        "mlp.mlp.1.weight",
        "features.0.0.weight",
    ],
)
def test_unknown_names_are_refused(name):
    with pytest.raises(WeightsError, match=f'"{name}" is not a tensor of a published SAG-ViT checkpoint'):
        sag_vit.convert({"mlp.mlp.0.bias": torch.zeros(1), name: torch.zeros(1)})


def test_unknown_names_of_torchvision_are_refused():
    with pytest.raises(WeightsError, match=r'"features\.8\.0\.weight" is not a tensor of torchvision'):
        efficientnet_v2.convert({"features.8.0.weight": torch.zeros(1)})


def test_the_tool_converts_files(tmp_path):
    state = {name: tensor.float() for name, tensor in published().items()}
    torch.save(state, tmp_path / "SAG-ViT.pth")
    assert convert_checkpoint.main(["sag_vit", str(tmp_path / "SAG-ViT.pth"), str(tmp_path / "ours.safetensors")]) == 0
    written = convert_checkpoint.convert("plain", str(tmp_path / "ours.safetensors"))
    assert torch.equal(written["backbone.extra"], state["extra_embedding"][0])
    model().float().load_state_dict(written, strict=True)
