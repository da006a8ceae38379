"""The proofs of a trustworthy training, on the configs of every task: a new task joins by a line in CASES."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from tool import ROOT, run

from visionpatch.datasets.sample_set import make_sample_dataset
from visionpatch.engine import build_runner, load_config
from visionpatch.engine.config import parse_options
from visionpatch.errors import NonFiniteLossError
from visionpatch.paths import data_path

# config -> what makes it small; {data} is a drawn set in the layout of PASCAL VOC
CASES = {
    "configs/crossformer/crossformer-micro_fpn_1xb16-600_sample-96x96.py": [
        "train_dataloader.dataset.data_root={data}",
        "val_dataloader.dataset.data_root={data}",
        "val_dataloader.dataset.indices=2",
        "train_dataloader.batch_size=2",
        "model.backbone.drop_path_rate=0.2",
        "model.decode_head.dropout_ratio=0.1",
    ],
    "configs/efficientnet_lite/efficientnet-lite0_retinanet_1xb4-50e_coco-small-32-384x384.py": [
        "train_dataloader.dataset.indices=8",
        "val_dataloader.dataset.indices=2",
        "train_dataloader.batch_size=2",
        "train_dataloader.dataset.pipeline.2.scale=(128,128)",
        "model.backbone.pretrained=False",
    ],
    "configs/sccan/sccan_efficientnet-lite0_1xb8-400_pascal-5i-320x320.py": [
        "train_dataloader.dataset.pipeline.4.size=96",
        "train_dataloader.batch_size=2",
        "val_dataloader.dataset.num_episodes=2",
        "model.decode_head.channels=16",
        "model.decode_head.map_size=16",
        "model.decode_head.patch_size=4",
        "model.cached_pictures=6",
        "model.backbone.pretrained=False",
    ],
}
# a word in a config's name -> the real pictures it needs
REAL = {"coco-small": "data/coco_small", "pascal-5i": "data/VOCdevkit"}


class Poison(Hook):
    """From the third iteration on the gradient of every parameter that learns is infinite."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == 2:
            self.before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
            for parameter in runner.model.parameters():
                if parameter.requires_grad:
                    parameter.register_hook(lambda gradient: gradient * float("inf"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sample_dataset(tmp_path_factory.mktemp("data"), train=7, val=4, size=64, seed=1)


def options(config: str, data: Path) -> list[str]:
    for word, folder in REAL.items():
        if word in config and not Path(data_path(folder)).is_dir():
            pytest.skip(f"no {folder}; set VISIONPATCH_DATA to a folder of real pictures")
    return [option.format(data=data) for option in CASES[config]] + ["log_level=ERROR"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("config", CASES)
def test_resumed_equals_uninterrupted(
    config: str,
    workers: int,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = [*options(config, data), f"train_dataloader.num_workers={workers}"]
    flags = ["--iterations", 5, "--breaks", 2, 3, "--cfg-options", *changes]
    status = run("tools/check_resume.py", ROOT / config, *flags)
    out = capsys.readouterr().out
    assert status == 0 and out.splitlines()[-1].endswith(
        "after 2, 3 of 5 iterations and resumed: equal to the last bit"
    )
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.parametrize("config", CASES)
def test_not_finite_stops_before_the_step(config: str, data: Path, tmp_path: Path) -> None:
    runner = build_runner(load_config(ROOT / config, parse_options(options(config, data)), str(tmp_path)))
    poison = Poison()
    runner.register_hook(poison)
    with pytest.raises(
        NonFiniteLossError, match=r"^iteration 3: the gradient of .* is not finite \(.*loss.* samples: .*p"
    ):
        runner.train()
    assert all(torch.equal(p, poison.before[name]) for name, p in runner.model.named_parameters())
