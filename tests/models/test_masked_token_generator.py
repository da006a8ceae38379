"""Drawing pictures through a tokenizer: what is fixed stays, chance is accounted for, and a pattern is learnt."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from visionpatch.errors import BadSampleError, ConfigError, DataError
from visionpatch.heads.masked_sampling import random_mask
from visionpatch.models import ImageTokenizer, MaskedTokenGenerator
from visionpatch.registry import MODELS
from visionpatch.structures import DataSample

TOKENIZER = dict(
    type="ImageTokenizer", channels=8, channel_mult=(1, 2, 2), num_res_blocks=1, attn_levels=(), num_groups=4,
    embed_channels=4, codebook_size=16, code_channels=2,
)  # fmt: skip
TRANSFORMER = dict(
    type="MaskedTokenTransformer", codebook_size=16, code_channels=2, map_size=(4, 3), channels=32, depth=2,
    num_heads=4, mlp_channels=48, num_classes=3,
)  # fmt: skip
GREEDY = dict(temperature=0.0, choice_temperature=0.0)


def sampled(net, **changes):
    return replace(net.sampling, **changes)


def generator(tokenizer: dict | None = None, transformer: dict | None = None, **kwargs) -> MaskedTokenGenerator:
    torch.manual_seed(0)
    parts = dict(tokenizer=TOKENIZER | (tokenizer or {}), transformer=TRANSFORMER | (transformer or {}))
    net = MODELS.build(dict(type="MaskedTokenGenerator", **parts, **kwargs)).eval()
    with torch.no_grad():
        net.tokenizer.quantizer.embedding.weight.normal_()
        for parameter in net.transformer.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return net


def pictures(number: int = 2, height: int = 16, width: int = 12) -> Tensor:
    return torch.rand(number, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def samples(*labels: int, first: int = 0) -> list[DataSample]:
    return [
        DataSample(metainfo=dict(sample_idx=first + i, img_id=f"{first + i}.png"), gt_label=torch.tensor([label]))
        for i, label in enumerate(labels)
    ]


def test_the_tokenizer_does_not_train():
    net = generator().train()
    assert net.training and net.transformer.training and not any(m.training for m in net.tokenizer.modules())
    losses = net(pictures(), samples(0, 2), mode="loss")
    assert set(losses) == {"loss_token", "accuracy"} and 0 <= losses["accuracy"] <= 1
    losses["loss_token"].backward()
    assert all(p.grad is None and not p.requires_grad for p in net.tokenizer.parameters())
    assert all(p.grad is not None for p in net.transformer.parameters())


def test_the_loss_is_that_of_the_transformer_on_the_masked_codes():
    net, image = generator(label_drop=0.5), pictures(6)
    labels = [0, 1, 2, 0, 1, 2]
    torch.manual_seed(5)
    found = net(image, samples(*labels), mode="loss")
    torch.manual_seed(5)
    dropped = torch.rand(6) < 0.5
    told = torch.tensor(labels).masked_fill(dropped, 3)
    codes = net.tokenizer.encode(image)
    expected = net.transformer.loss(codes, random_mask(codes, "cosine"), told, 0.1)
    assert 0 < dropped.sum() < 6
    torch.testing.assert_close(found, expected)


def test_every_label_is_told_or_none():
    seen: list[Tensor] = []
    for drop, expected in ((0.0, [1] * 50), (0.999999, [3] * 50)):
        net = generator(label_drop=drop)
        net.transformer.loss = lambda codes, hidden, labels, smoothing: seen.append(labels) or {}
        net(pictures(50), samples(*[1] * 50), mode="loss")
        assert seen[-1].tolist() == expected


def test_logits_of_what_is_shown():
    net, image = generator(), pictures()
    logits = net(image)
    assert logits.shape == (2, 4, 3, 2, 16)
    torch.testing.assert_close(logits, net.transformer(net.tokenizer.encode(image)))


def test_a_drawn_picture_is_its_codes_decoded():
    net, start = generator(), torch.Generator
    codes = net.generate_codes(3, [0, 1, 2], generator=start().manual_seed(4))
    assert codes.shape == (3, 4, 3, 2) and codes.min() >= 0 and codes.max() < 16
    image = net.generate(3, [0, 1, 2], generator=start().manual_seed(4))
    assert image.shape == (3, 3, 16, 12)
    torch.testing.assert_close(image, net.tokenizer.decode(codes))
    assert not image.requires_grad
    fewer = net.generate_codes(2, torch.tensor([0, 1]), generator=start().manual_seed(4))
    assert torch.equal(fewer, codes[:2])
    assert not torch.equal(codes, net.generate_codes(3, [0, 1, 2], generator=start().manual_seed(5)))
    torch.manual_seed(3)
    first, second = net.generate_codes(1), net.generate_codes(1)
    assert not torch.equal(first, second)


def test_drawing_leaves_dropout_aside_and_modes_as_they_were():
    net = generator()
    expected = net.generate_codes(2, [0, 1], sampled(net, **GREEDY))
    net.train()
    assert torch.equal(net.generate_codes(2, [0, 1], sampled(net, **GREEDY)), expected)
    assert net.transformer.training and all(m.training for m in net.transformer.modules())


def test_without_temperatures_every_generator_draws_the_same():
    net = generator(**GREEDY)
    a, b = (net.generate_codes(2, [0, 1], sampled(net, steps=5), torch.Generator().manual_seed(s)) for s in (1, 2))
    assert torch.equal(a, b) and not torch.equal(a[0], a[1])


def test_guidance_by_its_formula():
    net = generator()
    labels, codes = torch.tensor([2, 0]), torch.full((2, 4, 3, 2), 16)
    told, untold = net.transformer(codes, labels), net.transformer(codes)
    torch.testing.assert_close(net._logits(labels, 3.0)(codes), untold + 3 * (told - untold), rtol=1e-4, atol=1e-5)
    one_step = dict(steps=1, **GREEDY)
    for guidance, logits in ((1.0, told), (0.0, untold), (3.0, untold + 3 * (told - untold))):
        found = net.generate_codes(2, labels, sampled(net, guidance=guidance, **one_step))
        assert torch.equal(found, logits.argmax(-1))
    assert torch.equal(net.generate_codes(2, sampling=sampled(net, **one_step)), untold.argmax(-1))


def test_predict_does_not_depend_on_the_batch():
    net, image = generator(), pictures(4)
    whole = net(image, samples(0, 1, 2, 1), mode="predict")
    for place, label in enumerate((0, 1, 2, 1)):
        (alone,) = net(image[place : place + 1], samples(label, first=place), mode="predict")
        assert torch.equal(alone.pred_codes, whole[place].pred_codes)
        torch.testing.assert_close(alone.pred_image, whole[place].pred_image, rtol=0, atol=1e-2)
    again = generator()(image, samples(0, 1, 2, 1), mode="predict")
    assert all(torch.equal(a.pred_codes, b.pred_codes) for a, b in zip(whole, again))
    assert not torch.equal(whole[1].pred_codes, whole[3].pred_codes)  # of one class, other chance
    other = generator(seed=1)(image, samples(0, 1, 2, 1), mode="predict")
    assert not any(torch.equal(a.pred_codes, b.pred_codes) for a, b in zip(whole, other))
    state = torch.get_rng_state()
    net(image, samples(0, 1, 2, 1), mode="predict")
    assert torch.equal(torch.get_rng_state(), state)


def test_predict_gives_pictures_of_0_to_255():
    net = generator(dict(code_channels=1), dict(code_channels=1, num_classes=0))
    raw = torch.randint(256, (3, 16, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    named = [DataSample(metainfo=dict(img_path=name, img_shape=(16, 10))) for name in ("a.png", "b.png")]
    data = net.data_preprocessor({"inputs": [raw, raw], "data_samples": named})
    first, second = net(**data, mode="predict")
    torch.testing.assert_close(first.gt_image, raw.flip(0)[..., :10].float())  # BGR to RGB
    assert first.pred_image.shape == (3, 16, 12) and first.pred_codes.shape == (4, 3, 1)
    assert first.pred_image.min() >= 0 and 100 < first.pred_image.max() <= 255
    assert not torch.equal(first.pred_codes, second.pred_codes)
    decoded = (net.tokenizer.decode(first.pred_codes[None])[0] + 1) * 127.5
    torch.testing.assert_close(first.pred_image, decoded.clamp(0, 255), rtol=0, atol=1e-2)
    one, two = net(pictures(2), mode="predict")  # without samples: by their place
    assert not torch.equal(one.pred_codes, two.pred_codes)
    assert net.num_classes is None and generator().num_classes == 3  # a data set with classes fits both


def test_inpainting_draws_the_touched_cells_only():
    net, image = generator(), pictures()
    mask = torch.zeros(2, 16, 12, dtype=torch.bool)
    mask[0, 5:9, 4] = True  # cells (1, 1) and (2, 1)
    touched = torch.zeros(2, 4, 3, dtype=torch.bool)
    touched[0, 1:3, 1] = True
    seen: list[Tensor] = []
    decode = net.tokenizer.decode
    net.tokenizer.decode = lambda codes, size: (seen.append(codes), decode(codes, size))[1]
    done = net.inpaint(image, mask, [0, 1], generator=torch.Generator().manual_seed(0))
    assert torch.equal(done.movedim(1, -1)[~mask], image.movedim(1, -1)[~mask])
    assert (done != image).any(1)[mask].all()
    given = net.tokenizer.encode(image)
    assert torch.equal(seen[0][~touched], given[~touched])
    drawn = torch.stack([_codes(net, image, mask, seen, s)[touched] for s in range(8)])
    assert (drawn != given[touched]).any(0).all()  # each of them is drawn
    torch.testing.assert_close(done[mask[:, None].expand_as(done)], decode(seen[0])[mask[:, None].expand_as(done)])
    assert torch.equal(net.inpaint(image, mask & False), image)


def _codes(net: MaskedTokenGenerator, image: Tensor, mask: Tensor, seen: list[Tensor], seed: int) -> Tensor:
    net.inpaint(image, mask, generator=torch.Generator().manual_seed(seed))
    return seen[-1]


def test_inpainting_of_pictures_the_stride_does_not_divide():
    net, image = generator(), pictures(1, 14, 9)
    mask = torch.zeros(1, 14, 9, dtype=torch.bool)
    mask[0, 13, 8] = True
    done = net.inpaint(image, mask)
    assert done.shape == image.shape and torch.equal(done[..., :8], image[..., :8])


def test_kept_codes_are_those_of_the_tokenizer():
    net, image = generator(cached_pictures=4), pictures(3)
    expected = generator().encode(image)
    assert torch.equal(net.encode(image), expected) and len(net.cache) == 3
    calls: list[int] = []
    net.tokenizer.encode = lambda x: calls.append(len(x))
    assert torch.equal(net.encode(image.flip(0)), expected.flip(0)) and not calls


def test_a_pattern_is_learnt():
    net = generator(dict(code_channels=1), dict(code_channels=1, dropout=0.0), label_smoothing=0.0)
    # three classes: rows, columns, or all of one code
    rows = torch.arange(4)[:, None].expand(4, 3)
    patterns = torch.stack([rows, 5 + torch.arange(3).expand(4, 3), torch.full((4, 3), 9)])[..., None]
    net.encode = lambda image: patterns.repeat(8, 1, 1, 1)
    optimiser = torch.optim.Adam(net.transformer.parameters(), lr=3e-3)
    net.train()
    batch = samples(*[0, 1, 2] * 8)
    losses = []
    for _ in range(80):
        loss = net(torch.empty(24, 3, 16, 12), batch, mode="loss")["loss_token"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 2 and sum(losses[-10:]) / 10 < 0.25
    drawn = net.generate_codes(3, [0, 1, 2], sampled(net, steps=4, **GREEDY))
    assert torch.equal(drawn, patterns)
    codes = patterns.clone()
    net.encode = lambda image: codes
    mask = torch.zeros(3, 16, 12, dtype=torch.bool)
    mask[:, 4:8, 4:] = True
    seen: list[Tensor] = []
    net.tokenizer.decode = lambda codes, size: (seen.append(codes), torch.zeros(3, 3, *size))[1]
    net.inpaint(pictures(3), mask, sampling=sampled(net, **GREEDY))  # the class shows in what is left
    assert torch.equal(seen[0], patterns)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (dict(transformer=dict(codebook_size=32)), "model.transformer.codebook_size = 32, but the tokenizer has 16"),
        (dict(transformer=dict(code_channels=1)), "model.transformer.code_channels = 1, but the tokenizer has 2"),
        (dict(schedule="cosin"), 'schedule = "cosin"; did you mean "cosine"'),
        (dict(label_drop=1.0), "model.label_drop = 1.0; expected 0 to below 1"),
        (dict(label_smoothing=-0.1), "model.label_smoothing"),
        (dict(steps=0), "steps = 0"),
        (dict(guidance=2.0, label_drop=0.0), "guidance = 2.0 .* model.label_drop > 0 .it is 0.0"),
        (dict(guidance=2.0, transformer=dict(num_classes=0)), "num_classes > 0 .it is 0"),
    ],
)
def test_arguments_that_do_not_fit(wrong, text):
    with pytest.raises(ConfigError, match=text):
        generator(**wrong)


def test_parts_of_another_kind():
    tokenizer = ImageTokenizer(**{k: v for k, v in TOKENIZER.items() if k != "type"})
    with pytest.raises(ConfigError, match="model.tokenizer = Conv2d has no codebook_size; expected an ImageTokenizer"):
        MaskedTokenGenerator(torch.nn.Conv2d(1, 1, 1), TRANSFORMER)
    with pytest.raises(ConfigError, match="model.transformer = Conv2d; expected a MaskedTokenTransformer"):
        MaskedTokenGenerator(tokenizer, torch.nn.Conv2d(1, 1, 1))
    with pytest.raises(TypeError, match="step"):
        MaskedTokenGenerator(tokenizer, TRANSFORMER, step=3)


def test_inputs_that_do_not_fit():
    net, plain = generator(), generator(transformer=dict(num_classes=0))
    expected = r"give maps of \(4, 4\) codes, but model.transformer.map_size = \(4, 3\); give pictures \(B, 3, 16, 12\)"
    with pytest.raises(DataError, match=expected):
        net(pictures(2, 16, 16), samples(0, 1), mode="loss")
    with pytest.raises(BadSampleError, match="label 3, .*num_classes=3"):
        net(pictures(), samples(0, 3), mode="loss")
    for mode in ("loss", "predict"):
        with pytest.raises(DataError, match="gt_label must hold one class index"):
            net(pictures(), mode=mode)
    with pytest.raises(DataError, match=r"labels = \[0, 3\]; classes run from 0 to 2"):
        net.generate(2, [0, 3])
    with pytest.raises(DataError, match="expected 2 integers"):
        net.generate(2, [0])
    with pytest.raises(ConfigError, match="num_classes = 0: the model knows no classes"):
        plain.generate(2, [0, 1])
    with pytest.raises(ConfigError, match="label_drop = 0.*give labels"):
        generator(label_drop=0.0).generate(2)
    with pytest.raises(ConfigError, match="num = 0"):
        net.generate(0)
    with pytest.raises(ConfigError, match="steps = 0"):
        net.generate(1, sampling=sampled(net, steps=0))
    mask = torch.ones(2, 16, 12)
    for bad in (mask, mask.bool()[:1], mask.bool()[:, None]):
        with pytest.raises(DataError, match=r"expected bool, shape \(2, 16, 12\)"):
            net.inpaint(pictures(), bad)
    with pytest.raises(ConfigError, match='mode = "predicts"; did you mean "predict"'):
        net(pictures(), mode="predicts")
