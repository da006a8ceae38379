"""Which values of a config fit which annotations, and where the value of a config was written."""

import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper
from torch import Tensor, nn

from visionpatch.engine.config_files import Origin
from visionpatch.engine.config_types import Taken, describe, fits, signature_of, wrong_type

T = TypeVar("T")


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [3, -1], [True, 2.0, "3", None, [3]]),
        (float, [3, 0.5, float("inf")], [True, "1e-3", None, (0.5,)]),
        (bool, [True, False], [1, 0, "True", None]),
        (str, ["a", Path("a")], [1, True, None, ["a"]]),
        (Path, ["a", Path("a")], [1, None]),
        (int | None, [3, None], ["3", 0.5]),
        (typing.Optional[typing.Union[int, typing.List[int]]], [3, [3], None], ["3", ["3"]]),  # noqa: UP006, UP007, UP045
        (str | list[str] | None, ["a", ["a", "b"], ("a",), None], [1, [1], {"a": 1}]),
        (tuple[int, ...], [(1, 2), [1, 2], (), range(2)], [(1, 0.5), 1, "12", {1: 2}]),
        (tuple[float, float], [(1, 2), [0.9, 0.999]], [(1,), (1, 2, 3), 0.9]),
        (tuple[float | Tensor, float | Tensor], [(0.9, 0.999)], [(0.9, "0.999"), (0.9,)]),
        (list[tuple[int, int]], [[(1, 2)], ([1, 2],), []], [[1, 2], [(1, 2, 3)]]),
        (Sequence[str], [["a"], ("a",)], ["a", [1], 1]),
        (Sequence, [["a"], "a", (1,)], [1, None]),
        (dict, [{}, ConfigDict(a=1)], [[], 1, None, "a"]),
        (Mapping[str, float], [{"a": 1}, ConfigDict(a=0.5)], [{"a": "1"}]),
        (Literal["mean", "sum"], ["mean"], ["men", 1, None]),
        (Callable | None, [len, dict(type="x"), "relu", None], [1, 0.5, [len]]),
        (type[nn.Module], [nn.ReLU, "ReLU"], [1]),
        (float | Tensor, [1, torch.ones(1)], [True, "1e-3", None, ["1"]]),
        (nn.Module | dict, [dict(type="x"), nn.ReLU(), [dict(type="x")]], [1, "x", True, None, [1]]),
        (torch.device, ["cuda", torch.device("cpu")], [["cuda"], None]),
        (Any, [1, None, "a"], []),
        (T, [1, None, "a"], []),
        (object, [1, None, "a"], []),
        ("unheard of", [1, None, "a"], []),
    ],
)
def test_values_and_annotations(annotation: Any, good: list, bad: list) -> None:
    assert [value for value in good if not fits(value, annotation)] == []
    assert [value for value in bad if fits(value, annotation)] == []


def test_annotations_in_words() -> None:
    assert describe(int | None) == "int or None" and describe(tuple[int, ...]) == "tuple[int, ...]"
    assert describe(Literal["a", 3]) == '"a" or 3' and describe(Callable[[int], str]) == "Callable"
    assert describe(dict[str, float | Tensor]) == "dict[str, float or Tensor]"


@pytest.mark.parametrize(
    ("value", "taken", "expected"),
    [
        ("1e-3", Taken(float), "expects float, not str; write 1e-3 without quotes"),
        ("10k", Taken(int), "expects int, not str"),
        ("true", Taken(bool), "expects bool, not str; write True without quotes"),
        (2.0, Taken(int), "expects int, not float; write 2"),
        (0, Taken(bool), "expects bool, not int; write False"),
        ("sky", Taken(tuple[str, ...]), "expects tuple[str, ...], not str; put it into a list: ['sky']"),
        ("smu", Taken(Literal["mean", "sum"]), 'expects "mean" or "sum", not str; did you mean "sum"?'),
        ([1, "2"], Taken(list[int]), "expects list[int], not list[int, str]"),
        ([0] * 5, Taken(int), "expects int, not list[int, ...]"),
        (None, Taken(int, 3), "expects int, not None"),
        (None, Taken(int, None), ""),
        ("auto", Taken(int, "auto"), ""),
        ("3", Taken(default=1), "expects int, not str; write 3 without quotes"),  # no annotation: the default speaks
        ("1e-3", Taken(default=0.5), "expects float, not str; write 1e-3 without quotes"),
        (0.5, Taken(default=1), ""),
        ((3, 3), Taken(default=1), ""),
        ("inf", Taken(default=0.5), ""),
        ("on_input", Taken(default=False), ""),
        (3, Taken(default="mean"), ""),
        (3, Taken(default=None), ""),
        (3, Taken(), ""),
    ],
)
def test_what_is_said(value: Any, taken: Taken, expected: str) -> None:
    assert wrong_type(value, taken) == expected


class Base:
    def __init__(self, width: int, depth: "int" = 2, other: "NotThere" = None) -> None:  # type: ignore # noqa: F821
        pass


class Child(Base):
    def __init__(self, *args: Any, depth: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Open(nn.Module):
    def __init__(self, width: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)


def test_signatures() -> None:
    own = signature_of(Base)
    assert own.taken["width"] == Taken(int, required=True) and own.taken["depth"] == Taken(int, 2)
    assert own.taken["other"].annotation is Any and not own.is_open
    child = signature_of(Child)  # what **kwargs hand on; the child may give it, so it is not required
    assert child.taken["depth"] == Taken(float, 0.5) and child.taken["width"] == Taken(int) and not child.is_open
    assert signature_of(Open).is_open and signature_of(Open).taken == {"width": Taken(int, 1)}
    hook = signature_of(CheckpointHook)
    assert not hook.is_open and {"interval", "filename", "save_optimizer"} <= set(hook.taken)
    assert wrong_type(512.0, signature_of(AmpOptimWrapper).taken["loss_scale"]) == ""
    Base.__init__.__signature__ = "none"  # type: ignore[attr-defined]
    signature_of.cache_clear()
    assert signature_of(Base).is_open  # as of code written in C
    del Base.__init__.__signature__  # type: ignore[attr-defined]


CHILD = """
_base_ = ["sub/base.py"]
pipeline = [
    dict(type="A"),
    dict(type="B",
         size=3),
]
more = pipeline + [
    dict(type="C")
]
model = dict(
    head={"type": "H",
          "width": 3},
    neck=dict(_base_.neck, depth=4),
    **_base_.rest,
)
model["backbone"] = dict(
    width=8)
train_dataloader = dict(dataset=dict(pipeline=more))
both = dict(a=1) | dict(
    b=2)
"""
BASE = """
neck = dict(
    width=2)
rest = dict(
    tail=1)
val_cfg = dict(
    fp16=True)
"""


@pytest.mark.parametrize(
    ("dotted", "place"),
    [
        ("pipeline.1.size", "child.py, line 6"),
        ("train_dataloader.dataset.pipeline.1.size", "child.py, line 6"),
        ("train_dataloader.dataset.pipeline.2.type", "child.py, line 9"),
        ("model.head.width", "child.py, line 13"),
        ("model.neck.depth", "child.py, line 14"),
        ("model.neck.width", "sub/base.py, line 3"),
        ("model.tail", "sub/base.py, line 5"),
        ("model.backbone.width", "child.py, line 18"),
        ("model.backbone.unknown", "child.py, line 17"),
        ("both.a", "child.py, line 20"),
        ("both.b", "child.py, line 21"),
        ("val_cfg.fp16", "sub/base.py, line 7"),
        ("nothing.of.it", "child.py"),
        ("val_dataloader.batch_size", "--cfg-options val_dataloader.batch_size=3"),
        ("val_dataloader", "--cfg-options val_dataloader.batch_size=3"),
        ("model.head.width.x", "--cfg-options model.head.width.x=1"),
    ],
)
def test_where_a_value_comes_from(tmp_path: Path, dotted: str, place: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/base.py").write_text(BASE)
    (tmp_path / "child.py").write_text(CHILD)
    origin = Origin(tmp_path / "child.py", {"val_dataloader.batch_size": 3, "model.head.width.x": 1})
    assert origin(dotted).replace(f"{tmp_path}/", "") == place


def test_where_a_value_of_a_data_file_comes_from(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("_base_: [b.json]\nmodel:\n  heads:\n  - width: 1\n  - width: 2\n")
    (tmp_path / "b.json").write_text('{\n\t"val_cfg": {\n\t\t"fp16": true}}')
    origin = Origin(tmp_path / "a.yaml")
    assert origin("model.heads.1.width") == f"{tmp_path}/a.yaml, line 5"
    assert origin("val_cfg.fp16") == f"{tmp_path}/b.json, line 3"
