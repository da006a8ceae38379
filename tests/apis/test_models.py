"""Models and pictures by name, file and checkpoint."""

from pathlib import Path

import pytest
import torch
from engine.tiny import TinySegmentor, write_config

from visionpatch.apis import get_config, get_model, list_models
from visionpatch.errors import ConfigError, WeightsError


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "configs" / "tiny_method"
    (tmp_path / "configs/_base_").mkdir(parents=True)
    (tmp_path / "configs/_base_/hidden.py").write_text("")
    folder.mkdir()
    write_config(folder, name="tiny-a_voc.py")
    write_config(folder, name="tiny-b_ade.py")
    monkeypatch.chdir(tmp_path)
    assert list_models("tiny-") == list_models("tiny*") == ["tiny-a_voc", "tiny-b_ade"]
    assert list_models("tiny*voc") == ["tiny-a_voc"] and not list_models("hidden")
    assert get_config("tiny-a_voc").filename.endswith("tiny-a_voc.py")
    assert get_config("tiny-a_voc", {"train_cfg.max_epochs": 9}).train_cfg.max_epochs == 9
    with pytest.raises(ConfigError, match='no config is called "tiny-a_vocc"; did you mean "tiny-a_voc"'):
        get_config("tiny-a_vocc")


def test_model(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    model = get_model(path)
    assert isinstance(model, TinySegmentor) and not model.training
    checkpoint = tmp_path / "w.pth"
    state = {key: torch.full_like(value, 0.5) for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, "meta": {"dataset_meta": {"classes": ("a", "b", "c")}}}, checkpoint)
    loaded = get_model(get_config(path), checkpoint)
    assert all((p == 0.5).all() for p in loaded.parameters()) and loaded.dataset_meta["classes"] == ("a", "b", "c")
    torch.save({"state_dict": {"backbone.conv.bias": torch.zeros(8)}}, checkpoint)
    with pytest.raises(WeightsError, match="w.pth: does not fit TinySegmentor: 1 keys matched, 3 missing"):
        get_model(path, checkpoint)
    (tmp_path / "none.py").write_text("x = 1")
    with pytest.raises(ConfigError, match="none.py: has no model"):
        get_model(tmp_path / "none.py")
