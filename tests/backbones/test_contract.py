"""The backbone contract over every registered backbone, and that none is missing here."""

import importlib
import pkgutil
from functools import partial

import pytest
from torch import nn

import visionpatch.backbones
from visionpatch.backbones.pair_encoder import PairBackbone
from visionpatch.registry import MODELS

from .contract import BackboneContract

TRUNK = dict(type="EfficientNetLite", out_indices=(0, 1, 2))
CASES = {
    "CrossFormer": dict(arch=dict(embed_dims=16, depths=(1, 2, 2, 1), num_heads=(1, 2, 4, 8))),
    "DependencyViT": dict(
        arch=dict(embed_dims=24, num_layers=3, num_heads=3),
        img_size=64,
        out_indices=(0, 1, 2),
        prune=dict(blocks=(2,), ratio=0.3),
    ),
    "EfficientNetLite": dict(arch="lite0"),
    "EfficientNetV2": dict(out_indices=(0, 1, 2)),
    "ResNet": dict(depth=18, deep_stem=True, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True),
    "SAGViT": dict(trunk=TRUNK, patch_size=2, tokens="nodes", edges="similarity", refine=True),
}


def registered() -> dict[str, type[nn.Module]]:
    """Name -> class of every backbone of single pictures in the registry."""
    return {name: member for name, member in in_package().items() if not issubclass(member, PairBackbone)}


def in_package() -> dict[str, type[nn.Module]]:
    """Name -> class of every backbone, of pairs too, whichever file of the package holds it."""
    for module in pkgutil.iter_modules(visionpatch.backbones.__path__):
        importlib.import_module(f"visionpatch.backbones.{module.name}")
    return {k: v for k, v in MODELS.module_dict.items() if v.__module__.startswith("visionpatch.backbones.")}


def test_no_backbone_is_left_out():
    assert set(CASES) == set(registered())


def test_the_package_exports_every_backbone():
    assert set(visionpatch.backbones.__all__) == set(in_package())


class TestContract(BackboneContract):
    @pytest.fixture(params=sorted(CASES))
    def build(self, request):
        return partial(registered()[request.param], **CASES[request.param])
