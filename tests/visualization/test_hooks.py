"""The hook of tools/test.py --show-dir and --show."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from visionpatch.errors import BadSampleError, ConfigError, MissingDependencyError
from visionpatch.registry import HOOKS
from visionpatch.structures import DataSample
from visionpatch.visualization import VisualizationHook, draw_sample

META = dict(classes=("a", "b"), palette=[(0, 0, 0), (255, 0, 0)])


def sample_of(path: Path) -> DataSample:
    sample = DataSample(metainfo=dict(img_path=str(path)))
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, 40, 400, dtype=torch.long))
    sample.pred_sem_seg = PixelData(data=torch.ones(1, 40, 400, dtype=torch.long))
    return sample


def test_pictures_are_written(tmp_path: Path) -> None:
    samples = []
    for name in ("one", "two", "three"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.zeros((40, 400, 3), dtype=np.uint8))
        samples.append(sample_of(tmp_path / f"{name}.jpg"))
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=META)))
    hook = VisualizationHook(out_dir=tmp_path / "out", interval=2)
    hook.after_test_iter(runner, 0, None, samples)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["one.png", "three.png"]
    picture = cv2.imread(str(tmp_path / "out/one.png"))
    assert picture.shape[1] == 808  # truth and prediction side by side
    assert picture[40, 600].tolist() == [0, 0, 128]


def test_samples_with_objects_are_drawn_as_such(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.jpg"), np.zeros((300, 400, 3), dtype=np.uint8))
    sample = DataSample(metainfo=dict(img_path=str(tmp_path / "one.jpg")))
    box = torch.tensor([[100.0, 100, 200, 180]])
    sample.gt_instances = InstanceData(bboxes=box, labels=torch.tensor([1]))
    sample.pred_instances = InstanceData(bboxes=box, labels=torch.tensor([1]), scores=torch.tensor([0.4]))
    shown, hidden = draw_sample(sample, META, min_score=0.4), draw_sample(sample, META, min_score=0.5)
    assert shown.shape == hidden.shape and shown.shape[1] == 808
    title = shown.shape[0] - 300
    truth, prediction = shown[title + 100, 150], shown[title + 100, 408 + 150]
    assert truth.tolist() == prediction.tolist() == [0, 0, 255]
    assert hidden[title + 100, 408 + 150].tolist() == [0, 0, 0] and hidden[title + 100, 150].tolist() == [0, 0, 255]
    names = ("VisualizationHook", "SegVisualizationHook", "DetVisualizationHook")
    assert {HOOKS.get(name) for name in names} == {VisualizationHook}


def test_samples_with_pictures_are_drawn_without_classes(tmp_path: Path) -> None:
    sample = DataSample(metainfo=dict(img_path="folder/one.jpg"))
    sample.gt_image, sample.pred_image = torch.zeros(3, 200, 240), torch.full((3, 200, 240), 255.0)
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=()))))
    VisualizationHook(out_dir=tmp_path).after_test_iter(runner, 0, None, [sample])
    picture = cv2.imread(str(tmp_path / "one.png"))
    assert picture.shape[1] == 488 and picture[100, 100].sum() == 0 and picture[100, 400].sum() == 765


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSampleError, match="gone.jpg: the image that was predicted cannot be read"):
        draw_sample(sample_of(tmp_path / "gone.jpg"), META)
    with pytest.raises(ConfigError, match="interval = 0"):
        VisualizationHook(interval=0)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(MissingDependencyError, match="needs a display .* --show-dir"):
        VisualizationHook(show=True)
