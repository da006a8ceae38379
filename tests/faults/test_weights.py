"""Files of weights: code in them is refused, damage is named, and what does not fit is said."""

import json
import pickle
import runpy
import struct
import uuid
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch as safetensors
import torch
from engine.tiny import write_config
from torch import nn

from faults import attacks
from faults.expect import expect
from visionpatch.engine import build_runner, load_config
from visionpatch.engine.checkpoint import Pretrained, load_checkpoint_file, load_state, sha256_of, state_dict_of
from visionpatch.engine.predictions import read_predictions
from visionpatch.errors import DataError, WeightsError

ROOT = Path(__file__).resolve().parents[2]


def refusal(path: Path, *words: str) -> str:
    """The one line with which a checkpoint is refused; it holds the name of the file and all `words`."""
    with pytest.raises(WeightsError) as caught:
        load_checkpoint_file(path)
    message = str(caught.value)
    expect("\n" not in message and message.startswith(f"{path}: "), message)
    expect(all(word in message for word in words), message)
    return message


REMEDY = ("refused", "nothing was executed", "tools/convert_checkpoint.py plain", "--trust-checkpoint")


@pytest.mark.parametrize("name", list(attacks.payloads(Path("x"))))
def test_fault_01_payloads(tmp_path: Path, name: str) -> None:
    """Whatever function a pickle names, in the formats of torch: refused with the way to convert it."""
    trap = tmp_path / "trap"
    for write in (attacks.write_zip, attacks.write_legacy):
        write(tmp_path / "evil.pth", {"state_dict": {"w": torch.ones(1)}, "x": attacks.payloads(trap)[name]})
        refusal(tmp_path / "evil.pth", *REMEDY)
    expect(not trap.exists(), f"{name} was executed")


@pytest.mark.parametrize("place", list(attacks.places(attacks.Payload(len))))
def test_fault_01_hiding_places(tmp_path: Path, place: str) -> None:
    """Wherever in a checkpoint it stands."""
    trap = tmp_path / "trap"
    for write in (attacks.write_zip, attacks.write_legacy):
        write(tmp_path / "evil.pth", attacks.places(attacks.payloads(trap)["mkdir"])[place])
        refusal(tmp_path / "evil.pth", *REMEDY, "mkdir")
    expect(not trap.exists(), f"a payload in {place} was executed")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", attacks.FORMATS)
def test_fault_01_formats(tmp_path: Path, kind: str, suffix: str) -> None:
    """In every format that a careless reader would unpickle, whatever the file is called."""
    path, trap = tmp_path / f"evil{suffix}", tmp_path / "trap"
    attacks.FORMATS[kind](path, {"state_dict": {}, "x": attacks.payloads(trap)["mkdir"]})
    refusal(path, *(REMEDY if suffix == ".pth" else ("is named .safetensors, but is of the kind",)))
    expect(not trap.exists(), f"a payload in {kind} was executed")


@pytest.mark.parametrize("name", attacks.FORGERIES)
def test_fault_01_forgeries(tmp_path: Path, name: str) -> None:
    """Allowed names used for something else, and lies about sizes, are errors and leave nothing behind."""
    path = tmp_path / "deep" / "er" / "evil.pth"
    path.parent.mkdir(parents=True)
    code, parts = attacks.FORGERIES[name]
    attacks.forge(path, code, *parts)
    refusal(path)
    expect([p for p in tmp_path.rglob("*") if p.is_file()] == [path], "a file was written")


def test_fault_01_what_passes_is_plain(tmp_path: Path) -> None:
    """The forger's tools make good files too; attributes of containers and hooks of tensors do not come through."""
    path = tmp_path / "f.pth"
    attacks.forge(path, attacks.in_model(attacks.tensor()), attacks.ZEROS)
    expect(torch.equal(load_checkpoint_file(path)["x"], torch.zeros(4)), "a plain tensor is read")
    shadowed: Any = OrderedDict(w=nn.Parameter(torch.ones(2)))
    shadowed.keys = shadowed.get = {1, 2}
    for write in (attacks.write_zip, attacks.write_legacy):
        write(path, {"state_dict": shadowed})
        read = load_checkpoint_file(path)["state_dict"]
        expect(type(read) is OrderedDict and not vars(read), "attributes came through")
        expect(type(read["w"]) is torch.Tensor and torch.equal(read["w"], torch.ones(2)), read)


def test_fault_01_compressed_bomb(tmp_path: Path) -> None:
    """A quarter of a gigabyte in a file of a quarter of a megabyte is not unpacked."""
    path = tmp_path / "bomb.pth"
    code = attacks.in_model(attacks.tensor(numel=1 << 26))
    attacks.forge(path, code, ("a/data/0", bytes(1 << 28)), compression=zipfile.ZIP_DEFLATED)
    expect(path.stat().st_size < 1 << 20, "compressed")
    refusal(path, "more than the whole file")


def test_fault_01_billion_laughs(tmp_path: Path) -> None:
    """Lists that hold one list twice, thirty times over, take no longer to read than to write."""
    laugh: list = []
    for _ in range(30):
        laugh = [laugh, laugh]
    torch.save({"state_dict": {}, "x": laugh}, tmp_path / "f.pth")
    read = load_checkpoint_file(tmp_path / "f.pth")["x"]
    expect(read[0] is read[1] and read[0][1][0] is read[1][0][1], "shared lists stay shared")


def test_fault_01_the_config_inside_is_never_run(tmp_path: Path) -> None:
    """Resuming from a checkpoint whose stored config is a program."""
    cfg = load_config(write_config(tmp_path), work_dir=str(tmp_path / "work"))
    build_runner(cfg).train()
    trap = tmp_path / "trap"
    checkpoint = torch.load(tmp_path / "work/epoch_2.pth", weights_only=True)
    checkpoint["meta"] |= dict(config=f"import os; os.mkdir({str(trap)!r})", cfg=f"import os; os.mkdir({str(trap)!r})")
    torch.save(checkpoint, tmp_path / "evil.pth")
    cfg.load_from, cfg.resume = str(tmp_path / "evil.pth"), True
    cfg.train_cfg.max_epochs = 3
    build_runner(cfg).train()
    expect((tmp_path / "work/epoch_3.pth").is_file() and not trap.exists(), "the config was executed")


@pytest.mark.parametrize("name", ["objects.npz", "field.npz", "objects.json", "bomb.json", "index.npz", "pickle.npz"])
def test_fault_01_predictions(tmp_path: Path, name: str) -> None:
    """Prediction files hold numbers and names; nothing in them is unpickled."""
    path, trap = tmp_path / name, tmp_path / "trap"
    evil = np.array([attacks.payloads(trap)["mkdir"]], dtype=object)
    names = np.array(["a.png"])
    if name == "pickle.npz":
        path.write_bytes(pickle.dumps(evil))
    elif name.endswith(".npz"):
        arrays = {
            "objects.npz": dict(img_path=evil),
            "field.npz": {"img_path": names, "0/sem_seg": evil},
            "index.npz": {"img_path": names, "-1/label": np.ones(1)},
        }
        np.savez(path, **arrays[name])
    else:
        bomb = dict(img_path="a", sem_seg=dict(shape=[1 << 30, 1 << 30], runs=[[0, 1 << 60]]))
        path.write_text(json.dumps([dict(img_path="a", label=[{"a": 1}]) if name == "objects.json" else bomb]))
    with pytest.raises(DataError, match=rf"{name}: not a prediction file of tools/test.py --out \(\d+ bytes"):
        read_predictions(path)
    expect(not trap.exists(), "a payload was executed")


@pytest.mark.parametrize("tool", ["train.py", "test.py", "image_demo.py", "convert_checkpoint.py"])
def test_fault_01_trust_is_a_flag_of_the_tools(tmp_path: Path, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --trust-checkpoint the file is refused, with it its code runs, and afterwards it is refused again."""
    monkeypatch.chdir(tmp_path)
    path, trap = tmp_path / "w.pth", tmp_path / "trap"
    attacks.write_zip(path, {"state_dict": {"no": torch.ones(1)}, "x": attacks.payloads(trap)["mkdir"]})
    with pytest.raises(WeightsError, match="w.pth: refused, it asks to run"):
        run_tool(tool, tmp_path, path)
    expect(not trap.exists(), "executed without the flag")
    try:
        run_tool(tool, tmp_path, path, "--trust-checkpoint")
    except WeightsError as error:  # it was read, and does not fit
        expect("refused" not in str(error), error)
    expect(trap.is_dir(), "the flag does nothing")
    refusal(path, "refused")


SEGMENTATION = ROOT / "configs/crossformer/crossformer-micro_fpn_1xb16-600_sample-96x96.py"


def run_tool(tool: str, folder: Path, checkpoint: Path, *flags: str) -> None:
    """Give a checkpoint to a tool."""
    names = f"width = 8; log_level = 'ERROR'; experiment_name = '{folder.name} {uuid.uuid4()}'"
    pipeline = "test_pipeline = [dict(type='LoadImage')]\ntrain_cfg = dict("
    config = str(write_config(folder, ("width = 8", names), ("train_cfg = dict(", pipeline)))
    cv2.imwrite(str(folder / "p.png"), np.zeros((8, 8, 3), np.uint8))
    arguments = {
        "train.py": [config, "--resume", str(checkpoint)],
        "test.py": [config, str(checkpoint)],
        "image_demo.py": [str(folder / "p.png"), str(SEGMENTATION), "--weights", str(checkpoint)],
        "convert_checkpoint.py": ["plain", str(checkpoint), str(folder / "out.pth")],
    }[tool]
    path = ROOT / ("demo" if tool == "image_demo.py" else "tools") / tool
    runpy.run_path(str(path))["main"]([*arguments, *flags])


def damaged(folder: Path) -> dict[str, bytes]:
    """Name -> content of files that are no checkpoint any more, or never were."""
    torch.save({"state_dict": {"w": torch.ones(100)}}, folder / "whole")
    torch.save({"state_dict": {"w": torch.ones(100)}}, folder / "old", _use_new_zipfile_serialization=False)
    safetensors.save_file({"w": torch.ones(100)}, folder / "safe")
    whole, old, safe = ((folder / name).read_bytes() for name in ("whole", "old", "safe"))
    cut = {f"cut_{share}.pth": whole[: len(whole) * share // 100] for share in (1, 30, 60, 99)}
    cut |= {f"old_{share}.pth": old[: len(old) * share // 100] for share in (1, 30, 60, 99)}
    cut |= {f"safe_{share}.safetensors": safe[: len(safe) * share // 100] for share in (1, 30, 60, 99)}
    flipped = bytearray(whole)
    flipped[whole.index(struct.pack("<2f", 1, 1)) + 5] ^= 1
    return cut | {
        "flipped.pth": bytes(flipped),
        "empty.pth": b"",
        "text.pth": b"a text file\n",
        "page.pth": b"<!DOCTYPE html><html></html>",
        "config.pth": b'{"a": 1}',
        "picture.pth": cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes(),
        "zeros.pth": bytes(1000),
    }


def test_fault_02_damaged_files(tmp_path: Path) -> None:
    """The error names the file and its size; one flipped bit of one weight is damage as well."""
    for name, content in damaged(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        refusal(tmp_path / name, f"{len(content)} bytes", "give an older")
    refusal(tmp_path / "none.pth", "no such checkpoint file")
    refusal(tmp_path, "is a folder")


@pytest.mark.parametrize("tool", ["train.py", "test.py", "image_demo.py", "convert_checkpoint.py"])
def test_fault_02_every_tool_says_it(tmp_path: Path, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in damaged(tmp_path).items():
        if name in ("cut_60.pth", "empty.pth", "text.pth", "safe_60.safetensors"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(WeightsError, match=rf"{name}: .*\b{len(content)} bytes"):
                run_tool(tool, tmp_path, tmp_path / name)


def test_fault_02_a_download_of_another_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose SHA-256 is not the one in its name is not kept."""
    (tmp_path / "page").write_text("<html>not found</html>")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda url, path: Path(path).write_bytes((tmp_path / "page").read_bytes())
    )
    with pytest.raises(WeightsError, match=f"SHA-256 begins with {sha256_of(tmp_path / 'page')[:8]}, its name says 0"):
        Pretrained("https://example.org/net-00000000.pth")(nn.Linear(1, 1))
    expect(not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()], "the file was kept")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*(nn.Linear(3, 3) for _ in range(10)))
        self.head = nn.Linear(3, 2)


def test_fault_08_the_report() -> None:
    """Matched, missing, unexpected and of wrong shape are told apart."""
    state = {"backbone.0.weight": torch.ones(3, 3), "head.weight": torch.ones(5, 3), "x": torch.ones(1)}
    report = load_state(Net(), state)
    expect(report.matched == ("backbone.0.weight",), report.matched)
    expect(report.unexpected == ("x",) and len(report.missing) == 20, report)
    expect(report.wrong_shape == (("head.weight", (5, 3), (2, 3)),), report.wrong_shape)
    expect(report.summary().startswith("1 keys matched, 20 missing (backbone.0.bias, "), report.summary())


def test_fault_08_too_little_matched() -> None:
    """Nothing is always an error; less than 95 % of the backbone is one unless it is allowed."""
    full = Net().state_dict()
    with pytest.raises(WeightsError, match="f.pth: none of its 1 keys fits Net"):
        load_state(Net(), {"x": torch.ones(1)}, "f.pth", allow_partial=True)
    backbone = [key for key in full if key.startswith("backbone.")]
    load_state(Net(), {key: full[key] for key in backbone[:19]}, "f.pth", allow_partial=False)
    few = {key: full[key] for key in backbone[:18]}
    with pytest.raises(WeightsError, match=r"f.pth: fills 18 of the 20 keys of the backbone \(90%.*allow_partial_load"):
        load_state(Net(), few, "f.pth", allow_partial=False)
    expect(len(load_state(Net(), few, allow_partial=True).matched) == 18, "allowed")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_fault_08_wrappers_are_taken_off(prefix: str) -> None:
    state = state_dict_of({"state_dict": {prefix + key: value for key, value in Net().state_dict().items()}})
    expect(len(load_state(Net(), state, strict=True).matched) == 22, "all keys fit")


@pytest.mark.parametrize("prefix", ["backbone.", "model.", "encoder.", "state_dict.", "teacher.", "student.", "a.b."])
def test_fault_08_the_prefix_is_recognised(prefix: str) -> None:
    """Keys of a backbone under another name, or under none: the message says what to write."""
    plain = Net().backbone.state_dict()
    state = {prefix + key: value for key, value in plain.items()}
    with pytest.raises(WeightsError, match=rf'"{prefix}" removed.*init_cfg = dict\(.*prefix="{prefix}"\)'):
        load_state(Net().backbone, state, "f.pth", whole=True, allow_partial=False)
    with pytest.raises(
        WeightsError, match=r'20 keys would fit with the prefix "backbone." added: write model.backbone'
    ):
        load_state(Net(), plain, "f.pth", allow_partial=False)
