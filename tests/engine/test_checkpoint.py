"""Checkpoints are data: nothing in them runs, and what does not fit is said."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from visionpatch.engine.checkpoint import (
    Pretrained,
    fetch_checkpoint,
    from_plain,
    load_checkpoint_file,
    load_state,
    state_dict_of,
    to_plain,
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
        "meta": {"x": [np.int64(3)]},
    }
    to_plain(checkpoint)
    torch.save(checkpoint, tmp_path / "plain.pth")
    read = torch.load(tmp_path / "plain.pth", weights_only=True)  # without any allowed class
    assert read["meta"] == {"x": [3]}
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
        (lambda k: f"x{k}", "the checkpoint of another model"),
    ],
)
def test_nothing_matched(rename, hint: str) -> None:
    model = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(WeightsError, match="f.pth: none of its 2 keys fits Sequential") as caught:
        load_state(model, {rename(k): v for k, v in model.state_dict().items()}, "f.pth")
    assert hint in str(caught.value)


def test_pretrained_part(tmp_path: Path) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "w.pth")
    Pretrained(str(tmp_path / "w.pth"), prefix="backbone")(target)
    assert torch.equal(source.weight, target.weight) and len(target.load_report.matched) == 2
    with pytest.raises(WeightsError, match='no key begins with "backbon."; did you mean "backbone."'):
        Pretrained(str(tmp_path / "w.pth"), prefix="backbon")(target)


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
    assert asked == ["https://example.org/a/w.pth?x=1"] and (tmp_path / "checkpoints/w.pth").is_file()
    with pytest.raises(WeightsError, match="s3://a/b.pth: checkpoints are read from files and http"):
        fetch_checkpoint("s3://a/b.pth")

    def broken(url: str, path: str) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", broken)
    with pytest.raises(WeightsError, match=r"https://example.org/v.pth: cannot be downloaded \(no route\)"):
        fetch_checkpoint("https://example.org/v.pth")
