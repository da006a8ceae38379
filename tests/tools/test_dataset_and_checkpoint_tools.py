"""Drawing the sample set, and converting checkpoints, from the command line."""

import pytest
import torch
from tool import run

from visionpatch.engine import load_checkpoint_file
from visionpatch.models import Classifier

ARCH = dict(embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))


def test_sample_set(tmp_path, capsys):
    tool = "tools/dataset_converters/make_sample_dataset.py"
    assert run(tool, tmp_path, "--train", 2, "--val", 1, "--size", 32) == 0
    assert "2 training and 1 validation pictures, 21 classes" in capsys.readouterr().out
    assert len(list((tmp_path / "VOCdevkit/VOC2012/JPEGImages").iterdir())) == 3
    assert run(tool, tmp_path, "--size", 8) == 2
    assert "size=8" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.pth", "sub/out.safetensors"])
def test_convert(tmp_path, capsys, name):
    backbone = dict(type="CrossFormer", arch=ARCH, out_indices=(3,), out_norm=True)
    model = Classifier(backbone, dict(type="LinearClsHead", in_channels=128, num_classes=4))
    names = {k: k.replace("backbone.", "").replace("head.fc.", "head.") for k in model.state_dict()}
    torch.save({"model": {names[k]: v for k, v in model.state_dict().items()}}, tmp_path / "published.pth")
    assert run("tools/convert_checkpoint.py", "crossformer", tmp_path / "published.pth", tmp_path / name) == 0
    assert f"{len(names)} tensors" in capsys.readouterr().out
    converted = load_checkpoint_file(tmp_path / name)["state_dict"]
    assert converted.keys() == names.keys()
    assert all(torch.equal(converted[k], v) for k, v in model.state_dict().items())


class Settings:
    """Stands for the objects that training scripts leave in their checkpoints."""


def test_objects_in_a_checkpoint_need_trust(tmp_path, capsys):
    state = {"patch_embed.norm.weight": torch.ones(4)}
    torch.save({"model": state, "config": Settings()}, tmp_path / "published.pth")
    command = ("tools/convert_checkpoint.py", "crossformer", tmp_path / "published.pth", tmp_path / "out.pth")
    assert run(*command) == 2
    assert "published.pth: holds objects besides tensors" in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()
    assert run(*command, "--trust-checkpoint") == 0
    assert load_checkpoint_file(tmp_path / "out.pth")["state_dict"]["backbone.patch_embed.norm.weight"].sum() == 4
