"""Few-shot heads: what all promise, and the numbers of the prior, the prototypes and SCCAN."""

from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from torch import Tensor, nn
from torch.nn import functional as F

import visionpatch.heads  # noqa: F401  (registers)
from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.heads import PriorHead, PrototypeHead, SCCANHead
from visionpatch.heads.prior import prior_mask, support_keys
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

CHANNELS = (6, 8, 10)  # of maps of strides 4, 8, 8
SMALL = dict(channels=16, map_size=16, depth=2, num_heads=2, patch_size=4, aspp_dilations=(2, 3))
FEW_SHOT: dict[str, dict[str, Any]] = {
    "SCCANHead": dict(in_channels=CHANNELS[:2], in_index=(0, 1), high_index=2, **SMALL),
    "PrototypeHead": dict(in_channels=CHANNELS[1], in_index=1),
    "PriorHead": dict(in_channels=CHANNELS[2], in_index=-1, map_size=16),
}


def maps(number: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(number, c, -(-height // s), -(-width // s)) for c, s in zip(CHANNELS, (4, 8, 8))]
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def box(number: int, height: int, width: int) -> Tensor:
    masks = torch.zeros(number, height, width, dtype=torch.uint8)
    for k in range(number):
        masks[k, height // 4 + k : height // 2 + k, width // 3 : width // 2 + 3 * k + 2] = 1
    masks[:, :3] = 255
    return masks


def part(features: tuple[Tensor, ...], rows: slice) -> tuple[Tensor, ...]:
    return tuple(x[rows] for x in features)


def sample(labels: Tensor) -> DataSample:
    return DataSample(metainfo=dict(img_path="q.png"), gt_sem_seg=PixelData(data=labels))


@pytest.mark.parametrize("name", FEW_SHOT)
class TestFewShotHead:
    @pytest.fixture(autouse=True)
    def _seed(self) -> None:
        torch.manual_seed(0)

    def build(self, name: str, **more: Any) -> nn.Module:
        return MODELS.build(dict(type=name, **FEW_SHOT[name], **more)).eval()

    @pytest.mark.parametrize("size", [(64, 64), (48, 72), (33, 95)])
    def test_logits_of_any_size_and_a_set_of_another(self, name: str, size: tuple[int, int]) -> None:
        head = self.build(name)
        encoded = head.encode_support(maps(2, 40, 56), box(2, 40, 56))
        assert all(len(value) == 2 for value in encoded.values())
        logits = head(maps(3, *size), [encoded] * 3, size)
        assert logits.shape == (3, 2, *size) and logits.isfinite().all()
        assert logits.std() > 0

    def test_queries_do_not_see_each_other_nor_other_sets(self, name: str) -> None:
        """Mixed shots in one batch, and a set shared by two queries, equal every query alone."""
        head, queries = self.build(name), maps(3, 48, 64)
        one = head.encode_support(maps(1, 64, 64, 1), box(1, 64, 64))
        three = head.encode_support(maps(3, 40, 48, 2), box(3, 40, 48))
        support = [three, one, three]
        whole = head(queries, support, (48, 64))
        for i in range(3):
            alone = head(part(queries, slice(i, i + 1)), [support[i]], (48, 64))
            torch.testing.assert_close(alone[0], whole[i], rtol=1e-4, atol=1e-4)
        copies = [{key: value.clone() for key, value in encoded.items()} for encoded in support]
        torch.testing.assert_close(head(queries, copies, (48, 64)), whole, rtol=1e-4, atol=1e-4)

    def test_shots_are_encoded_one_by_one_or_together_in_any_order(self, name: str) -> None:
        head, features, masks = self.build(name), maps(3, 40, 48, 2), box(3, 40, 48)
        together = head.encode_support(features, masks)
        single = [head.encode_support(part(features, slice(k, k + 1)), masks[k : k + 1]) for k in (2, 0, 1)]
        joined = {key: torch.cat([encoded[key] for encoded in single]) for key in together}
        query = maps(1, 48, 64)
        expected = head(query, [together], (48, 64))
        torch.testing.assert_close(head(query, [joined], (48, 64)), expected, rtol=1e-4, atol=1e-4)
        twice = {key: torch.cat([value, value]) for key, value in together.items()}
        torch.testing.assert_close(head(query, [twice], (48, 64)), expected, rtol=1e-4, atol=1e-4)

    def test_an_empty_mask_is_allowed(self, name: str) -> None:
        head = self.build(name)
        encoded = head.encode_support(maps(1, 40, 48), torch.zeros(1, 40, 48, dtype=torch.uint8))
        logits = head(maps(1, 48, 64), [encoded], (48, 64))
        assert logits.isfinite().all()
        assert torch.equal(logits, head(maps(1, 48, 64), [encoded], (48, 64)))
        if name == "PriorHead":
            assert (logits.argmax(1) == 0).all()

    def test_unknown_mask_pixels_are_not_the_class(self, name: str) -> None:
        head, masks = self.build(name), box(1, 40, 48)
        if name == "PrototypeHead":
            pytest.skip("here pixels of 255 are left out of the rest as well")
        given, plain = (head.encode_support(maps(1, 40, 48), m) for m in (masks, masks * (masks == 1)))
        assert all(torch.equal(given[key], plain[key]) for key in given)

    def test_losses_and_predictions(self, name: str) -> None:
        head = self.build(name)
        encoded = head.encode_support(maps(1, 40, 48), box(1, 40, 48))
        labels = torch.randint(0, 2, (2, 1, 48, 64), generator=torch.Generator().manual_seed(0))
        labels[0, :, :8], labels[1] = 255, 0  # the second query does not show the class
        losses = head.loss(maps(2, 48, 64), [encoded] * 2, [sample(one) for one in labels])
        assert set(losses) == {"loss_dice", "acc_seg"} and losses["loss_dice"].isfinite()
        samples = [DataSample(metainfo=dict(img_shape=(48, 64))) for _ in range(2)]
        logits = head(maps(2, 48, 64), [encoded] * 2, (48, 64))
        for one, scores in zip(head.predict(maps(2, 48, 64), [encoded] * 2, samples), logits):
            assert torch.equal(one.pred_sem_seg.data, scores.argmax(0, keepdim=True))
        with pytest.raises(BadSampleError, match="label 3 found"):
            head.loss(maps(1, 48, 64), [encoded], [sample(torch.full((1, 48, 64), 3))])
        with pytest.raises(DataError, match=r"q\.png: no label map"):
            head.loss(maps(1, 48, 64), [encoded], [DataSample(metainfo=dict(img_path="q.png"))])

    def test_wrong_arguments(self, name: str) -> None:
        head = self.build(name)
        with pytest.raises(TypeError, match="no_such"):
            self.build(name, no_such=1)
        with pytest.raises(ConfigError, match=f"{name}: in_channels=.*set in_channels="):
            head.encode_support(tuple(x[:, :3] for x in maps(1, 40, 48)), box(1, 40, 48))
        encoded = head.encode_support(maps(1, 40, 48), box(1, 40, 48))
        with pytest.raises(ConfigError, match="2 support sets for 3 queries"):
            head(maps(3, 48, 64), [encoded] * 2, (48, 64))

    def test_the_state_dict_round_trip(self, name: str) -> None:
        first, second = self.build(name), self.build(name)
        second.load_state_dict(first.state_dict(), strict=True)
        results = []
        for head in (first, second):
            encoded = head.encode_support(maps(1, 40, 48), box(1, 40, 48))
            results.append(head(maps(1, 48, 64), [encoded], (48, 64)))
        assert torch.equal(*results)


def test_the_prior_enters_with_its_range():
    """(0, 10) is the published (0, 1) with weights ten times as large; (-5, 5) is shifted besides."""
    plain, ranged = (SCCANHead(**FEW_SHOT["SCCANHead"] | given).eval() for given in ({}, dict(prior_range=(0.0, 10.0))))
    ranged.load_state_dict(plain.state_dict())
    support = [plain.encode_support(maps(1, 40, 48), box(1, 40, 48))]
    assert not torch.allclose(plain(maps(1, 48, 64), support, (48, 64)), ranged(maps(1, 48, 64), support, (48, 64)))
    with torch.no_grad():
        ranged.merge_query.weight[:, -1] /= 10
    results = (head(maps(1, 48, 64), support, (48, 64)) for head in (plain, ranged))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    shifted = SCCANHead(**FEW_SHOT["SCCANHead"], prior_range=(-5.0, 5.0))
    shown = []
    shifted.merge_query.register_forward_pre_hook(lambda module, given: shown.append(given[2]))
    shifted(maps(1, 48, 64), support, (48, 64))
    assert shown[0].min() >= -5 and shown[0].max() <= 5 and shown[0].max() - shown[0].min() > 8
    with pytest.raises(ConfigError, match="prior_range=.*two numbers"):
        SCCANHead(**FEW_SHOT["SCCANHead"], prior_range=(1.0,))


def test_the_prior_by_hand():
    """Two query pixels, three support pixels of which the first is the class."""
    high = torch.tensor([[[[3.0, 0.0]], [[0.0, 2.0]]]])  # (1, 2, 1, 2): along x and along y
    support = torch.tensor([[[[1.0, 0.0, 0.0]], [[0.0, 5.0, 4.0]]]])
    mask = torch.tensor([[[[1.0, 0.0, 0.0]]]])
    keys = support_keys(support, (1, 3))
    assert prior_mask(high, keys, mask).flatten().tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    two = torch.cat([high, torch.full((1, 2, 1, 1), 1.0)], 3)  # a third pixel, halfway: cosine sqrt(1/2) with all
    e = torch.e
    values = torch.tensor([e / (e + 2), 1 / (1 + 2 * e), 1 / 3])
    expected = (values - values.min()) / (values.max() - values.min())
    torch.testing.assert_close(prior_mask(two, keys, mask).flatten(), expected)
    other = torch.cat([mask, 1 - mask])  # a second shot with the opposite mask: its prior is turned round
    both = prior_mask(two, keys.expand(2, -1, -1), other).flatten()
    torch.testing.assert_close(both, torch.full((3,), 0.5), rtol=0, atol=1e-5)


def test_the_prior_is_computed_in_float32_under_autocast_and_in_parts(monkeypatch):
    torch.manual_seed(0)
    high, support = torch.rand(2, 32, 9, 7) + 1, torch.rand(3, 32, 5, 6) + 1
    mask = torch.rand(3, 1, 8, 8)
    plain = prior_mask(high, support_keys(support, (8, 8)), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prior_mask(high, support_keys(support, (8, 8)), mask), plain)
    exact = prior_mask(high.double(), support_keys(support.double(), (8, 8)), mask.double())
    torch.testing.assert_close(plain.double(), exact, rtol=0, atol=2e-5)
    monkeypatch.setattr("visionpatch.heads.prior.AT_ONCE", 1000)
    torch.testing.assert_close(prior_mask(high, support_keys(support, (8, 8)), mask), plain, rtol=0, atol=1e-5)


def test_prototypes_by_hand():
    head = PrototypeHead(2, 0, scale=1.0)
    support = torch.tensor([[[[1.0, 1.0], [0.0, 8.0]], [[0.0, 0.0], [1.0, 9.0]]]])  # pixels (1,0) (1,0) (0,1) (8,9)
    masks = torch.tensor([[[1, 1], [0, 255]]], dtype=torch.uint8)
    encoded = head.encode_support((support,), masks)
    assert encoded["prototypes"][0].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert encoded["area"][0].tolist() == [0.25, 0.5]
    query = torch.tensor([[[[3.0, 1.0]], [[4.0, 0.0]]]])
    assert head((query,), [encoded], (1, 2)).flatten().tolist() == pytest.approx([0.8, 0.0, 0.6, 1.0])
    empty = head.encode_support((support,), torch.zeros_like(masks))
    both = {key: torch.cat([encoded[key], empty[key]]) for key in encoded}  # the second shot does not show the class
    assert head((query,), [both], (1, 2))[0, 1].flatten().tolist() == pytest.approx([0.6, 1.0])
    assert (head((query,), [empty], (1, 2)).argmax(1) == 0).all()
    coarse = head.encode_support((support,), masks.repeat_interleave(4, 1).repeat_interleave(4, 2))
    torch.testing.assert_close(coarse["prototypes"], encoded["prototypes"])


def test_prototypes_of_several_maps():
    head = PrototypeHead(CHANNELS[:2], (0, 1))
    encoded = head.encode_support(maps(2, 40, 48), box(2, 40, 48))
    assert encoded["prototypes"].shape == (2, 2, 14)
    assert head(maps(1, 64, 32), [encoded], (64, 32)).shape == (1, 2, 64, 32)


def test_prior_head_threshold():
    low, high = (PriorHead(CHANNELS[2], map_size=(12, 16), threshold=t) for t in (0.2, 0.8))
    encoded = low.encode_support(maps(1, 40, 48), box(1, 40, 48))
    assert encoded["keys"].shape == (1, 192, 10)
    areas = [head(maps(1, 48, 64), [encoded], (48, 64)).argmax(1).float().mean() for head in (low, high)]
    assert areas[0] > areas[1] > 0


def test_sccan_defaults_are_the_published_sizes():
    head = SCCANHead()
    assert sum(p.numel() for p in head.parameters()) == 11_373_314
    assert len(head.transformer.blocks) == 8 and head.map_size == (64, 64)
    assert {block.shift for block in head.transformer.blocks[::2]} == {0}
    assert {block.shift for block in head.transformer.blocks[1::2]} == {4}


def test_every_tensor_but_ten_gets_a_gradient():
    torch.manual_seed(0)
    head = SCCANHead(**FEW_SHOT["SCCANHead"]).train()
    encoded = head.encode_support(maps(1, 48, 48, 1), box(1, 48, 48))
    labels = torch.randint(0, 2, (2, 1, 48, 64))
    head.loss(maps(2, 48, 64), [encoded] * 2, [sample(one) for one in labels])["loss_dice"].backward()
    unused = {name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    assert unused == {name for name, _ in head.named_parameters() if name.startswith("transformer.blocks.1.support_")}


def test_maps_of_different_strides_are_resized_to_the_finest():
    """The 1x1 convolution of each map before it is resized equals one of the resized and concatenated maps."""
    head = SCCANHead(**FEW_SHOT["SCCANHead"]).eval()
    fine, coarse = maps(2, 48, 64)[:2]
    larger = F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=True)
    expected = F.conv2d(torch.cat([fine, larger], 1), head.reduce_query.weight).relu()
    torch.testing.assert_close(head.reduce_query([fine, coarse]), expected)


def test_dropout_acts_in_training_only_on_whole_channels():
    torch.manual_seed(0)
    head = SCCANHead(**FEW_SHOT["SCCANHead"], mid_dropout=0.5)
    features, masks = maps(1, 40, 48), torch.ones(1, 40, 48, dtype=torch.uint8)
    kept = head.eval().encode_support(features, masks)["features"].flatten(2).sum(2)
    dropped = head.train().encode_support(features, masks)["features"].flatten(2).sum(2)
    ratio = (dropped / kept)[kept > 0]
    assert ((ratio - 2).abs() < 1e-4).logical_or(ratio == 0).all() and 0 < (ratio == 0).float().mean() < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(channels=15, num_heads=2), "num_heads=2 must divide channels=15"),
        (dict(in_channels=(6,), in_index=(0, 1)), "must name the same maps, one entry each"),
        (dict(map_size=(8, 8, 8)), r"map_size = \(8, 8, 8\); expected one positive number or \(height, width\)"),
        (dict(loss_decode=dict(type="DiceLoss", per_clas=True)), "per_clas"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises((ConfigError, TypeError), match=message):
        SCCANHead(**{**FEW_SHOT["SCCANHead"], **arguments})


def test_a_high_index_that_is_not_there():
    head = SCCANHead(**{**FEW_SHOT["SCCANHead"], "high_index": 3})
    with pytest.raises(ConfigError, match="high_index=3, but there are 3 maps"):
        head.encode_support(maps(1, 40, 48), box(1, 40, 48))
