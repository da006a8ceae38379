"""Damaged and forged files: an error of ours, or what a good file would give."""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch as safetensors
import torch
from faults import attacks
from hypothesis import given
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from fuzz.budget import share
from visionpatch.engine.checkpoint import from_plain, load_checkpoint_file, load_state, state_dict_of
from visionpatch.engine.predictions import mask_of, read_predictions, run_lengths, write_predictions
from visionpatch.errors import VisionpatchError

CHECKPOINTS = ("zip.pth", "legacy.pth", "w.safetensors")
PREDICTIONS = ("p.npz", "p.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@cache
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@cache
def good(name: str) -> bytes:
    """A whole file of each kind."""
    stream = io.BytesIO()
    hub = dict(log_scalars=dict(loss=HistoryBuffer([1.0, 2.0], [1, 1])), runtime_info=dict(best=np.float64(1.5)))
    state = {key: torch.full_like(value, 3) for key, value in model().state_dict().items()}
    meta = dict(iter=3, cfg="a = 1", dataset_meta=dict(classes=("a", "b")))
    if name == "w.safetensors":
        return safetensors.save(state)
    whole = dict(state_dict=state, meta=meta, message_hub=hub, optimizer=dict(state={}, param_groups=[dict(lr=0.1)]))
    torch.save(whole, stream, _use_new_zipfile_serialization=name == "zip.pth")
    return stream.getvalue()


def damage(content: bytes, data: st.DataObject) -> bytes:
    """Cut off the end, change bytes, or take out, double or move a stretch; often several of these."""
    for kind in data.draw(st.lists(st.sampled_from(["cut", "flip", "drop", "double", "zero"]), min_size=1, max_size=3)):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
        if kind == "cut":
            content = content[:stop]
        elif kind == "flip" and start < len(content):
            content = content[:start] + bytes([data.draw(st.integers(0, 255))]) + content[start + 1 :]
        elif kind == "drop":
            content = content[:start] + content[stop:]
        elif kind == "double":
            content = content[:stop] + content[start:]
        elif kind == "zero":
            content = content[:start] + bytes(min(stop - start, 64)) + content[min(stop, start + 64) :]
    return content


def check_checkpoint(path: Path) -> dict[str, Tensor] | None:
    """Read as the tools do; the tensors that came out, None after an error of ours."""
    try:
        checkpoint = load_checkpoint_file(path)
        from_plain(checkpoint)
        state = state_dict_of(checkpoint)
        load_state(model(), state, str(path))
    except VisionpatchError as error:
        assert str(path) in str(error) or "message_hub.log_scalars" in str(error)
        assert "\n" not in str(error)
        return None
    assert isinstance(checkpoint.get("meta", {}), dict)
    return state


@share(0.1)
@given(data=st.data(), name=st.sampled_from(CHECKPOINTS))
def test_damaged_checkpoints(folder: Path, name: str, data: st.DataObject) -> None:
    path, content = folder / name, good(name)
    path.write_bytes(damage(content, data))
    state = check_checkpoint(path)
    if state is not None and name == "zip.pth":  # its checksums let no changed weight through
        assert all(bool((value == 3).all()) for value in state.values())


def good_predictions(folder: Path, name: str) -> bytes:
    path = folder / f"good_{name}"
    if not path.exists():
        labels = np.arange(12, dtype=np.uint8).reshape(3, 4) // 5
        records: list[dict[str, Any]] = [dict(img_path=f"{i}.png", sem_seg=labels + i) for i in range(2)]
        records.append(dict(img_path="x", bboxes=np.ones((2, 4)), labels=np.array([1, 2]), scores=np.ones(2)))
        records[-1]["masks"] = [run_lengths(labels > i) for i in range(2)]
        write_predictions(path, records)
    return path.read_bytes()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 1 << 62) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["img_path", "sem_seg", "shape", "runs", "label", "masks", "size", "counts"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@share(0.06)
@given(data=st.data(), name=st.sampled_from(PREDICTIONS))
def test_damaged_predictions(folder: Path, name: str, data: st.DataObject) -> None:
    path = folder / name
    if name == "p.json" and data.draw(st.booleans()):
        path.write_text(json.dumps(data.draw(JSON)))
    else:
        path.write_bytes(damage(good_predictions(folder, name), data))
    try:
        records = read_predictions(path)
    except VisionpatchError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    for record in records:
        assert isinstance(record["img_path"], str)
        arrays = [value for value in record.values() if isinstance(value, np.ndarray)]
        assert all(array.dtype.kind in "biuf" for array in arrays)
        assert all(mask_of(runs).shape == tuple(runs["size"]) for runs in record.get("masks", ()))


OPCODES = [
    *(b"}", b")", b"]", b"(", b"N", b"\x88", b"\x85", b"\x86", b"\x87", b"t", b"R", b"b", b"\x81", b"s", b"u", b"a"),
    *(
        b"e",
        b"Q",
        b"K\x00",
        b"K\x04",
        b"J\xff\xff\xff\xff",
        b"q\x00",
        b"h\x00",
        b"\x8a\x08" + bytes([255] * 7) + b"\x01",
    ),
    *(attacks.text(word) for word in ("state_dict", "min", "f8", "O8", "<", "_log_history", "max_length", "latin1")),
    *(attacks.name("numpy", word) for word in ("ndarray", "dtype")),
    *(attacks.name("numpy.core.multiarray", word) for word in ("_reconstruct", "scalar")),
    *(attacks.name("builtins", word) for word in ("getattr", "set", "complex")),
    *(attacks.name("torch", word) for word in ("Size", "device", "FloatStorage", "float32")),
    *(attacks.name("torch._utils", f"_rebuild_{word}") for word in ("tensor", "tensor_v2", "tensor_v3", "parameter")),
    *(attacks.name("collections", "OrderedDict"), attacks.name("_codecs", "encode"), attacks.HISTORY),
    *(attacks.tensor(), attacks.name("torch.nn.parameter", "Parameter"), attacks.name("os", "mkdir")),
]


@share(0.04)
@given(code=st.lists(st.sampled_from(OPCODES), max_size=25), whole=st.booleans())
def test_forged_pickles(folder: Path, code: list[bytes], whole: bool) -> None:
    """Any sequence of instructions, of the allowed names and a forbidden one."""
    path, joined = folder / "forged.pth", b"".join(code)
    attacks.forge(path, attacks.in_model(joined) if whole else joined, attacks.ZEROS)
    check_checkpoint(path)
    assert {p.name for p in folder.iterdir()} <= {*CHECKPOINTS, *PREDICTIONS, "forged.pth", "good_p.npz", "good_p.json"}
