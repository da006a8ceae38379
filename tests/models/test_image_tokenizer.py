"""Pictures to codes and back, and one training step of it."""

import math

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

from visionpatch.engine import OptimizerPerPart
from visionpatch.errors import ConfigError, DataError
from visionpatch.models import ImageTokenizer
from visionpatch.models.tiles import decode_tiles, ramp, starts
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

SMALL = dict(channels=8, channel_mult=(1, 2), num_res_blocks=1, attn_levels=(1,), num_groups=4, codebook_size=32)
LOSS = dict(loss=dict(type="TokenizerLoss"), discriminator=dict(channels=4, num_layers=1))


def tokenizer(**kwargs) -> ImageTokenizer:
    torch.manual_seed(0)
    return MODELS.build(dict(type="ImageTokenizer") | SMALL | kwargs)


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("embed", "code_channels"), [(4, 1), (8, 4)])
def test_codes_and_back(embed, code_channels):
    net = tokenizer(embed_channels=embed, code_channels=code_channels).eval()
    image = pictures(2, 3, 16, 12)
    codes = net.encode(image)
    assert codes.shape == (2, 8, 6, code_channels) and codes.dtype == torch.int64
    assert (net.codebook_size, net.code_channels, net.stride) == (32, code_channels, 2)
    decoded = net.decode(codes)
    assert decoded.shape == image.shape
    torch.testing.assert_close(decoded, net.decode_latent(net.quantizer(net.encode_latent(image))[0]))
    torch.testing.assert_close(decoded, net(image))
    assert torch.equal(net.encode(image[:1]), codes[:1])


def test_odd_sides_are_padded_with_their_last_pixels_and_cropped():
    net = tokenizer(channel_mult=(1, 1, 1, 1), attn_levels=(3,)).eval()
    image = pictures(1, 3, 17, 30)
    by_hand = torch.cat([image, image[:, :, -1:].expand(-1, -1, 7, -1)], 2)
    by_hand = torch.cat([by_hand, by_hand[..., -1:].expand(-1, -1, -1, 2)], 3)
    codes = net.encode(image)
    assert codes.shape == (1, 3, 4, 1) and torch.equal(codes, net.encode(by_hand))
    assert torch.equal(net.decode(codes, (17, 30)), net.decode(codes)[..., :17, :30])
    assert net(image).shape == image.shape
    for size in ((16, 30), (25, 30), (17, 24)):
        with pytest.raises(DataError, match="these codes are of a picture of .24, 32. pixels"):
            net.decode(codes, size)
    with pytest.raises(DataError, match="sides >= 8"):
        net.encode_latent(image[..., :7])


def test_a_code_outside_of_the_codebook():
    net = tokenizer(codebook_size=7).eval()
    with pytest.raises(DataError, match=r"code 7 .* not in the codebook; codes run from 0 to 6"):
        net.decode(torch.full((1, 2, 2, 1), 7))


def test_tiles_join_without_a_seam():
    zq = torch.randn(1, 2, 23, 9)
    double = torch.nn.Upsample(scale_factor=2)
    for tile, overlap in ((8, 3), (6, 0), (23, 4), (10, 5)):
        torch.testing.assert_close(decode_tiles(double, zq, 2, tile, overlap), double(zq))
    assert starts(23, 8, 3) == [0, 5, 10, 15] and starts(22, 8, 3) == [0, 5, 10, 14] and starts(8, 8, 3) == [0]
    assert ramp(7, 2).tolist() == [1, 2, 3, 3, 3, 2, 1]
    for tile, overlap in ((8, 5), (0, 0), (8, -1)):
        with pytest.raises(ConfigError, match="expected overlap from 0 to half of tile"):
            decode_tiles(double, zq, 2, tile, overlap)


def test_tiled_decoding_is_near_the_whole():
    net = tokenizer().eval()
    codes = torch.randint(32, (1, 24, 20, 1), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, tiled = net.decode(codes, (47, 40)), net.decode(codes, (47, 40), tile=12, overlap=4)
        assert torch.equal(net.decode(codes, tile=24), net.decode(codes))
    assert tiled.shape == whole.shape == (1, 3, 47, 40)
    assert 0 < (tiled - whole).abs().mean() < 0.2 * whole.std()


def test_predict_gives_pictures_of_0_to_255():
    net = tokenizer().eval()
    raw = torch.randint(256, (3, 12, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = net.data_preprocessor({"inputs": [raw, raw[:, :8]], "data_samples": [_sample(12, 10), _sample(8, 10)]})
    assert data["inputs"].shape == (2, 3, 12, 10) and data["inputs"].min() >= -1 and data["inputs"].max() <= 1
    first, second = net(**data, mode="predict")
    torch.testing.assert_close(first.gt_image, raw.flip(0).float())  # BGR to RGB
    assert first.pred_image.shape == (3, 12, 10) and second.pred_image.shape == second.gt_image.shape == (3, 8, 10)
    assert first.pred_image.min() >= 0 and first.pred_image.max() <= 255 and first.pred_codes.shape == (6, 5, 1)


def _sample(height: int, width: int) -> DataSample:
    return DataSample(metainfo=dict(img_shape=(height, width)))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (dict(arch="68M"), 'no arch "68M"; did you mean "67M"'),
        (dict(attn_levels=(2,)), "levels run from 0 to 1"),
        (dict(decoder_attn_levels=(-1,)), "levels run from 0 to 1"),
        (dict(channel_mult=()), "one positive factor a level"),
        (dict(code_channels=3), "a multiple of the codes"),
    ],
)
def test_arguments_out_of_range(wrong, text):
    with pytest.raises(ConfigError, match=text):
        tokenizer(**wrong)


def test_without_modulation_the_norms_are_plain():
    net = tokenizer(modulated=False)
    assert not [name for name in net.state_dict() if "conv_y" in name]
    assert net(pictures(1, 3, 8, 8)).shape == (1, 3, 8, 8)


def optimisers(net: ImageTokenizer, **kwargs):
    adam = dict(type="Adam", lr=1e-3, betas=(0.5, 0.9))
    clip = dict(clip_grad=dict(type="value", clip_value=1.0))
    entries = dict(
        autoencoder=dict(optimizer=adam, **clip, **kwargs),
        discriminator=dict(parts=["discriminator"], optimizer=adam, **clip),
    )
    return OptimizerPerPart(entries)(net)


def batch() -> dict:
    small = torch.rand(2, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    image = (torch.nn.functional.interpolate(small, (16, 16), mode="bilinear") * 255).to(torch.uint8)
    return {"inputs": list(image), "data_samples": [_sample(16, 16) for _ in image]}


def weights(net: ImageTokenizer, prefix: str) -> list[Tensor]:
    return [p.detach().clone() for name, p in net.named_parameters() if name.startswith(prefix)]


def test_a_step_trains_both_and_neither_sees_the_gradient_of_the_other():
    net = tokenizer(**LOSS | dict(loss=dict(type="TokenizerLoss", start_step=1))).train()
    wrappers = optimisers(net)
    critic, encoder = weights(net, "discriminator"), weights(net, "encoder")
    log = net.train_step(batch(), wrappers)
    assert "loss_adversarial" not in log and "loss_discriminator" not in log and int(net.loss.steps) == 1
    assert all(torch.equal(a, b) for a, b in zip(critic, weights(net, "discriminator")))
    assert not any(torch.equal(a, b) for a, b in zip(encoder, weights(net, "encoder")))
    log = net.train_step(batch(), wrappers)  # the discriminator begins
    assert {"loss_pixel", "loss_codebook", "loss_adversarial", "loss_discriminator", "adversarial_weight"} <= set(log)
    assert not all(torch.equal(a, b) for a, b in zip(critic, weights(net, "discriminator")))
    assert 0 < float(log["codebook_usage"]) <= 1 <= float(log["perplexity"]) <= 32
    expected = sum(float(v) for k, v in log.items() if k in ("loss_pixel", "loss_codebook", "loss_adversarial"))
    assert float(log["loss"]) == pytest.approx(expected, rel=1e-5)


def test_the_gradients_of_a_step_are_those_of_its_losses():
    net = tokenizer(**LOSS).train()
    wrappers, kept = optimisers(net), {}
    for wrapper in wrappers.values():  # instead of stepping
        wrapper.step = lambda **_: None
        wrapper.zero_grad = lambda **_: None
    net.train_step(batch(), wrappers)
    grads = {name: p.grad for name, p in net.named_parameters()}
    assert all(grad is not None for grad in grads.values())
    net.zero_grad()
    image = net.data_preprocessor(batch(), True)["inputs"]
    kept, fake = net._losses(image)
    net.loss.discriminate(net.discriminator(image), net.discriminator(fake.detach()))["loss_discriminator"].backward()
    for name, p in net.named_parameters():
        if name.startswith("discriminator"):
            torch.testing.assert_close(grads[name], p.grad, rtol=1e-4, atol=1e-6)
    assert set(kept) == {"loss_pixel", "loss_codebook", "codebook_usage", "perplexity"}


def test_training_lowers_the_loss():
    net = tokenizer(loss=dict(type="TokenizerLoss", pixel="l2")).train()
    wrapper = OptimWrapper(torch.optim.Adam(net.parameters(), lr=2e-3))
    losses = [float(net.train_step(batch(), wrapper)["loss_pixel"]) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


def test_optimisers_and_modes_that_do_not_fit():
    net = tokenizer(**LOSS)
    wrapper = OptimWrapper(torch.optim.SGD(net.parameters(), lr=1.0))
    with pytest.raises(ConfigError, match="needs autoencoder and discriminator"):
        net.train_step(batch(), wrapper)
    with pytest.raises(ConfigError, match="expected \\['autoencoder'\\]"):
        tokenizer(loss=dict(type="TokenizerLoss")).train_step(batch(), optimisers(net))
    with pytest.raises(ConfigError, match="model.loss is not set"):
        tokenizer()(pictures(1, 3, 8, 8), mode="loss")
    with pytest.raises(ConfigError, match='mode = "predicts"; did you mean "predict"'):
        net(pictures(1, 3, 8, 8), mode="predicts")


def test_an_adversarial_loss_that_is_not_finite_is_told_before_any_step():
    net = tokenizer(**LOSS).train()
    wrappers, seen = optimisers(net), {}
    parse = net.parse_losses
    net.parse_losses = lambda losses: seen.update(losses) or parse(losses)
    order = []
    for name, wrapper in wrappers.items():
        wrapper.optimizer.register_step_pre_hook(lambda *_, name=name: order.append((name, sorted(seen))))
    with torch.no_grad():
        net.discriminator.main[0].bias.fill_(math.nan)
    net.train_step(batch(), wrappers)
    assert [name for name, _ in order] == ["autoencoder", "discriminator"]
    assert {"loss_adversarial", "loss_discriminator"} <= set(order[0][1])  # known when the first steps
    assert seen["loss_adversarial"].isnan() and seen["loss_discriminator"].isnan()
