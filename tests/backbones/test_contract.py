"""The backbone contract over every registered backbone, and that none is missing here."""

import importlib
import pkgutil
from functools import partial

import pytest
from torch import nn

import visionpatch.backbones
from visionpatch.registry import MODELS

from .contract import BackboneContract

CASES = {
    "CrossFormer": dict(arch=dict(embed_dims=16, depths=(1, 2, 2, 1), num_heads=(1, 2, 4, 8))),
    "EfficientNetLite": dict(arch="lite0"),
    "EfficientNetV2": dict(out_indices=(0, 1, 2)),
    "ResNet": dict(depth=18, deep_stem=True, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True),
    "SAGViT": dict(
        trunk=dict(type="EfficientNetLite", out_indices=(0, 1, 2)), patch_size=2, tokens="nodes", edges="similarity",
        refine=True,
    ),
}  # fmt: skip


def registered() -> dict[str, type[nn.Module]]:
    """Name -> class of every backbone in the registry, whichever file of the package holds it."""
    for module in pkgutil.iter_modules(visionpatch.backbones.__path__):
        importlib.import_module(f"visionpatch.backbones.{module.name}")
    return {k: v for k, v in MODELS.module_dict.items() if v.__module__.startswith("visionpatch.backbones.")}


def test_no_backbone_is_left_out():
    assert set(CASES) == set(registered())


def test_the_package_exports_every_backbone():
    assert set(visionpatch.backbones.__all__) == set(registered())


class TestContract(BackboneContract):
    @pytest.fixture(params=sorted(CASES))
    def build(self, request):
        return partial(registered()[request.param], **CASES[request.param])
