"""Names of SBER-MoVQGAN and of diffusers' VQModel, both ways, and moving averages."""

import json
from pathlib import Path

import convert_checkpoint
import pytest
import torch
from torch import Tensor

from visionpatch.converters import lpips, movq
from visionpatch.errors import WeightsError
from visionpatch.losses import LPIPS
from visionpatch.models import ImageTokenizer

GOLDEN = Path(__file__).parents[1] / "golden/movq"
CASE = json.loads((GOLDEN / "codec_small/case.json").read_text())
# diffusers' name, ours, whether it is a matrix there
PAIRS = [
    ("encoder.conv_in.weight", "encoder.conv_in.weight", False),
    ("encoder.down_blocks.1.resnets.0.conv_shortcut.bias", "encoder.down.1.block.0.nin_shortcut.bias", False),
    ("encoder.down_blocks.3.attentions.0.group_norm.weight", "encoder.down.3.attn.0.norm.weight", False),
    ("encoder.down_blocks.3.attentions.0.to_out.0.weight", "encoder.down.3.attn.0.proj_out.weight", True),
    ("encoder.down_blocks.0.downsamplers.0.conv.bias", "encoder.down.0.downsample.conv.bias", False),
    ("encoder.mid_block.resnets.1.norm2.bias", "encoder.mid.block_2.norm2.bias", False),
    ("encoder.conv_norm_out.weight", "encoder.norm_out.weight", False),
    ("decoder.mid_block.resnets.0.norm1.conv_y.weight", "decoder.mid.block_1.norm1.conv_y.weight", False),
    ("decoder.mid_block.attentions.0.spatial_norm.norm_layer.bias", "decoder.mid.attn_1.norm.norm_layer.bias", False),
    ("decoder.mid_block.attentions.0.to_q.weight", "decoder.mid.attn_1.q.weight", True),
    ("decoder.up_blocks.0.attentions.1.spatial_norm.conv_b.weight", "decoder.up.3.attn.1.norm.conv_b.weight", False),
    ("decoder.up_blocks.0.attentions.0.to_v.bias", "decoder.up.3.attn.0.v.bias", False),
    ("decoder.up_blocks.3.resnets.1.norm2.norm_layer.weight", "decoder.up.0.block.1.norm2.norm_layer.weight", False),
    ("decoder.up_blocks.2.upsamplers.0.conv.weight", "decoder.up.1.upsample.conv.weight", False),
    ("decoder.conv_norm_out.conv_b.bias", "decoder.norm_out.conv_b.bias", False),
    ("quantize.embedding.weight", "quantizer.embedding.weight", False),
    ("post_quant_conv.bias", "post_quant_conv.bias", False),
]


def model() -> ImageTokenizer:
    return ImageTokenizer(channels=32, num_res_blocks=1, codebook_size=256)


def published() -> dict[str, Tensor]:
    """SBER's names, no two tensors alike."""
    return {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(CASE["state"].items())}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_published_checkpoint_loads_strictly_and_goes_back():
    state = published()
    net = model()
    extra = {"loss.discriminator.main.0.weight": torch.zeros(1), "ema_encoder.decay": torch.zeros(())}
    net.load_state_dict(movq.convert({f"module.{name}": x for name, x in (state | extra).items()}), strict=True)
    assert net.decoder.up[0].block[1].norm2.conv_y.bias[0] == state["decoder.up.0.block.1.norm2.conv_y.bias"][0]
    assert equal(movq.to_sber(net.state_dict()), state)


def test_diffusers_both_ways():
    ours = movq.convert(published())
    theirs = movq.to_diffusers(ours)
    assert len(theirs) == len(ours) == 311
    for name, own, matrix in PAIRS:
        expected = ours[own][:, :, 0, 0] if matrix else ours[own]
        assert torch.equal(theirs[name], expected), name
    assert not any(word in name for name in theirs for word in (".mid.", ".down.", ".up.", ".attn", "nin_", ".q."))
    assert equal(movq.convert(theirs), ours)


def test_diffusers_older_names():
    ours = movq.convert(published())
    now = dict(to_q="query", to_k="key", to_v="value")
    older = {}
    for name, tensor in movq.to_diffusers(ours).items():
        for new, old in now.items():
            name = name.replace(f".{new}.", f".{old}.")
        older[name.replace(".to_out.0.", ".proj_attn.")] = tensor
    assert "decoder.mid_block.attentions.0.query.weight" in older
    assert equal(movq.convert(older), ours)


@pytest.mark.parametrize(("arch", "tensors"), [("67M", 431), ("102M", 671), ("270M", 431)])
def test_released_shapes_have_the_published_tensors(arch, tensors):
    with torch.device("meta"):
        net = ImageTokenizer(arch)
    assert len(movq.to_sber(net.state_dict())) == len(movq.to_diffusers(net.state_dict())) == tensors
    numbers = {"67M": 67_832_495, "102M": 101_614_255, "270M": 270_669_103}
    assert sum(p.numel() for p in net.parameters()) == numbers[arch]


def test_moving_averages_stand_for_the_weights():
    state = published()
    averages = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        averages[f"ema_{part}.{rest.replace('.', '')}"] = tensor + 0.5
    assert "ema_decoder.mid" not in averages and "ema_quantize.embeddingweight" in averages
    whole = state | averages | {"ema_decoder.decay": torch.tensor(0.9999), "ema_decoder.num_updates": torch.tensor(3)}
    assert equal(movq.convert(whole), movq.convert(state))
    assert equal(movq.convert(whole, ema=True), movq.convert({name: x + 0.5 for name, x in state.items()}))
    del whole["ema_decoder.mid" + "block_1norm1norm_layerweight"]
    with pytest.raises(WeightsError, match='no moving average "ema_decoder.midblock_1norm1norm_layerweight"'):
        movq.convert(whole, ema=True)
    with pytest.raises(WeightsError, match="diffusers holds no moving averages"):
        movq.convert(movq.to_diffusers(movq.convert(state)), ema=True)


@pytest.mark.parametrize(
    "name",
    ["encoder.mid.attn_2.q.weight", "decoder.up.0.block.0.conv3.weight", "encoder.norm_in.weight", "head.fc.weight"],
)
def test_unknown_names_are_refused(name):
    with pytest.raises(WeightsError, match=f'"{name}" is not a tensor of a published MoVQ checkpoint'):
        movq.convert(published() | {name: torch.zeros(1)})


def test_unknown_names_of_diffusers_are_refused():
    name = "decoder.up_blocks.0.attentions.0.to_add.weight"
    with pytest.raises(WeightsError, match=f'"{name}" is not a tensor'):
        movq.convert(movq.to_diffusers(movq.convert(published())) | {name: torch.zeros(1)})
    with pytest.raises(WeightsError, match="has no place in a published"):
        movq.to_sber(ImageTokenizer(channels=32, num_res_blocks=1, codebook_size=8, ema_decay=0.9).state_dict())


def test_the_tool_converts_files(tmp_path):
    paths = [str(tmp_path / name) for name in ("movqgan.ckpt", "ours.pth", "diffusers.safetensors", "again.pth")]
    torch.save({"state_dict": published()}, paths[0])
    for source, a, b in zip(("movq", "movq_to_diffusers", "movq"), paths, paths[1:]):
        assert convert_checkpoint.main([source, a, b]) == 0
    assert equal(convert_checkpoint.convert("plain", paths[3]), movq.convert(published()))


def lpips_state() -> dict[str, Tensor]:
    state = json.loads((GOLDEN / "losses/case.json").read_text())["state"]
    names = {name.removeprefix("perceptual_loss."): x for name, x in state.items() if "perceptual_loss" in name}
    return {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(names.items())}


def test_the_lpips_file_with_its_network_or_without(tmp_path):
    state = lpips_state()
    whole, weights, vgg = (str(tmp_path / name) for name in ("vgg.pth", "lin.pth", "vgg16.pth"))
    torch.save(state, whole)
    torch.save({name: x for name, x in state.items() if name.startswith("lin")}, weights)
    network = {f"features.{name.split('.', 2)[2]}": x for name, x in state.items() if name.startswith("net.")}
    torch.save(network | {"classifier.0.weight": torch.zeros(1)}, vgg)
    one, other = LPIPS(whole), LPIPS(weights, vgg)
    assert one.lin[4][0] == state["lin4.model.1.weight"][0, 0]
    assert one.slices[4][2].weight.max() == state["net.slice5.28.weight"].max()
    assert equal(dict(one.tensors()), dict(other.tensors()))
    with pytest.raises(WeightsError, match="lacks 26 of 31 weights of LPIPS; it holds no network: give vgg"):
        LPIPS(weights)
    with pytest.raises(WeightsError, match="no such file"):
        LPIPS(str(tmp_path / "none.pth"))
    with pytest.raises(WeightsError, match='"net.slice1.5.weight" is not a tensor'):
        lpips.convert({"net.slice1.5.weight": torch.zeros(1)})
