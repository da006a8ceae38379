"""The Segmentor's wiring, sliding windows and test-time augmentation, on a head whose answer is known."""

import pytest
import torch
from mmengine.structures import PixelData
from torch import nn
from torch.nn import functional as F

from visionpatch.errors import BadSampleError, ConfigError
from visionpatch.models import DataPreprocessor, Segmentor
from visionpatch.structures import DataSample


class Pixels(nn.Module):
    """A backbone that hands the image on, at a quarter of its size."""

    out_channels, out_strides = (3,), (4,)

    def forward(self, image):
        return (F.avg_pool2d(image, 4),)


class Channels(nn.Module):
    """A head whose class scores are the channels themselves."""

    in_channels, num_classes, align_corners = 3, 3, False

    def forward(self, features):
        return features[-1]


def build(**test_cfg):
    return Segmentor(Pixels(), Channels(), test_cfg=test_cfg).eval()


def fpn_model(**more):
    arch = dict(embed_dims=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))
    args = dict(
        backbone=dict(type="CrossFormer", arch=arch, drop_path_rate=0.0),
        neck=dict(type="FPN", in_channels=(32, 64, 128, 256), out_channels=16, num_outs=4),
        decode_head=dict(
            type="FPNHead", in_channels=(16,) * 4, feature_strides=(4, 8, 16, 32), channels=8, num_classes=4
        ),
    )
    return Segmentor(**{**args, **more})


def sample(height, width, label=None):
    result = DataSample(metainfo=dict(img_path="a.png", img_shape=(height, width), ori_shape=(height, width)))
    if label is not None:
        result.gt_sem_seg = PixelData(data=label)
    return result


def test_slide_covers_the_image_and_averages_overlaps():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 40, 52)
    model = build(mode="slide", crop_size=(16, 16), stride=(12, 8))
    total, count = torch.zeros(2, 3, 40, 52), torch.zeros(40, 52)
    for top in (0, 12, 24):  # 0, 12, 24: the last begins at 40 - 16 = 24
        for left in (0, 8, 16, 24, 32, 36):  # 40 would leave the image: moved back to 52 - 16
            window = F.avg_pool2d(x[..., top : top + 16, left : left + 16], 4)
            total[..., top : top + 16, left : left + 16] += F.interpolate(window, (16, 16), mode="bilinear")
            count[top : top + 16, left : left + 16] += 1
    torch.testing.assert_close(model.scores(x), total / count)


def test_a_window_larger_than_the_image_is_the_whole_image():
    x = torch.randn(1, 3, 24, 20)
    slide = build(mode="slide", crop_size=(64, 64), stride=(32, 32))
    torch.testing.assert_close(slide.scores(x), build().scores(x))


def test_augmented_scores_are_mean_probabilities():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 48)
    model = build(tta=dict(scales=(1.0, 2.0), flip=True))
    expected = []
    for scale in (1.0, 2.0):
        for flip in (False, True):
            y = x if scale == 1 else F.interpolate(x, (64, 96), mode="bilinear")
            score = build().scores(y.flip(3) if flip else y).softmax(1)
            expected.append(F.interpolate(score.flip(3) if flip else score, (32, 48), mode="bilinear"))
    torch.testing.assert_close(model.scores(x), torch.stack(expected).mean(0))
    assert torch.allclose(model.scores(x).sum(1), torch.ones(1, 32, 48))


def test_prediction_has_the_size_of_the_file_and_padding_changes_nothing():
    torch.manual_seed(0)
    model = build()
    image = torch.randn(1, 3, 32, 40)
    plain = model(image, [sample(32, 40)], mode="predict")[0]
    padded = model(F.pad(image, (0, 24, 0, 16)), [sample(32, 40)], mode="predict")[0]
    inside = (..., slice(0, 28), slice(0, 36))  # the last cell's resize sees the padding
    assert torch.equal(plain.pred_sem_seg.data[inside], padded.pred_sem_seg.data[inside])
    large = sample(32, 40)
    large.set_metainfo(dict(ori_shape=(65, 81)))
    assert model(image, [large], mode="predict")[0].pred_sem_seg.data.shape == (1, 65, 81)


def test_losses_of_all_heads_train_every_parameter():
    torch.manual_seed(0)
    head = dict(type="FCNHead", in_channels=16, in_index=2, channels=8, num_classes=4, num_convs=1, concat_input=False)
    for auxiliary, names in ((head, {"aux"}), ([head, head], {"aux_0", "aux_1"})):
        model = fpn_model(auxiliary_head=auxiliary).train()
        labels = torch.randint(0, 4, (1, 64, 64))
        losses = model(torch.randn(2, 3, 64, 64), [sample(64, 64, labels)] * 2, mode="loss")
        expected = {f"{name}.{key}" for name in names | {"decode"} for key in ("loss_ce", "acc_seg")}
        assert set(losses) == expected
        total, _ = model.parse_losses(losses)
        total.backward()
        unused = {name for name, p in model.named_parameters() if p.grad is None}
        assert not unused


def test_a_small_model_learns():
    torch.manual_seed(0)
    model = fpn_model().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    x = torch.randn(4, 3, 64, 64)
    labels = torch.stack([(img[0] > 0).long() + 2 * (img[1] > 0).long() for img in F.avg_pool2d(x, 16)])
    labels = F.interpolate(labels[:, None].float(), (64, 64)).long()
    x = x + F.interpolate(F.avg_pool2d(x, 16), (64, 64)) * 8
    first = last = None
    for _ in range(60):
        loss, _ = model.parse_losses(model(x, [sample(64, 64, one) for one in labels], mode="loss"))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first, last = first if first is not None else loss.item(), loss.item()
    assert last < 0.5 * first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(decode_head=dict(type="FCNHead", in_channels=17, channels=8, num_classes=4)),
         r"model\.decode_head\.in_channels = \[17\], but FPN gives \[16\]"),
        (dict(neck=dict(type="FPN", in_channels=(32, 64, 128, 255), out_channels=16, num_outs=4)),
         r"model\.neck\.in_channels = \[32, 64, 128, 255\], but CrossFormer gives \[32, 64, 128, 256\]"),
        (dict(test_cfg=dict(mod="slide")), r'model\.test_cfg has no key "mod"; did you mean "mode"'),
        (dict(test_cfg=dict(mode="slid")), 'mode = "slid"; did you mean "slide"'),
        (dict(test_cfg=dict(mode="slide", crop_size=512)), r"test_cfg\.crop_size = 512; mode slide expects"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(arguments, message):
    with pytest.raises(ConfigError, match=message):
        fpn_model(**arguments)


def test_preprocessor_normalises_pads_and_keeps_16_bits():
    preprocessor = DataPreprocessor(mean=(10, 20, 30), std=(1, 2, 4), pad_size_divisor=8, uint16_max=1023)
    bgr = torch.tensor([30, 20, 10], dtype=torch.uint8).view(3, 1, 1).expand(3, 5, 6)
    deep = torch.full((3, 9, 3), 1023, dtype=torch.uint16)
    samples = [
        sample(5, 6, torch.zeros(1, 5, 6, dtype=torch.uint8)),
        sample(9, 3, torch.ones(1, 9, 3, dtype=torch.uint8)),
    ]
    data = preprocessor(dict(inputs=[bgr, deep], data_samples=samples), training=True)
    assert data["inputs"].shape == (2, 3, 16, 8)
    assert data["inputs"][0].abs().sum() == 0  # the mean colour, and padding
    assert data["inputs"][1, :, 0, 0].tolist() == [245.0, 117.5, 56.25]
    assert data["data_samples"][0].gt_sem_seg.data.shape == (1, 16, 8)
    assert (data["data_samples"][0].gt_sem_seg.data == 255).sum() == 16 * 8 - 5 * 6
    assert data["data_samples"][1].pad_shape == (16, 8)


def test_preprocessor_refuses_what_would_lose_data():
    with pytest.raises(
        BadSampleError, match=r"a\.png: a 16-bit image, but the config expects 8 bits; set .*uint16_max"
    ):
        DataPreprocessor()(dict(inputs=[torch.zeros(3, 2, 2, dtype=torch.uint16)], data_samples=[sample(2, 2)]))
    with pytest.raises(BadSampleError, match=r"a\.png: shape \(4, 2, 2\), but .*mean has 3 channels"):
        DataPreprocessor()(dict(inputs=[torch.zeros(4, 2, 2, dtype=torch.uint8)], data_samples=[sample(2, 2)]))
