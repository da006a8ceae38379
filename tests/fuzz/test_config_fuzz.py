"""Whatever a config file or an option holds, reading it gives a Config or one line, never another error."""

import ast
import json
import warnings
from pathlib import Path
from typing import Any

from engine.tiny import CONFIG
from hypothesis import example, given
from hypothesis import strategies as st
from mmengine.config import Config

from fuzz.budget import share
from visionpatch.engine.config import load_config, parse_options
from visionpatch.engine.config_keys import KNOWN
from visionpatch.errors import VisionpatchError

NAMES = ["type", "_delete_", "_base_", "_scope_", "filename", "by_epoch", "imports", "metrics", "0", "x y", *KNOWN]
TYPES = [
    "SGD",
    "AdamW",
    "EMAHook",
    "LinearLR",
    "TinyDataset",
    "ConcatDataset",
    "ReLU",
    "nn.ReLU",
    "mmdet.ResNet",
    "",
    ".",
]
LETTERS = "'\"()[]{},=: \n\t#\\\x00é.-_abde019"  # which write no loop and no call that the text has not
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**12), st.floats(), st.text(LETTERS, max_size=8), st.sampled_from(TYPES)
)
KEYS = st.one_of(st.sampled_from(NAMES), st.text(LETTERS, max_size=5))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(KEYS, st.integers(0, 3)), inner, max_size=3),
    ),
    max_leaves=6,
)

CONTENT = {
    node.targets[0].id: eval(compile(ast.Expression(node.value), "", "eval"), {"width": 8})  # type: ignore[attr-defined]
    for node in ast.parse(CONFIG).body
    if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Name)
}


@st.composite
def mutated_trees(draw: st.DrawFn) -> str:
    """The tiny config with up to three keys removed, renamed or given another value."""
    tree = ast.parse(CONFIG)
    for _ in range(draw(st.integers(1, 3))):
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.keywords]
        steps = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
        holder: Any = draw(st.sampled_from(calls + steps))
        keyword = draw(st.sampled_from(holder.keywords)) if isinstance(holder, ast.Call) else holder
        action = draw(st.sampled_from(["remove", "rename", "value", "value", "type"]))
        if action == "remove" and isinstance(holder, ast.Call):
            holder.keywords.remove(keyword)
        elif action == "rename":
            name = draw(st.sampled_from([name for name in NAMES if name.isidentifier()]))
            if isinstance(keyword, ast.keyword):
                keyword.arg = name
            else:
                keyword.targets = [ast.Name(name, ast.Store())]
        else:
            given_value = draw(st.sampled_from(TYPES) if action == "type" else VALUES)
            keyword.value = ast.Name(repr(given_value).replace("nan", "-1.").replace("inf", "1e999"), ast.Load())
    return ast.unparse(tree)


@st.composite
def mutated_texts(draw: st.DrawFn, text: str = CONFIG) -> str:
    """The tiny config cut off, or with parts removed and letters put in."""
    if draw(st.booleans()):
        return text[: draw(st.integers(0, len(text)))]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(st.text(LETTERS, max_size=3)) + text[start + draw(st.integers(0, 8)) :]
    return text


OPTIONS = st.one_of(
    st.text(max_size=30),
    st.builds("{}={}".format, st.lists(KEYS, min_size=1, max_size=4).map(".".join), st.text(LETTERS, max_size=10)),
    st.builds(
        "{}={}".format,
        st.sampled_from(
            ["model.backbone.width", "param_scheduler.0.end", "param_scheduler.1", "train_cfg", "default_hooks.timer"]
            + ["optim_wrapper.optimizer.type", "val_evaluator.type", "train_dataloader.dataset.classes", "load_from"]
        ),
        st.one_of(VALUES.map(str), st.text(LETTERS, max_size=10)),
    ),
)


def one_line_or_config(path: Path, options: list[str]) -> None:
    """The property: a Config, or an error of ours in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cfg = load_config(path, parse_options(options))
        except VisionpatchError as error:
            assert "\n" not in str(error) and str(error).strip()
        else:
            assert isinstance(cfg, Config) and cfg.work_dir and cfg.default_scope


@share(0.1)
@given(text=mutated_trees())
def test_keys_and_values(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tiny.py"
    path.write_text(text, encoding="utf-8")
    one_line_or_config(path, [])


@share(0.06)
@given(text=mutated_texts(), noise=st.binary(max_size=3))
def test_broken_text(tmp_path: Path, text: str, noise: bytes) -> None:
    path = tmp_path / "tiny.py"
    path.write_bytes(text.encode() + noise)
    one_line_or_config(path, [])


@share(0.04)
@given(data=st.data())
def test_json_and_yaml(tmp_path: Path, data: st.DataObject) -> None:
    content = {**CONTENT, data.draw(KEYS): data.draw(VALUES)}
    path = tmp_path / f"tiny{data.draw(st.sampled_from(['.json', '.yaml', '.yml']))}"
    text = json.dumps(content, indent=data.draw(st.sampled_from([None, 1])), skipkeys=True)
    path.write_text(data.draw(st.one_of(st.just(text), mutated_texts(text=text), st.text(LETTERS, max_size=40))))
    one_line_or_config(path, [])


@share(0.05)
@given(options=st.lists(OPTIONS, min_size=1, max_size=3))
@example(options=["load_from=(1,2),(3,4)"])
@example(options=["a=f(1,2)"])
@example(options=["param_scheduler.²=1"])
def test_options(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "tiny.py"
    path.write_text(CONFIG)
    one_line_or_config(path, options)
