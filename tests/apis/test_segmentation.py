"""The segmentation inferencer with a real model, untrained, and the demo on top of it."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from visionpatch.apis import SegmentationInferencer, cli, get_model
from visionpatch.errors import BadSampleError, ConfigError

CONFIG = """
model = dict(
    type='Segmentor',
    backbone=dict(type='EfficientNetLite', arch='lite0', out_indices=(0,)),
    decode_head=dict(type='FCNHead', in_channels=24, channels=8, num_convs=1, num_classes=21),
)
test_pipeline = [dict(type='LoadImage'), dict(type='Resize', scale=(64, 64), keep_ratio=True),
                 dict(type='LoadAnnotations'), dict(type='PackInputs')]
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='PascalVOCDataset', data_root='nowhere', pipeline=test_pipeline),
)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def weights(config: Path) -> Path:
    torch.manual_seed(0)
    path = config.with_name("w.pth")
    torch.save({"state_dict": get_model(config).state_dict(), "meta": {}}, path)
    return path


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 72, 3), dtype=np.uint8)


def test_paths_and_arrays_agree(config: Path, weights: Path, tmp_path: Path) -> None:
    """Predictions have the size of the picture, whatever way it is given, one at a time or several."""
    inferencer = SegmentationInferencer(config, weights, "cpu")
    cv2.imwrite(str(tmp_path / "a.png"), picture())
    single = inferencer(tmp_path / "a.png")
    several = inferencer([str(tmp_path / "a.png"), picture(), picture(1)])
    maps = [sample.pred_sem_seg.data for sample in [*single, *several]]
    assert len(single) == 1 and len(several) == 3 and all(m.shape == (1, 40, 72) for m in maps)
    assert torch.equal(maps[0], maps[1]) and torch.equal(maps[0], maps[2]) and not torch.equal(maps[0], maps[3])
    assert single[0].img_path == str(tmp_path / "a.png")
    assert inferencer.classes[15] == "person" and tuple(inferencer.palette[15]) == (192, 128, 128)
    assert inferencer.draw(picture(), single[0]).shape[1] == 5 * 72


def test_classes_of_the_checkpoint_win(config: Path, weights: Path, tmp_path: Path) -> None:
    names = tuple(f"thing {i}" for i in range(21))
    checkpoint = torch.load(weights, weights_only=True) | {"meta": {"dataset_meta": {"classes": names}}}
    torch.save(checkpoint, tmp_path / "named.pth")
    inferencer = SegmentationInferencer(config, tmp_path / "named.pth", "cpu")
    assert inferencer.classes == names and len(inferencer.palette) == 21


def test_errors(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="without weights: the model is untrained"):
        inferencer = SegmentationInferencer(config, device="cpu")
    with pytest.raises(BadSampleError, match="gone.png"):
        inferencer(tmp_path / "gone.png")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match='device = "cuda:0", but torch sees no GPU'):
        SegmentationInferencer(config, device="cuda:0")


def test_demo(
    config: Path,
    weights: Path,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder: pictures are drawn, others are named; one bad picture alone is an error."""
    monkeypatch.setenv("COLUMNS", "300")
    spec = importlib.util.spec_from_file_location("image_demo", root / "demo/image_demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), picture())
    cv2.imwrite(str(folder / "b.jpg"), picture(1))
    (folder / "broken.png").write_text("no picture")
    (folder / "notes.txt").write_text("hello")
    options = [str(config), "--weights", str(weights), "--device", "cpu", "--out-dir", str(out)]
    assert demo.main([str(folder), *options]) == 0
    shown = capsys.readouterr().out
    assert f"wrote 2 picture(s) to {out}/" in shown and "notes.txt: not a picture" in shown and "broken.png" in shown
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.png"]
    assert cv2.imread(str(out / "a.png")).shape[1] == 360
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: demo.main([str(folder / "broken.png"), *options]))
    assert left.value.code == 2 and "broken.png" in capsys.readouterr().err
