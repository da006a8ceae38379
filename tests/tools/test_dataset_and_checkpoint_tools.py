"""Drawing the sample set, and converting checkpoints, from the command line."""

import pytest
import safetensors.torch as safetensors
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


@pytest.mark.parametrize(("given", "made"), [("f.pth", "g.safetensors"), ("f.safetensors", "g.pth")])
def test_plain(tmp_path, capsys, given, made):
    """Any checkpoint becomes one of tensors alone, with the same names; shared and turned tensors too."""
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"a.w": weight, "a.t": weight.t(), "b": torch.ones(2, dtype=torch.int64)}
    if given.endswith(".pth"):
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "optimizer": {}}, tmp_path / given)
    else:
        safetensors.save_file({k: v.clone().contiguous() for k, v in state.items()}, tmp_path / given)
    assert run("tools/convert_checkpoint.py", "plain", tmp_path / given, tmp_path / made) == 0
    assert "3 tensors, 14 values" in capsys.readouterr().out
    read = load_checkpoint_file(tmp_path / made)
    assert read.keys() == {"state_dict"} and all(torch.equal(read["state_dict"][k], v) for k, v in state.items())
    assert {p.name for p in tmp_path.iterdir()} == {given, made}


def test_nothing_to_convert(tmp_path, capsys):
    torch.save({"state_dict": {}}, tmp_path / "f.pth")
    assert run("tools/convert_checkpoint.py", "plain", tmp_path / "f.pth", tmp_path / "g.pth") == 2
    assert "f.pth: holds no tensor" in capsys.readouterr().err and not (tmp_path / "g.pth").exists()


class Settings:
    """Stands for the objects that training scripts leave in their checkpoints."""


def test_objects_in_a_checkpoint_need_trust(tmp_path, capsys):
    state = {"patch_embed.norm.weight": torch.ones(4)}
    torch.save({"model": state, "config": Settings()}, tmp_path / "published.pth")
    command = ("tools/convert_checkpoint.py", "crossformer", tmp_path / "published.pth", tmp_path / "out.pth")
    assert run(*command) == 2
    message = capsys.readouterr().err
    assert "published.pth: refused, it asks to run" in message and "Settings" in message
    assert "--trust-checkpoint" in message
    assert not (tmp_path / "out.pth").exists()
    assert run(*command, "--trust-checkpoint") == 0
    assert load_checkpoint_file(tmp_path / "out.pth")["state_dict"]["backbone.patch_embed.norm.weight"].sum() == 4
