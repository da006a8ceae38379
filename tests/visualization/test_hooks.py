"""The hook of tools/test.py --show-dir and --show."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from visionpatch.errors import BadSampleError, ConfigError, MissingDependencyError
from visionpatch.structures import DataSample
from visionpatch.visualization import SegVisualizationHook, draw_sample

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
    hook = SegVisualizationHook(out_dir=tmp_path / "out", interval=2)
    hook.after_test_iter(runner, 0, None, samples)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["one.png", "three.png"]
    picture = cv2.imread(str(tmp_path / "out/one.png"))
    assert picture.shape[1] == 808  # truth and prediction side by side
    assert picture[40, 600].tolist() == [0, 0, 128]


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSampleError, match="gone.jpg: the image that was predicted cannot be read"):
        draw_sample(sample_of(tmp_path / "gone.jpg"), META)
    with pytest.raises(ConfigError, match="interval = 0"):
        SegVisualizationHook(interval=0)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(MissingDependencyError, match="needs a display .* --show-dir"):
        SegVisualizationHook(show=True)
