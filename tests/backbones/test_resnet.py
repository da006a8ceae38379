"""ResNet: published sizes and names, folded batch norms, dilation, freezing, weights from a file."""

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

import visionpatch.engine  # noqa: F401  (registers Pretrained)
from visionpatch.backbones.resnet import ResNet
from visionpatch.errors import ConfigError, WeightsError
from visionpatch.layers.conv_norm import conv_norm

DILATED = dict(deep_stem=True, stem_channels=128, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True)
# parameters of the published classifiers without their last layer, 512 or 2048 times 1000 weights and 1000 biases
PARAMETERS = {18: 11_176_512, 34: 21_284_672, 50: 23_508_032, 101: 42_500_160, 152: 58_143_808}


@pytest.mark.parametrize("depth", PARAMETERS)
def test_sizes_are_the_published_ones(depth):
    with torch.device("meta"):
        net = ResNet(depth)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[depth]
    assert net.out_channels == ((64, 128, 256, 512) if depth < 50 else (256, 512, 1024, 2048))
    assert net.out_strides == (4, 8, 16, 32)


def test_names_are_those_of_openmmlab():
    with torch.device("meta"):
        plain, deep = ResNet(50).state_dict(), ResNet(50, **DILATED).state_dict()
    assert plain["conv1.weight"].shape == (64, 3, 7, 7) and "bn1.running_mean" in plain
    assert deep["stem.0.weight"].shape == (64, 3, 3, 3) and deep["stem.6.weight"].shape == (128, 64, 3, 3)
    assert deep["stem.7.running_var"].shape == (128,)
    assert deep["layer1.0.downsample.0.weight"].shape == (256, 128, 1, 1)
    assert set(deep) - set(plain) == {key for key in deep if key.startswith("stem.")}


def test_dilation_instead_of_stride():
    net = ResNet(50, out_indices=(1, 2, 3), **DILATED)
    assert (net.out_strides, net.out_channels) == ((8, 8, 8), (512, 1024, 2048))
    rates = [[block.conv2.dilation[0] for block in stage] for stage in net.stages]
    assert rates == [[1] * 3, [1] * 4, [1, 2, 2, 2, 2, 2], [2, 4, 4]]
    assert [stage[0].conv2.stride[0] for stage in net.stages] == [1, 2, 1, 1]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [3, 40])  # the norm is folded for the larger map only
def test_a_folded_norm_changes_neither_values_nor_gradients(training, size):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(8, 16, 3, 2, 1, bias=False).double(), nn.BatchNorm2d(16).double()
    for name, parameter in [*norm.named_parameters(), *norm.named_buffers()]:
        if name != "num_batches_tracked":
            nn.init.uniform_(parameter, 0.5, 2.0)
    norm.train(training)
    x = torch.randn(2, 8, size, size, dtype=torch.float64)
    results = []
    for run in (lambda: conv_norm(x, conv, norm), lambda: norm(conv(x))):
        norm.running_mean.fill_(0.7)
        y = run()
        results.append((y, *torch.autograd.grad(y.square().sum(), [conv.weight, norm.weight, norm.bias])))
    for given, expected in zip(*results, strict=True):
        torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("frozen", [-1, 0, 2, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_frozen_stages(frozen, deep):
    net = ResNet(18, deep_stem=deep, frozen_stages=frozen).train()
    stem = [net.stem] if deep else [net.conv1, net.bn1]
    for place, part in [*((0, part) for part in stem), *enumerate(net.stages, 1)]:
        assert all(module.training is (place > frozen) for module in part.modules())
        assert all(parameter.requires_grad is (place > frozen) for parameter in part.parameters())


def test_norm_eval_keeps_statistics():
    net = ResNet(18, norm_eval=True, out_indices=(0,)).train()
    before = net.bn1.running_mean.clone()
    net(torch.randn(2, 3, 32, 32))[0].sum().backward()
    assert torch.equal(net.bn1.running_mean, before) and net.bn1.weight.grad is not None


def test_weights_from_a_file(tmp_path):
    source = ResNet(18, out_indices=(0, 1))
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"backbone.{key}": value for key, value in source.state_dict().items()}}, path)
    net = ResNet(18, out_indices=(0, 1), pretrained=str(path))
    with DefaultScope.overwrite_default_scope("visionpatch"):  # as in a run
        net.init_weights()
        assert torch.equal(net.layer2[1].conv2.weight, source.layer2[1].conv2.weight)
        torch.save({"state_dict": {"backbone.conv1.weight": source.conv1.weight}}, path)
        with pytest.raises(WeightsError, match="fills 11 of the 60 keys"):
            ResNet(18, out_indices=(0, 1), pretrained=str(path)).init_weights()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(depth=51), "no depth 51; valid: 101, 152, 18, 34, 50"),
        (dict(out_indices=(1, 0)), "out_indices must ascend"),
        (dict(strides=(1, 2, 2)), r"strides = \(1, 2, 2\); expected 4 positive numbers"),
        (dict(dilations=(1, 1, 0, 1)), "dilations"),
        (dict(stem_channels=63), "must be even and positive, not 63"),
        (dict(out_indices=(0,), frozen_stages=2), r"frozen_stages must be in -1\.\.1, not 2"),
        (dict(pretrained="x.pth", init_cfg=dict(type="Pretrained", checkpoint="x.pth")), "not both"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ResNet(**arguments)
