"""Mixup and CutMix: pictures, shares and targets by hand, and the distributions the published rules give."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine.tiny import write_config
from mmengine.config import Config
from torch import Tensor
from torch.utils.data import Dataset

from visionpatch.apis.exact_resume import differences
from visionpatch.engine import load_config
from visionpatch.errors import ConfigError
from visionpatch.models import BatchAugment, Classifier, CutMix, Mixup
from visionpatch.registry import DATASETS
from visionpatch.structures import DataSample

BOTH = [dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]


def samples(labels: list[int]) -> list[DataSample]:
    return [DataSample(metainfo=dict(img_path=f"{i}.png"), gt_label=torch.tensor([k])) for i, k in enumerate(labels)]


def fixed(monkeypatch: pytest.MonkeyPatch, beta: float, *integers: int) -> None:
    """Draw these numbers."""
    given = list(integers)
    monkeypatch.setattr(np.random, "beta", lambda a, b: beta)
    monkeypatch.setattr(np.random, "randint", lambda high: given.pop(0))


def test_mixup_is_the_weighted_mean_with_the_reversed_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch, 0.75)
    inputs = torch.tensor([0.0, 100.0, 200.0]).view(3, 1, 1, 1).expand(3, 2, 4, 4)
    mixed, share = Mixup(alpha=0.8)(inputs)
    assert share == 0.75
    assert mixed[:, 0, 0, 0].tolist() == [50.0, 100.0, 150.0]  # 0.75 x 0 + 0.25 x 200, the middle with itself, ...
    assert (mixed == mixed[:, :1, :1, :1]).all()


def test_cutmix_pastes_a_window_and_corrects_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 8, 12).contiguous()
    # 1 - 0.75 of the area: half of each side, 4 x 6, around row 1 and column 10, cut off above and at the right
    fixed(monkeypatch, 0.75, 1, 10)
    mixed, share = CutMix(alpha=1.0)(inputs)
    expected = torch.ones(8, 12)
    expected[0:3, 7:12] = 2.0
    assert torch.equal(mixed[0, 0], expected)
    assert torch.equal(mixed[1, 0], 3 - expected)
    assert share == 1 - 15 / 96
    assert inputs[0].eq(1).all()


def test_cutmix_with_nothing_and_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 6, 6)
    fixed(monkeypatch, 1.0, 3, 3)
    assert CutMix(1.0)(inputs)[1] == 1.0
    fixed(monkeypatch, 0.0, 3, 3)
    mixed, share = CutMix(1.0)(inputs)
    assert share == 0.0 and torch.equal(mixed, inputs.flip(0))


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_the_target_is_what_the_picture_shows(kind: type) -> None:
    """A picture of ones among zeros: its mean is the share of the class, whatever was drawn."""
    for seed in range(50):
        np.random.seed(seed)
        inputs = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1).expand(2, 3, 9, 14)
        mixed, made = BatchAugment([kind(alpha=1.0)])(inputs, torch.eye(2), samples([0, 1]))
        assert mixed[0].mean().item() == pytest.approx(made[0].gt_score[0].item(), abs=1e-6)
        assert made[1].gt_score.tolist() == pytest.approx(
            [1 - made[0].gt_score[0].item(), made[0].gt_score[0].item()], abs=1e-6
        )
        assert [int(sample.gt_label) for sample in made] == [0, 1]


def test_shares_follow_the_beta_distribution() -> None:
    """Mean 1/2, variance 1 / (4 (2 alpha + 1)): 0.0962 for alpha 0.8."""
    np.random.seed(0)
    shares = np.array([Mixup(0.8)(torch.zeros(2, 1, 1, 1))[1] for _ in range(4000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * 2.6), abs=0.005)


def test_probabilities_of_the_mixtures() -> None:
    """timm's prob=0.8, switch_prob=0.25 are probs=(0.6, 0.2)."""
    np.random.seed(0)
    seen = {"a": 0, "b": 0}

    def count(name: str):
        def mix(inputs: Tensor) -> tuple[Tensor, float]:
            seen[name] += 1
            return inputs, 1.0

        return mix

    augment = BatchAugment([count("a"), count("b")], probs=(0.6, 0.2))
    for _ in range(2000):
        augment(torch.zeros(2, 1, 1, 1), torch.eye(2), samples([0, 1]))
    assert seen["a"] == pytest.approx(1200, abs=70) and seen["b"] == pytest.approx(400, abs=60)


class Mean(torch.nn.Module):
    out_channels, out_strides = (3,), (1,)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (image,)


def classifier(train_cfg: dict | None, smoothing: float = 0.0) -> Classifier:
    head = dict(type="LinearClsHead", in_channels=3, num_classes=4, label_smoothing=smoothing)
    return Classifier(Mean(), head, train_cfg=train_cfg)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_smoothed_and_then_mixed_labels(smoothing: float) -> None:
    model = classifier(dict(augments=BOTH), smoothing)
    torch.manual_seed(0)
    inputs, labels = torch.randn(4, 3, 16, 16), torch.tensor([2, 0, 3, 0])
    given = samples(labels.tolist())
    for seed in range(6):
        np.random.seed(seed)
        loss = model(inputs, given, mode="loss")["loss"]
        np.random.seed(seed)
        number = np.random.random_sample()
        mixed, share = (Mixup(0.8) if number < 0.5 else CutMix(1.0))(inputs)
        smooth = torch.full((4, 4), smoothing / 4).scatter_(1, labels[:, None], 1 - smoothing + smoothing / 4)
        target = share * smooth + (1 - share) * smooth.flip(0)
        by_hand = -(target * F.log_softmax(model.head.fc(mixed.mean((2, 3))), 1)).sum(1).mean()
        torch.testing.assert_close(loss, by_hand)
    assert all("gt_score" not in sample for sample in given)


def test_only_in_training() -> None:
    plain, mixing = classifier(None), classifier(dict(augments=BOTH)).eval()
    mixing.load_state_dict(plain.state_dict())
    inputs, given = torch.randn(3, 3, 8, 8), samples([0, 1, 2])
    assert torch.equal(plain(inputs, given, mode="loss")["loss"], mixing(inputs, given, mode="loss")["loss"])
    assert torch.equal(plain(inputs), mixing.train()(inputs))
    scores = [[sample.pred_score for sample in m(inputs, samples([0, 1, 2]), mode="predict")] for m in (plain, mixing)]
    assert torch.equal(torch.stack(scores[0]), torch.stack(scores[1]))


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (dict(augmentations=BOTH), r'model\.train_cfg has no key "augmentations"; did you mean "augments"'),
        (dict(augments=BOTH, probs=(0.7, 0.4)), r"a probability for each of the 2 augments .* not \(0\.7, 0\.4\)"),
        (dict(augments=BOTH, probs=(1.0,)), "for each of the 2 augments"),
        (dict(augments=dict(type="Mixup", alpha=1.0)), "a list of mixtures"),
        (dict(augments=[dict(type="Mixup", alpha=0)]), "Mixup: alpha is a number above 0, not 0"),
        (dict(probs=(1.0,)), "there are no augments"),
    ],
)
def test_wrong_settings(cfg: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        classifier(cfg)


@DATASETS.register_module()
class TinyLabelledDataset(Dataset):
    metainfo = dict(classes=("a", "b", "c", "d"))

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> dict:
        image = torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
        return dict(inputs=image, data_samples=samples([index % 4])[0])


def test_a_resumed_training_draws_the_same_mixtures(tmp_path: Path) -> None:
    cfg: Config = load_config(write_config(tmp_path))
    for key in ("val_dataloader", "val_cfg", "val_evaluator", "test_dataloader", "test_cfg", "test_evaluator"):
        cfg.pop(key)
    cfg.default_hooks.checkpoint.pop("save_best")
    cfg.model = dict(
        type="Classifier",
        backbone=dict(type="TinyBackbone"),
        head=dict(type="LinearClsHead", in_channels=8, num_classes=4),
        train_cfg=dict(augments=BOTH, probs=(0.4, 0.4)),
    )
    cfg.train_dataloader.dataset = dict(type="TinyLabelledDataset")
    cfg.train_cfg = dict(by_epoch=False, max_iters=7)
    cfg.param_scheduler, cfg.log_level = [], "ERROR"
    assert differences(cfg, tmp_path / "runs", 7, [3]) == []
