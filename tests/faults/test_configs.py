"""Faults 17 to 19: configs, --cfg-options and registries. Each is one line: where, what, the nearest valid name."""

import re
import sys
from pathlib import Path

import pytest
from engine.tiny import write_config

from faults.expect import expect
from visionpatch.engine import build_runner, load_config
from visionpatch.engine.config import parse_options
from visionpatch.errors import ConfigError
from visionpatch.registry import MODELS

CROSSFORMER = "configs/crossformer/crossformer-micro_fpn_1xb16-600_sample-96x96.py"


def fault(path: Path, *options: str) -> str:
    """The one line that reading a config ends with."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, parse_options(list(options)))
    text = str(caught.value)
    expect("\n" not in text, text)
    return text


def test_fault_17_syntax_error(tmp_path: Path) -> None:
    path = write_config(tmp_path, ("val_cfg = dict()", "val_cfg = dict("))
    expect(fault(path) == f"{path}, line 12: '(' was never closed: val_cfg = dict(", fault(path))
    path.write_bytes(b"\xff\xfe = 1\n")
    expect(f"{path}: cannot be read: UnicodeDecodeError" in fault(path), fault(path))
    path.write_text("a = 1\nb = a.c\n")
    expect(f"{path}, line 2: AttributeError: 'int' object has no attribute 'c'" in fault(path), fault(path))


def test_fault_17_missing_base(tmp_path: Path) -> None:
    write_config(tmp_path, name="base.py")
    path = tmp_path / "child.py"
    path.write_text("_base_ = ['bse.py']\n")
    expect(f'{path}: _base_ = "{tmp_path}/bse.py": no such config file; did you mean "base.py"?' == fault(path))
    path.write_text("\n_base_ = 3\n")
    expect(fault(path) == f"{path}, line 2: _base_ must be a path or a list of paths")


def test_fault_17_cyclic_base(tmp_path: Path) -> None:
    for name, base in [("a.py", "b.py"), ("b.py", "c.json")]:
        (tmp_path / name).write_text(f"_base_ = '{base}'\n")
    (tmp_path / "c.json").write_text('{"_base_": "a.py"}')
    chain = " -> ".join(str(tmp_path / name) for name in ("a.py", "b.py", "c.json", "a.py"))
    expect(fault(tmp_path / "a.py") == f"{chain}: _base_ goes round in a circle")


@pytest.mark.parametrize(
    ("old", "new", "line", "tail"),
    [
        ("train_cfg =", "train_cgf =", 11, 'train_cgf is not a key of a config; did you mean "train_cfg"?'),
        (
            "num_classes=3",
            "num_clases=3",
            3,
            'model.num_clases is not an argument of TinySegmentor; did you mean "num_cl',
        ),
        ("width=w", "widht=w", 3, 'model.backbone.widht is not an argument of TinyBackbone; did you mean "width"?'),
        ("momentum", "momentun", 14, 'optim_wrapper.optimizer.momentun is not an argument of SGD; did you mean "mom'),
        ("end=2", "ned=2", 15, 'param_scheduler.0.ned is not an argument of LinearLR; did you mean "end'),
        ("seed=3", "sed=3", 18, 'randomness.sed is not an argument of randomness; did you mean "seed"?'),
    ],
)
def test_fault_17_unknown_key(tmp_path: Path, old: str, new: str, line: int, tail: str) -> None:
    path = write_config(tmp_path, (old, new))
    expect(fault(path).startswith(f"{path}, line {line}: {tail}"), fault(path))
    child = tmp_path / "child.py"  # the file that wrote it is named, not the one that was asked for
    child.write_text("_base_ = ['tiny.py']\nval_cfg = dict()\n")
    expect(fault(child) == fault(path), fault(child))


@pytest.mark.parametrize(
    ("old", "new", "line", "tail"),
    [
        ("max_epochs=2", "max_epochs='10k'", 11, "train_cfg.max_epochs = '10k': train_cfg expects int, not str"),
        (
            "lr=0.1",
            "lr='1e-3'",
            14,
            "optim_wrapper.optimizer.lr = '1e-3': SGD expects float or Tensor, not str; write 1e-3",
        ),
        ("width=width", "width=0.5", 3, "model.backbone.width = 0.5: TinyBackbone expects int, not float"),
        ("length=2", "length=None", 6, "val_dataloader.dataset.length = None: TinyDataset expects int, not None"),
        (
            "start_factor=0.5",
            "start_factor=[1]",
            15,
            "param_scheduler.0.start_factor = [1]: LinearLR expects float, not",
        ),
        ("val_cfg = dict()", "val_cfg = list()", 12, "val_cfg = []: a Runner expects dict or None, not empty list"),
    ],
)
def test_fault_17_wrong_type(tmp_path: Path, old: str, new: str, line: int, tail: str) -> None:
    path = write_config(tmp_path, (old, new))
    expect(fault(path).startswith(f"{path}, line {line}: {tail}"), fault(path))


def test_fault_17_other_number_of_classes(tmp_path: Path) -> None:
    path = write_config(tmp_path, ("num_classes=3", "num_classes=4"))
    runner = build_runner(load_config(path, work_dir=str(tmp_path / "work")))
    text = r"tiny.py.*: model.num_classes = 4, but \w+_dataloader.dataset \(TinyDataset\) has 3 classes; set .* = 3"
    with pytest.raises(ConfigError, match=text):
        runner.train()
    expect(runner.iter == 0 and not list((tmp_path / "work").glob("*.pth")), "before training")


def test_fault_17_other_number_of_channels(root: Path) -> None:
    cfg = load_config(root / CROSSFORMER, {"model.neck.in_channels": [32, 64, 128, 257]})
    text = "model.neck.in_channels = [32, 64, 128, 257], but CrossFormer gives [32, 64, 128, 256] channels; set in_"
    with pytest.raises(ConfigError, match=re.escape(text)):
        MODELS.build(cfg.model)
    cfg = load_config(root / CROSSFORMER, {"model.decode_head.in_channels": [48, 48, 48, 64]})
    with pytest.raises(ConfigError, match=r"model.decode_head.in_channels = \[48, 48, 48, 64\], but FPN gives"):
        MODELS.build(cfg.model)


@pytest.mark.parametrize(
    ("option", "tail"),
    [
        ("train_cgf.max_epochs=3", 'tiny.py has no train_cgf; did you mean "train_cfg"?'),
        ("train_cfg.max_epoch=3", 'train_cfg.max_epoch is not an argument of train_cfg; did you mean "max_epochs"'),
        ("model.backbone.type=TinyBakbone", 'type = "TinyBakbone" is not registered; did you mean "TinyBackbone"'),
        ("train_cfg.max_epochs=3k", "train_cfg.max_epochs = '3k': train_cfg expects int, not str"),
        ("train_dataloader.batch_size=2.5", "train_dataloader.batch_size = 2.5: train_dataloader expects int or None"),
        ("param_scheduler.7.end=3", 'param_scheduler is a list with indices 0 to 0, not "7"'),
        ("param_scheduler.-1.end=3", 'param_scheduler is a list with indices 0 to 0, not "-1"'),
        ("model.backbone.width.deep=3", "model.backbone.width is 8, not a dict"),
        ("width=3k", "width = 8 in "),
        ("custom_hooks=[dict(type=EMAHook]", "brackets do not match"),
        ("load_from='a", "quotes do not match"),
        ("model.backbone={'width':3}", "the keys of a dict are set one by one: model.backbone.KEY=VALUE"),
        ("max_epochs", "expected KEY=VALUE"),
    ],
)
def test_fault_18_options(tmp_path: Path, option: str, tail: str) -> None:
    text = fault(write_config(tmp_path), option)
    expect(text.startswith(f"--cfg-options {option}: ") and tail in text, text)


def test_fault_19_unknown_name(tmp_path: Path) -> None:
    path = write_config(tmp_path, ("'TinyBackbone'", "'TinyBackbon'"))
    text = fault(path)
    expect(text.startswith(f'{path}, line 3: model.backbone.type = "TinyBackbon" is not registered; '), text)
    expect('did you mean "TinyBackbone"' in text and "? registered: " in text and " in all)" in text, text)


def test_fault_19_duplicate_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "from visionpatch.registry import MODELS\n\n@MODELS.register_module()\nclass TinyBackbone:\n    pass\n"
    (tmp_path / "taken_name.py").write_text(code)
    path = write_config(tmp_path, ("width = 8", "width = 8\ncustom_imports = dict(imports=['taken_name'])"))
    text = fault(path)
    expect(
        text.startswith(f'{path}, line 3: custom_imports: "taken_name": KeyError: TinyBackbone is already registered')
    )
    expect("choose another name, or register it with force=True" in text, text)


def test_fault_19_forgotten_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "from engine.tiny import TinyBackbone\nfrom visionpatch.registry import MODELS\n"
    (tmp_path / "my_parts.py").write_text(
        f"{code}@MODELS.register_module()\nclass Wunderwerk(TinyBackbone):\n    pass\n"
    )
    path = write_config(tmp_path, ("'TinyBackbone'", "'Wunderwerk'"))
    text = fault(path)
    expect('"Wunderwerk" is not registered; registered: ' in text and "did you mean" not in text, text)
    expect('a part of your own needs custom_imports = dict(imports=["its.module"])' in text, text)
    expect("ModuleNotFoundError: No module named 'my_prts'" in fault(path, "custom_imports.imports=[my_prts]"))
    (tmp_path / "broken_parts.py").write_text("x = 1 / 0\n")
    expect('"broken_parts": ZeroDivisionError' in fault(path, "custom_imports.imports=[broken_parts]"))
    cfg = load_config(path, {"custom_imports.imports": ["my_parts"]})
    expect(type(MODELS.build(cfg.model).backbone).__name__ == "Wunderwerk" and "my_parts" in sys.modules)
    MODELS._module_dict.pop("Wunderwerk")
