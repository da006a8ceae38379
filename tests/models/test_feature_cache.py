"""FeatureCache: what is computed again, and what is not."""

import copy

import pytest
import torch
from torch import Tensor, nn

from visionpatch.errors import ConfigError
from visionpatch.models import FewShotSegmentor
from visionpatch.models.feature_cache import FeatureCache

HEAD = dict(type="PrototypeHead", in_channels=320)


class Counted(nn.Module):
    """Two maps of a picture; counts the pictures it sees."""

    out_channels, out_strides = (4, 3), (1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.seen = 0

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        self.seen += len(image)
        return self.conv(image), image[..., ::2, ::2]


def pictures(number: int, seed: int = 0) -> Tensor:
    return torch.randn(number, 3, 6, 8, generator=torch.Generator().manual_seed(seed))


def test_a_picture_seen_before_is_not_computed_again_whatever_batch_it_is_in() -> None:
    backbone, cache, images = Counted(), FeatureCache(10), pictures(3)
    expected = backbone(images)
    backbone.seen = 0
    for order in ([0, 1, 0], [2, 1], [2, 0, 1, 1]):
        found = cache(backbone, images[order])
        for level, whole in zip(found, expected):
            torch.testing.assert_close(level, whole[order])
            assert not level.requires_grad
    assert backbone.seen == 3 and len(cache) == 3
    cache(backbone, images.flip(3))  # another picture, though of the same values
    cache(backbone, images.reshape(3, 3, 8, 6))
    assert backbone.seen == 9


def test_the_picture_unused_for_longest_is_forgotten() -> None:
    backbone, cache, images = Counted(), FeatureCache(2), pictures(3)
    for index in (0, 1, 0, 2, 0):  # 1 leaves when 2 comes
        cache(backbone, images[[index]])
    assert backbone.seen == 3
    cache(backbone, images[[1]])
    assert backbone.seen == 4
    assert [len(level) for level in cache(backbone, images)] == [3, 3]  # more than it may keep
    assert len(cache) == 2


def test_the_bits_do_not_depend_on_what_else_was_missing() -> None:
    backbone, images = FewShotSegmentor(dict(type="EfficientNetLite"), HEAD).backbone.eval(), pictures(4)
    images = images.repeat(1, 1, 8, 8)
    alone = [FeatureCache(1)(backbone, image[None]) for image in images]
    cache = FeatureCache(4)
    cache(backbone, images[1:3])
    for level, parts in zip(cache(backbone, images), zip(*alone)):
        assert torch.equal(level, torch.cat(parts))


@pytest.mark.parametrize("change", ["load", "step", "half", "autocast"])
def test_nothing_is_kept_across_a_change(change: str) -> None:
    backbone, cache, images = Counted(), FeatureCache(10), pictures(2)
    cache(backbone, images)
    if change == "load":
        backbone.load_state_dict({name: x + 1 for name, x in backbone.state_dict().items()})
    elif change == "step":
        with torch.no_grad():
            backbone.conv.bias += 1
    elif change == "half":
        backbone, images = backbone.bfloat16(), images.bfloat16()
    with torch.autocast("cpu", enabled=change == "autocast"):
        found, expected = cache(backbone, images)[0], backbone(images)[0]
    assert backbone.seen == 6
    assert found.dtype is expected.dtype
    torch.testing.assert_close(found, expected)


def test_none_are_kept_unless_asked_and_a_copy_starts_empty() -> None:
    backbone, cache = Counted(), FeatureCache(0)
    for _ in range(2):
        cache(backbone, pictures(1))
    assert backbone.seen == 2 and len(cache) == 0
    full = FeatureCache(5)
    full(backbone, pictures(2))
    assert len(full) == 2 and len(copy.deepcopy(full)) == 0 and copy.deepcopy(full).pictures == 5


def test_a_backbone_that_trains_is_not_cached() -> None:
    head = dict(type="PrototypeHead", in_channels=3)
    with pytest.raises(ConfigError, match="freeze_backbone = True"):
        FewShotSegmentor(Counted(), head, freeze_backbone=False, cached_pictures=5)
    with pytest.raises(ConfigError, match="cached_pictures = -1"):
        FewShotSegmentor(Counted(), head, cached_pictures=-1)
