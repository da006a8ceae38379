"""Checkpoints are data: nothing in them runs, and what does not fit is said."""

import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from visionpatch.engine.checkpoint import (
    Pretrained,
    differences,
    fetch_checkpoint,
    from_plain,
    load_checkpoint_file,
    load_state,
    sha256_of,
    state_dict_of,
    to_plain,
    trusting,
)
from visionpatch.errors import WeightsError


class Payload:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


class GetattrPayload(Payload):
    """MMEngine's own checkpoints name getattr; of a log history it may fetch four methods and nothing else."""

    def __reduce__(self) -> tuple:
        return getattr, (HistoryBuffer, "__init_subclass__")


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_checkpoint_file(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [(Payload, "mkdir"), (GetattrPayload, "getattr")])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_payload_is_refused_and_not_run(tmp_path: Path, kind: type, name: str, zipped: bool) -> None:
    path, trap = tmp_path / "evil.pth", tmp_path / "trap"
    torch.save({"state_dict": {}, "meta": kind(trap)}, path, _use_new_zipfile_serialization=zipped)
    text = refusal(path)
    assert "refused" in text and name in text and "nothing was executed" in text and ".safetensors" in text
    assert not trap.exists()


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    path, trap = tmp_path / "evil.pth", tmp_path / "trap"
    path.write_bytes(pickle.dumps({"a": Payload(trap)}))
    refusal(path)
    assert not trap.exists()


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, tmp_path / "good.pth")
    assert 'no such checkpoint file; did you mean "good.pth"?' in refusal(tmp_path / "goood.pth")
    (tmp_path / "empty.pth").touch()
    assert "empty (0 bytes)" in refusal(tmp_path / "empty.pth")
    content = (tmp_path / "good.pth").read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.pth").write_bytes(content[: int(share * len(content))])
        assert f"{int(share * len(content))} bytes that cannot be read as a checkpoint" in refusal(tmp_path / "cut.pth")
    (tmp_path / "text.pth").write_text("hello")
    assert "cannot be read as a checkpoint" in refusal(tmp_path / "text.pth")
    (tmp_path / "text.safetensors").write_text("hello")
    assert "cannot be read as a checkpoint" in refusal(tmp_path / "text.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds a list" in refusal(tmp_path / "list.pth")


def test_what_is_read(tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    torch.save(state, tmp_path / "bare.pth")
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "model.pth")
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(state, tmp_path / "w.safetensors")
    for name in ("bare.pth", "model.pth", "w.safetensors"):
        read = state_dict_of(load_checkpoint_file(tmp_path / name))
        assert read.keys() == state.keys() and all(torch.equal(read[k], state[k]) for k in state)


def test_checkpoints_that_mmengine_wrote(tmp_path: Path) -> None:
    """Log histories and numpy numbers come back; the methods stored with a history do not replace its own."""
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    hub = {"log_scalars": {"loss": history}, "runtime_info": {"best": np.float64(2.5)}, "resumed_keys": {}}
    torch.save({"state_dict": {}, "message_hub": hub}, tmp_path / "old.pth")
    read = load_checkpoint_file(tmp_path / "old.pth")["message_hub"]
    assert isinstance(read["log_scalars"]["loss"], HistoryBuffer) and read["log_scalars"]["loss"].mean() == 1.5
    assert read["runtime_info"]["best"] == 2.5


def test_plain_form_needs_no_class(tmp_path: Path) -> None:
    checkpoint = {
        "message_hub": {"log_scalars": {"loss": HistoryBuffer([1.0, 4.0], [1, 3])}},
        "meta": {"x": [np.int64(3)], "torch": torch.__version__},
    }
    to_plain(checkpoint)
    torch.save(checkpoint, tmp_path / "plain.pth")
    read = torch.load(tmp_path / "plain.pth", weights_only=True)  # without any allowed class
    assert read["meta"] == {"x": [3], "torch": str(torch.__version__)} and type(read["meta"]["torch"]) is str
    from_plain(read)
    log, count = read["message_hub"]["log_scalars"]["loss"].data
    assert log.tolist() == [1.0, 4.0] and count.tolist() == [1, 3]


def test_report() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    state = {
        "0.weight": torch.ones(3, 2),
        "0.bias": torch.ones(4),
        "9.bias": torch.ones(1),
        "1.weight": torch.ones(2, 3),
    }
    report = load_state(model, state)
    assert report.matched == ("0.weight", "1.weight") and report.missing == ("1.bias",)
    assert report.unexpected == ("9.bias",) and report.wrong_shape == (("0.bias", (4,), (3,)),)
    assert report.summary() == (
        "2 keys matched, 1 missing (1.bias), 1 unexpected (9.bias), 1 of wrong shape (0.bias (4,) for (3,))"
    )
    assert model[0].weight.sum() == 6
    for strict, complete in ((True, False), (False, True)):
        with pytest.raises(WeightsError, match="does not fit Sequential: 2 keys matched, 1 missing"):
            load_state(model, state, "f.pth", strict, complete)


@pytest.mark.parametrize(
    ("rename", "hint"),
    [
        (lambda k: f"backbone.{k}", 'the prefix "backbone." removed'),
        (lambda k: k.removeprefix("0."), 'the prefix "0." added'),
        (lambda k: f"module.net.{k}", 'the prefix "net." removed'),
        (
            lambda k: f"encoder.{k}",
            'write model.init_cfg = dict(type="Pretrained", checkpoint="f.pth", prefix="encoder.")',
        ),
        (lambda k: f"x{k}y", "the checkpoint of another model"),
    ],
)
def test_nothing_matched(rename, hint: str) -> None:
    model = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(WeightsError, match="f.pth: none of its 2 keys fits Sequential") as caught:
        load_state(model, state_dict_of({rename(k): v for k, v in model.state_dict().items()}), "f.pth")
    assert hint in str(caught.value)


def test_pretrained_part(tmp_path: Path) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "w.pth")
    Pretrained(str(tmp_path / "w.pth"), prefix="backbone")(target)
    assert torch.equal(source.weight, target.weight) and len(target.load_report.matched) == 2
    with pytest.raises(WeightsError, match='no key begins with "backbon."; did you mean "backbone."'):
        Pretrained(str(tmp_path / "w.pth"), prefix="backbon")(target)
    with pytest.raises(
        WeightsError, match=r'removed: write init_cfg = dict\(.*, checkpoint=".*w.pth", prefix="backbone."'
    ):
        Pretrained(str(tmp_path / "w.pth"))(target)


def test_pretrained_part_must_be_filled(tmp_path: Path) -> None:
    """All keys of the module count, and allow_partial is the way to take less."""
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))
    state = {k: torch.ones_like(v) for k, v in model.state_dict().items()}
    torch.save({k: state[k] for k in list(state)[:38]}, tmp_path / "enough.pth")
    torch.save({k: state[k] for k in list(state)[:37]}, tmp_path / "short.pth")
    Pretrained(str(tmp_path / "enough.pth"))(model)
    with pytest.raises(WeightsError) as caught:
        Pretrained(str(tmp_path / "short.pth"))(model)
    assert str(caught.value) == (
        f"{tmp_path}/short.pth: fills 37 of the 40 keys of Sequential (92%, 95% are needed): 3 missing "
        "(18.bias (2,), 19.weight (2, 2), 19.bias (2,)), 0 of wrong shape; if that is meant, write allow_partial=True "
        "in this init_cfg"
    )
    Pretrained(str(tmp_path / "short.pth"), allow_partial=True)(model)
    assert len(model.load_report.matched) == 37


class Whole(nn.Module):
    """A model with a backbone of ten layers and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*(nn.Linear(2, 2) for _ in range(10)))
        self.head = nn.Linear(2, 5)


def test_a_backbone_must_be_filled() -> None:
    """19 of its 20 keys are enough, 18 are not, and the head does not count."""
    model = Whole()
    backbone = {k: v for k, v in model.state_dict().items() if k.startswith("backbone.")}
    first = list(backbone)
    assert len(load_state(model, {k: backbone[k] for k in first[:19]}, allow_partial=False).matched) == 19
    short = {**{k: backbone[k] for k in first[:18]}, first[18]: torch.ones(3, 2)}
    assert len(load_state(model, short).matched) == 18
    with pytest.raises(WeightsError) as caught:
        load_state(model, short, "f.pth", allow_partial=False)
    assert str(caught.value) == (
        "f.pth: fills 18 of the 20 keys of the backbone (90%, 95% are needed): 1 missing (backbone.9.bias (2,)), "
        "1 of wrong shape (backbone.9.weight (3, 2) for (2, 2)); if that is meant, write allow_partial_load = True "
        "in the config"
    )


@pytest.mark.parametrize("prefix", ["", "encoder.", "model.encoder.", "teacher.backbone.", "student.", "state_dict."])
def test_the_fix_is_named(prefix: str, tmp_path: Path) -> None:
    """What the message says to write does repair it."""
    model, source, file = Whole(), Whole(), tmp_path / "f.pth"
    state = {prefix + k: v for k, v in source.backbone.state_dict().items()}
    torch.save(state, file)
    with pytest.raises(WeightsError) as caught:
        load_state(model, state, str(file), allow_partial=False)
    line = re.search(r"write model\.backbone\.init_cfg = dict\(type=\"Pretrained\", (.*)\)$", str(caught.value))
    assert line
    Pretrained(**eval(f"dict({line[1]})"))(model.backbone)
    assert torch.equal(model.backbone[9].weight, source.backbone[9].weight)
    assert len(model.backbone.load_report.matched) == 20 and not model.backbone.load_report.unexpected


def test_wrappers_leave_no_trace() -> None:
    state = {"module._orig_mod.backbone._orig_mod.w": torch.ones(1), "_orig_mod.module.b": torch.ones(2), 3: 4}
    assert list(state_dict_of({"state_dict": state})) == ["backbone.w", "b"]
    assert state_dict_of({"state_dict": [1], "model": {"w": torch.ones(1), "bell\x07": torch.ones(1)}}).keys() == {"w"}


def test_differences() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    state = model.state_dict()
    assert differences(model, state) == ""
    del state["0.bias"]
    state |= {"0.weight": torch.ones(4, 2), "9.w": torch.ones(5), "9.b": torch.ones(())}
    assert differences(model, state, limit=2) == (
        "0.weight is (4, 2) in the file and (3, 2) in the model; 0.bias (3,) is in the model only; 2 more"
    )
    assert differences(model, state, limit=4).endswith("; 9.w (5,) is in the file only; 9.b () is in the file only")


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from the web is downloaded once, read like any other, and other schemes are refused."""
    asked = []

    def download(url: str, path: str) -> None:
        asked.append(url)
        torch.save({"w": torch.ones(1)}, path)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        assert fetch_checkpoint("https://example.org/a/w.pth?x=1")["state_dict"]["w"] == 1
    assert asked == ["https://example.org/a/w.pth?x=1"]
    assert fetch_checkpoint("https://example.org/b/w.pth")["state_dict"]["w"] == 1  # another file of the same name
    assert len(asked) == 2 and len(list(tmp_path.glob("checkpoints/*/w.pth"))) == 2
    for address in ("s3://a/b.pth", "file:///a/b.pth", "ftp://a/b.pth", "openmmlab://b"):
        with pytest.raises(WeightsError, match=f"{address}: checkpoints are read from files and http"):
            fetch_checkpoint(address)
    assert {reader.__module__ for reader in CheckpointLoader._schemes.values()} == {"visionpatch.engine.checkpoint"}
    with pytest.raises(WeightsError, match="cluster:s3://b: checkpoints are read from files and http"):
        CheckpointLoader.load_checkpoint("cluster:s3://b", logger=None)
    for address in ("https://example.org", "https://example.org/", "https://example.org/a/.."):
        with pytest.raises(WeightsError, match="names no file"):
            fetch_checkpoint(address)

    def broken(url: str, path: str) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", broken)
    with pytest.raises(WeightsError, match=r"https://example.org/v.pth: cannot be downloaded \(no route\)"):
        fetch_checkpoint("https://example.org/v.pth")


def test_downloads_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name carries the beginning of the SHA-256; a file that has another is not kept."""
    torch.save({"w": torch.ones(1)}, tmp_path / "source.pth")
    good = sha256_of(tmp_path / "source.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, path: shutil.copy(tmp_path / "source.pth", path))
    for digits in (good[:8], good):
        assert fetch_checkpoint(f"https://example.org/w-{digits}.pth")["state_dict"]["w"] == 1
    bad = "0" * 8 if good[0] != "0" else "1" * 8
    with pytest.raises(WeightsError, match=f"SHA-256 begins with {good[:8]}, its name says {bad}"):
        fetch_checkpoint(f"https://example.org/w-{bad}.pth")
    assert not list(tmp_path.rglob(f"*{bad}*"))
    (kept,) = tmp_path.rglob(f"w-{good[:8]}.pth")
    torch.save({"w": torch.zeros(1)}, kept)  # changed in the cache
    with pytest.raises(WeightsError, match="has been removed"):
        fetch_checkpoint(f"https://example.org/w-{good[:8]}.pth")
    assert fetch_checkpoint(f"https://example.org/w-{good[:8]}.pth")["state_dict"]["w"] == 1


def test_trust_is_the_only_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, trap = tmp_path / "old.pth", tmp_path / "trap"
    torch.save({"state_dict": {"w": torch.ones(1)}, "meta": {"x": Payload(trap)}}, path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with torch.serialization.safe_globals([os.mkdir]):
        assert "--trust-checkpoint" in refusal(path)
    with trusting(False):
        refusal(path)
    with trusting(True):
        assert load_checkpoint_file(path)["state_dict"]["w"] == 1
    assert trap.is_dir()
    trap.rmdir()
    refusal(path)
    assert not trap.exists()
    with trusting(True):
        torch.save(nn.Linear(1, 1), tmp_path / "module.pth")
        assert load_checkpoint_file(tmp_path / "module.pth")["state_dict"].keys() == {"weight", "bias"}


def test_the_config_of_a_checkpoint_is_text_under_a_harmless_name(tmp_path: Path) -> None:
    """MMEngine runs ``meta["config"]`` on resuming."""
    for meta, kept in (({"config": "a"}, "a"), ({"config": "a", "cfg": "b"}, "b")):
        torch.save({"state_dict": {}, "meta": meta}, tmp_path / "f.pth")
        assert load_checkpoint_file(tmp_path / "f.pth")["meta"] == {"cfg": kept}


def test_a_folder_and_wrong_sections(tmp_path: Path) -> None:
    assert "is a folder, expected a checkpoint file" in refusal(tmp_path)
    for key, value, what in (("meta", [1], "meta is a list"), ("message_hub", {"log_scalars": 3}, "log_scalars is no")):
        torch.save({"state_dict": {}, key: value}, tmp_path / "f.pth")
        assert what in refusal(tmp_path / "f.pth")
    for history in ({"log": 1}, {"log": torch.ones(2), "count": torch.ones(3), "max_length": 9}):
        with pytest.raises(WeightsError, match="message_hub.log_scalars.loss: no log history"):
            from_plain({"message_hub": {"log_scalars": {"loss": history}}})
