"""The demo of dependencies, from a config and pictures to files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from tool import run

from visionpatch.apis import DependencyInferencer
from visionpatch.errors import ConfigError

CONFIG = """
default_scope = "visionpatch"
model = dict(
    type="Classifier",
    backbone=dict(
        type="DependencyViT", arch=dict(embed_dims=24, num_layers=2, num_heads=3), img_size=64, out_indices=-1,
        pool="message",
    ),
    head=dict(type="LinearClsHead", in_channels=24, num_classes=3),
)
test_dataloader = dict(
    dataset=dict(
        type="ImageFolderDataset", data_root="none",
        pipeline=[
            dict(type="LoadImage"), dict(type="Resize", scale=(80, 64), keep_ratio=False), dict(type="PackInputs")
        ],
    )
)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "nano.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    return path


@pytest.mark.filterwarnings("ignore:DependencyInferencer without weights")
def test_the_demo_writes_four_panels(config: Path, picture: Path, capsys: pytest.CaptureFixture):
    out = picture.parent / "out"
    assert run("demo/dependency_demo.py", picture, config, "--out-dir", out, "--parts", 3, "--device", "cpu") == 0
    drawn = cv2.imread(str(out / "photo.png"))
    assert drawn.shape[1] == 4 * 640 + 3 * 8  # 80 x 64 pixels eight times enlarged
    assert "root at row" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:DependencyInferencer without weights")
def test_what_it_finds_is_a_tree_over_the_picture_as_the_network_saw_it(config: Path, picture: Path):
    found = DependencyInferencer(config, device="cpu").analyse(picture)
    assert found.grid == (4, 5) and found.stride == 16 and found.image.shape == (64, 80, 3)
    assert sorted(found.tree.order.tolist()) == list(range(20))
    assert found.saliency.shape == (64, 80) and 0.8 < found.saliency.max() <= 1
    assert set(found.parts(3).tolist()) <= {0, 1, 2}


def test_another_backbone_is_refused(tmp_path: Path):
    cfg = Config(dict(model=dict(type="Classifier", backbone=dict(type="ResNet", depth=18))))
    with pytest.raises(ConfigError, match="needs a model on a DependencyViT; this one has ResNet"):
        DependencyInferencer(cfg)


def test_wrong_number_of_parts(config: Path, picture: Path, capsys: pytest.CaptureFixture):
    assert run("demo/dependency_demo.py", picture, config, "--parts", 0) == 2
    assert "expected 1 or more" in capsys.readouterr().err
