"""The FewShotSegmentor on several backbones: independence of batches and sizes, reuse, errors, learning."""

from typing import Any

import pytest
import torch
from mmengine.structures import PixelData
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from visionpatch.engine import build_runner, load_config
from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.models import FewShotDataPreprocessor, FewShotSegmentor
from visionpatch.registry import DATASETS
from visionpatch.structures import DataSample

SMALL = dict(channels=16, map_size=16, depth=2, num_heads=2, patch_size=4, aspp_dilations=(2, 3))
MICRO = dict(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))
RESNET = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True, out_indices=(1, 2, 3))
# backbone, channels of the two mid-level maps
BACKBONES: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "ResNet": (dict(type="ResNet", depth=18, deep_stem=True, **RESNET), (128, 256)),
    "CrossFormer": (dict(type="CrossFormer", arch=MICRO, out_indices=(1, 2, 3)), (32, 64)),
    "EfficientNetLite": (dict(type="EfficientNetLite", out_indices=(1, 2, 3)), (40, 112)),
}


class Colours(nn.Module):
    """A backbone that hands the picture on, at a quarter of its size, and counts the pictures it sees."""

    out_channels, out_strides = (3,), (4,)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        self.seen.append(tuple(image.shape))
        return (self.scale * F.avg_pool2d(image, 4),)


def model_on(name: str, **more: Any) -> FewShotSegmentor:
    torch.manual_seed(0)
    backbone, mid = BACKBONES[name]
    head = dict(type="SCCANHead", in_channels=mid, in_index=(0, 1), high_index=2, **SMALL)
    return FewShotSegmentor(dict(backbone), head, **more).eval()


def by_colour(**more: Any) -> FewShotSegmentor:
    return FewShotSegmentor(Colours(), dict(type="PrototypeHead", in_channels=3), **more).eval()


def shot(height: int, width: int, seed: int, **changes: Any) -> DataSample:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(1, height, width, dtype=torch.uint8)
    mask[:, height // 4 : height // 2 + seed, width // 4 : 3 * width // 4] = 1
    mask[:, :2] = 255
    image = torch.randn(3, height, width, generator=generator)
    fields = dict(image=image, gt_sem_seg=PixelData(data=mask)) | changes
    return DataSample(metainfo=dict(img_path=f"shot{seed}.jpg"), **{k: v for k, v in fields.items() if v is not None})


def query(height: int, width: int, support: list[DataSample], **meta: Any) -> DataSample:
    info = dict(img_path="query.jpg", img_shape=(height, width), ori_shape=(height, width)) | meta
    return DataSample(metainfo=info, support=support)


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(9)
    return [torch.randn(3, *size, generator=generator) for size in sizes]


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_a_batch_of_any_sizes_and_shots_equals_single_queries(name: str) -> None:
    model, sizes = model_on(name), ((64, 64), (48, 80), (64, 64))
    shared = [shot(64, 64, 1), shot(56, 72, 2)]
    supports, images = [shared, [shot(64, 64, 3)], shared], pictures(*sizes)
    together = model(images, [query(*s, one) for s, one in zip(sizes, supports)])
    for image, size, support, logits in zip(images, sizes, supports, together):
        alone = model(image[None], [query(*size, support)])
        assert logits.shape == (2, *size)
        torch.testing.assert_close(alone[0], logits, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_support_set_encoded_before_gives_the_same() -> None:
    model, images = model_on("EfficientNetLite"), pictures((64, 64), (64, 64))
    support = [shot(64, 64, 1), shot(40, 56, 2)]
    expected = model(torch.stack(images), [query(64, 64, support) for _ in images], mode="predict")
    encoded = model.encode_support([s.image for s in support], [s.gt_sem_seg.data[0] for s in support])
    assert {len(value) for value in encoded.values()} == {2}
    found = model.predict(torch.stack(images), encoded, [query(64, 64, []) for _ in images])
    for a, b in zip(found, expected):
        assert torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data)
        assert a.pred_sem_seg.data.shape == (1, 64, 64)
    one_each = model.predict(images, [encoded, dict(encoded)], None)
    assert torch.equal(one_each[1].pred_sem_seg.data, expected[1].pred_sem_seg.data)


@torch.no_grad()
def test_a_prepared_support_set_gives_the_same_without_its_branch() -> None:
    model, images = model_on("EfficientNetLite"), pictures((64, 64), (64, 64), (64, 64))
    first, second = (model.encode_support([s.image], [s.gt_sem_seg.data]) for s in (shot(64, 64, 1), shot(40, 56, 2)))
    head = model.decode_head
    maps = model.extract_features(torch.stack(images))
    expected = head(maps, [first, second, first], (64, 64))
    ready = [head.prepare(encoded) for encoded in (first, second)]
    calls: list[Any] = []
    head.transformer.blocks[0].support_mlp.register_forward_hook(lambda *args: calls.append(args))
    torch.testing.assert_close(head(maps, [ready[0], ready[1], ready[0]], (64, 64)), expected, rtol=1e-4, atol=1e-5)
    assert not calls
    torch.testing.assert_close(head(maps, [ready[0], second, ready[0]], (64, 64)), expected, rtol=1e-4, atol=1e-5)
    assert calls  # a set that is not prepared is computed, and with it the others


def test_pictures_of_one_size_go_through_the_backbone_together_and_a_shared_support_once() -> None:
    model, shared = by_colour(), [shot(32, 32, 1), shot(32, 40, 2)]
    images = torch.stack(pictures((32, 32), (32, 32)))
    model(images, [query(32, 32, shared), query(32, 32, shared)])
    assert model.backbone.seen == [(3, 3, 32, 32), (1, 3, 32, 40)]
    model.backbone.seen.clear()
    model.predict(images, model.encode_support([shared[0].image], [shared[0].gt_sem_seg.data]), None)
    assert model.backbone.seen == [(1, 3, 32, 32), (2, 3, 32, 32)]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_backbone_neither_trains_nor_keeps_a_graph(frozen: bool) -> None:
    model = model_on("ResNet", freeze_backbone=frozen).train()
    assert model.backbone.training is not frozen
    statistics = model.backbone.stem[1].running_mean.clone()
    target = query(64, 64, [shot(64, 64, 1)])
    target.gt_sem_seg = PixelData(data=torch.ones(1, 64, 64, dtype=torch.uint8))
    losses = model(torch.stack(pictures((64, 64))), [target], mode="loss")
    assert set(losses) == {"decode.loss_dice", "decode.acc_seg"}
    losses["decode.loss_dice"].backward()
    assert torch.equal(statistics, model.backbone.stem[1].running_mean) is frozen
    # the last stage of a backbone that trains is read by the prior alone, which has no gradient
    trained = {name for name, p in model.backbone.named_parameters() if p.grad is not None}
    assert trained == (set() if frozen else {n for n, _ in model.backbone.named_parameters() if "layer4" not in n})


def test_the_loss_is_the_mean_over_queries_of_any_size() -> None:
    model, sizes = by_colour(), ((32, 32), (32, 48), (32, 32))
    samples = []
    for i, size in enumerate(sizes):
        one = query(*size, [shot(32, 32, i)])
        one.gt_sem_seg = PixelData(data=(torch.arange(size[0] * size[1]).view(1, *size) % 7 < i + 1).to(torch.uint8))
        samples.append(one)
    images = pictures(*sizes)
    together = model(images, samples, mode="loss")
    single = [model(image[None], [one], mode="loss") for image, one in zip(images, samples)]
    for key in together:
        torch.testing.assert_close(together[key], torch.stack([one[key] for one in single]).mean())


def test_results_come_back_to_the_size_of_the_file() -> None:
    image, support = pictures((32, 32))[0], [shot(32, 32, 1)]
    logits = by_colour()(image[None], [query(32, 32, support)])
    # "square": the input is a square canvas of which a picture of 40 x 64 fills the upper part
    model = by_colour(test_cfg=dict(resize="square", keep_logits=True))
    found = model(image[None], [query(20, 32, support, ori_shape=(40, 64))], mode="predict")[0]
    expected = F.interpolate(logits, (64, 64), mode="bilinear", align_corners=True)[0, :, :40]
    torch.testing.assert_close(found.seg_logits.data, expected)
    assert torch.equal(found.pred_sem_seg.data, expected.argmax(0, keepdim=True))
    # "direct": the padding is cut off first
    model = by_colour(test_cfg=dict(keep_logits=True))
    found = model(image[None], [query(20, 32, support, ori_shape=(40, 64))], mode="predict")[0]
    expected = F.interpolate(logits[..., :20, :], (40, 64), mode="bilinear", align_corners=True)[0]
    torch.testing.assert_close(found.seg_logits.data, expected)
    with pytest.raises(ConfigError, match=r'resize = "square" needs square inputs, not \(32, 48\)'):
        by_colour(test_cfg=dict(resize="square"))(pictures((32, 48)), [query(32, 48, support)], mode="predict")


@pytest.mark.parametrize(
    ("support", "message"),
    [
        ([], r"query\.jpg: no support picture \(shot = 0\)"),
        ([shot(32, 32, 1), shot(32, 32, 2, gt_sem_seg=PixelData(data=torch.zeros(1, 32, 30)))],
         r"shot2\.jpg: the support mask is 32 x 30 pixels \(height x width\), its picture 32 x 32"),
        ([shot(32, 32, 3, gt_sem_seg=PixelData(data=torch.full((1, 32, 32), 7)))], r"shot3\.jpg: value 7 in a support"),
        ([shot(32, 32, 4, gt_sem_seg=None)], r"shot4\.jpg: a support picture without mask"),
    ],
)  # fmt: skip
def test_wrong_supports(support: list[DataSample], message: str) -> None:
    with pytest.raises(DataError, match=message):
        by_colour()(pictures((32, 32)), [query(32, 32, support)])


def test_wrong_arguments() -> None:
    with pytest.raises(DataError, match="2 support pictures with 1 masks"):
        by_colour().encode_support(pictures((32, 32), (32, 32)), [torch.zeros(32, 32)])
    with pytest.raises(ConfigError, match=r'test_cfg has no key "resiz"; did you mean "resize"'):
        by_colour(test_cfg=dict(resiz="square"))
    with pytest.raises(ConfigError, match='resize = "sqare"; did you mean "square"'):
        by_colour(test_cfg=dict(resize="sqare"))
    with pytest.raises(ConfigError, match=r"model\.decode_head\.in_channels = \[40, 100\], but EfficientNetLite gives"):
        head = dict(type="SCCANHead", in_channels=(40, 100), in_index=(0, 1), **SMALL)
        FewShotSegmentor(dict(BACKBONES["EfficientNetLite"][0]), head)
    with pytest.raises(ConfigError, match='mode = "los"; did you mean "loss"'):
        by_colour()(pictures((32, 32)), [query(32, 32, [shot(32, 32, 1)])], mode="los")


def test_an_empty_mask_and_a_query_without_the_class() -> None:
    model = model_on("ResNet")
    empty = [shot(64, 64, 1, gt_sem_seg=PixelData(data=torch.zeros(1, 64, 64, dtype=torch.uint8)))]
    target = query(64, 64, empty)
    target.gt_sem_seg = PixelData(data=torch.zeros(1, 64, 64, dtype=torch.uint8))
    assert model(pictures((64, 64)), [target], mode="loss")["decode.loss_dice"].isfinite()
    first, second = (model(pictures((64, 64)), [target], mode="predict")[0].pred_sem_seg.data.clone() for _ in "ab")
    assert torch.equal(first, second)


def test_preprocessor_normalises_supports_and_pads_nothing() -> None:
    preprocessor = FewShotDataPreprocessor(mean=(10, 20, 30), std=(1, 2, 4))
    picture = torch.tensor([30, 20, 11], dtype=torch.uint8).view(3, 1, 1).expand(3, 5, 6)
    shared = [shot(5, 6, 1, image=picture), shot(7, 3, 2, image=torch.zeros(3, 7, 3, dtype=torch.uint8))]
    samples = [query(5, 6, shared), query(9, 3, shared)]
    batch = dict(inputs=[picture, torch.zeros(3, 9, 3, dtype=torch.uint8)], data_samples=samples)
    for _ in range(2):  # a batch that is seen again is not normalised twice
        data = preprocessor(batch, training=True)
        assert [tuple(image.shape) for image in data["inputs"]] == [(3, 5, 6), (3, 9, 3)]
        supports = [sample.support for sample in data["data_samples"]]
        assert supports[0] is supports[1]
        assert supports[0][0].image[:, 0, 0].tolist() == [1.0, 0.0, 0.0]
        assert supports[0][1].image[:, 0, 0].tolist() == [-10.0, -10.0, -7.5]
    assert shared[0].image.dtype == torch.uint8
    same = preprocessor(dict(inputs=[picture, picture], data_samples=samples[:1] * 2))
    assert same["inputs"].shape == (2, 3, 5, 6)
    with pytest.raises(BadSampleError, match=r"shot5\.jpg: a support without picture"):
        preprocessor(dict(inputs=[picture], data_samples=[query(5, 6, [shot(5, 6, 5, image=None)])]))


def test_operations_can_be_counted_without_samples() -> None:
    model = by_colour()
    assert model(torch.stack(pictures((32, 32), (32, 32)))).shape == (2, 2, 32, 32)


@DATASETS.register_module()
class BlobEpisodes(Dataset):
    """A square on noise; the class of an episode is the colour that query and support squares share."""

    metainfo = dict(classes=("red", "green", "blue"))

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        (image, mask), support = self.picture(index % 3, generator), self.picture(index % 3, generator)
        one = DataSample(image=support[0], gt_sem_seg=PixelData(data=support[1]))
        sample = DataSample(metainfo=dict(img_path=f"{index}.png", img_shape=(64, 64), ori_shape=(64, 64)))
        sample.gt_sem_seg, sample.support = PixelData(data=mask), [one]
        return dict(inputs=image, data_samples=sample)

    @staticmethod
    def picture(colour: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        image = torch.randint(60, 120, (3, 64, 64), generator=generator, dtype=torch.uint8)
        mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
        for shown in (colour, (colour + 1) % 3):  # the class and another, on the left and the right in turn
            top, left = torch.randint(0, 32, (2,), generator=generator).tolist()
            left = left // 4 + 32 * (shown % 2)
            image[shown, top : top + 28, left : left + 24] = 250
            mask[0, top : top + 28, left : left + 24] = shown == colour
        return image, mask


CONFIG = """
default_scope = 'visionpatch'
custom_imports = dict(imports=['visionpatch.models', 'visionpatch.engine'])
model = dict(
    type='FewShotSegmentor',
    backbone=dict(type='EfficientNetLite', out_indices=(0, 1, 2)),
    decode_head=dict(type='SCCANHead', in_channels=(24, 40), in_index=(0, 1), high_index=2, channels=32, map_size=16,
                     depth=2, num_heads=4, patch_size=4, aspp_dilations=(2, 3), mid_dropout=0.1))
train_dataloader = dict(batch_size=6, num_workers=0, dataset=dict(type='BlobEpisodes'),
                        sampler=dict(type='DefaultSampler', shuffle=True))
train_cfg = dict(by_epoch=False, max_iters=30)
optim_wrapper = dict(
    constructor='OptimizerPerPart',
    transformer=dict(parts=['decode_head.transformer'], optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01)),
    convs=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4)))
param_scheduler = dict(transformer=[], convs=[dict(type='PolyLR', power=0.9, by_epoch=False, end=30)])
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=30, by_epoch=False),
                     logger=dict(type='LoggerHook', interval=1))
randomness = dict(seed=3)
"""


def test_a_small_model_learns_with_the_two_published_optimisers(tmp_path) -> None:
    (tmp_path / "config.py").write_text(CONFIG)
    runner = build_runner(load_config(tmp_path / "config.py", {}, str(tmp_path / "work")))
    runner.train()
    history = runner.message_hub.get_scalar("train/loss").data[0]
    assert history[-5:].mean() < 0.88 * history[:3].mean()  # measured: 0.83
    groups = runner.optim_wrapper
    trained = {name: sum(p.numel() for g in one.param_groups for p in g["params"]) for name, one in groups.items()}
    head = runner.model.decode_head
    attention = sum(p.numel() for p in head.transformer.parameters())
    assert trained == dict(transformer=attention, convs=sum(p.numel() for p in head.parameters()) - attention)
    assert groups["transformer"].get_lr()["lr"] == [1e-3] and groups["convs"].get_lr()["lr"][0] < 0.005
