"""Every slip in a config is one line: file, dotted path, the nearest valid name."""

from pathlib import Path

import pytest

from engine.tiny import write_config
from visionpatch.engine.config import load_config, parse_options
from visionpatch.errors import ConfigError


def message(call, *args) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_valid_config_gets_scope_and_work_dir(tmp_path: Path) -> None:
    cfg = load_config(write_config(tmp_path))
    assert cfg.default_scope == "visionpatch" and cfg.work_dir == str(Path("work_dirs/tiny"))
    assert load_config(write_config(tmp_path), work_dir="w").work_dir == "w"
    assert load_config(write_config(tmp_path, ("width = 8", "width = 8; work_dir = 'mine'"))).work_dir == "mine"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "TinyBackbone",
            "TinyBackbon",
            'model.backbone.type = "TinyBackbon" is not registered; did you mean "TinyBackbone"',
        ),
        (
            "width=width",
            "widht=width",
            'model.backbone.widht is not an argument of TinyBackbone; did you mean "width"?',
        ),
        ("train_cfg =", "train_cgf =", 'train_cgf is not a key of a config; did you mean "train_cfg"'),
        (
            "max_epochs=2",
            "max_epoch=2",
            'train_cfg.max_epoch is not an argument of train_cfg; did you mean "max_epochs"',
        ),
        (
            "batch_size=2",
            "batchsize=2",
            'train_dataloader.batchsize is not an argument of train_dataloader; did you mean "batch_size"',
        ),
        (
            "shuffle=True",
            "shufle=True",
            'train_dataloader.sampler.shufle is not an argument of DefaultSampler; did you mean "shuffle"',
        ),
        (
            "length=2",
            "lenght=2",
            'val_dataloader.dataset.lenght is not an argument of TinyDataset; did you mean "length"',
        ),
        (
            "momentum=0.9",
            "momentun=0.9",
            'optim_wrapper.optimizer.momentun is not an argument of SGD; did you mean "momentum"',
        ),
        ("'SGD'", "'SDG'", 'optim_wrapper.optimizer.type = "SDG" is not registered; did you mean'),
        (
            "start_factor",
            "start_facto",
            'param_scheduler.0.start_facto is not an argument of LinearLR; did you mean "start_factor"',
        ),
        (
            "checkpoint=dict",
            "chekpoint=dict",
            'default_hooks.chekpoint is not one of the default hooks; did you mean "checkpoint"',
        ),
        (
            "interval=1, save",
            "intervall=1, save",
            'checkpoint.intervall is not an argument of CheckpointHook; did you mean "interval"',
        ),
        ("seed=3", "sed=3", 'randomness.sed is not an argument of randomness; did you mean "seed"'),
        (
            "val_cfg = dict()",
            "val_cfg = dict(fp15=True)",
            'val_cfg.fp15 is not an argument of val_cfg; did you mean "fp16"',
        ),
        (
            "'TinyAccuracy'",
            "'TinyAcuracy'",
            'val_evaluator.type = "TinyAcuracy" is not registered; did you mean "TinyAccuracy"',
        ),
        (
            "dict(type='TinyAccuracy')",
            "dict(type='FrechetDistance', extractor=dict(type='BackboneFeatures', siz=64))",
            'val_evaluator.extractor.siz is not an argument of BackboneFeatures; did you mean "size"',
        ),
        (
            "dict(type='TinyAccuracy')",
            "[dict(type='PerceptualDistance', distance=dict(type='LPIP'))]",
            'val_evaluator.0.distance.type = "LPIP" is not registered; did you mean "LPIPS"',
        ),
        ("width = 8", "width = 8; sky = dict(type='Unused')", 'sky = dict(type="Unused", ...) is read by nothing'),
        ("backbone=dict(type='TinyBackbone', width=width)", "", "model (TinySegmentor) needs backbone"),
        (
            "optimizer=dict(",
            "paramwise_cfg=dict(norm_decay=0), optimizer=dict(",
            'norm_decay is not an argument of optim_wrapper.paramwise_cfg; did you mean "norm_decay_mult"',
        ),
    ],
)
def test_slips(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = write_config(tmp_path, (old, new))
    text = message(load_config, path)
    assert text.startswith(f"{path}, line ") and expected in text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max_epochs=2", "max_epochs='10k'", "11: train_cfg.max_epochs = '10k': train_cfg expects int, not str"),
        ("lr=0.1", "lr='1e-3'", "lr = '1e-3': SGD expects float or Tensor, not str; write 1e-3 without quotes"),
        ("batch_size=2,", "batch_size=2.5,", "4: train_dataloader.batch_size = 2.5: train_dataloader expects int"),
        ("batch_size=2,", "batch_size=0,", "train_dataloader.batch_size = 0: train_dataloader expects at least 1"),
        ("batch_size=2, num_workers=0", "batch_size=2, num_workers=-1", "train_dataloader expects at least 0"),
        ("width=width", "width=[8]", "3: model.backbone.width = [8]: TinyBackbone expects int, not list[int]"),
        ("length=2", "length=True", "val_dataloader.dataset.length = True: TinyDataset expects int, not bool"),
        ("length=2", "classes='sky'", "expects tuple[str, ...], not str; put it into a list: ['sky']"),
        ("momentum=0.9", "momentum=None", "SGD expects float, not None"),
        ("'SGD', lr=0.1, momentum=0.9", "'AdamW', betas=(0.9,)", "betas = (0.9,): AdamW expects tuple[float or "),
        ("seed=3", "seed='3'", "18: randomness.seed = '3': randomness expects int or None, not str"),
        ("val_cfg = dict()", "val_cfg = dict(fp16='no')", "12: val_cfg.fp16 = 'no': val_cfg expects bool, not str"),
        ("val_cfg = dict()", "val_cfg = 3", "12: val_cfg = 3: a Runner expects dict or None, not int"),
        ("val_cfg = dict()", "val_cfg = {1: 2}", "val_cfg.1 is not an argument of val_cfg"),
        ("width = 8", "width = 8; resume = 'yes'", "2: resume = 'yes': a Runner expects bool or None, not str"),
        ("width = 8", "width = 8; custom_hooks = dict(type='EMAHook')", "expects list[Hook or dict] or None, not dict"),
        ("width = 8", "width = 8; env_cfg = dict(mp_cfg=dict(opencv_num_threads='0'))", "opencv_num_threads = '0'"),
        ("seed=3", "seed=3)\nauto_scale_lr = dict(base_batch_size=[16]", "expects int, not list[int]"),
        ("width = 8", "width = 8; custom_imports = dict(imports=[3])", "imports = [3]: custom_imports expects"),
        ("optimizer=dict(", "clip_grad=5, optimizer=dict(", "clip_grad = 5: optim_wrapper expects dict"),
        ("optimizer=dict(", "paramwise_cfg=dict(norm_decay_mult='0'), optimizer=dict(", "expects float or None"),
        ("type='TinyBackbone', width", "type=5, width", "3: model.backbone.type = 5 is not a name"),
        ("backbone=dict(type='TinyBackbone', width=width)", "backbone='a'", "TinySegmentor expects dict, not str"),
        ("dict(type='LinearLR', ", "dict(", "15: param_scheduler.0 needs type"),
        ("model = dict(type='TinySegmentor',", "model = dict(", "3: model needs type"),
        ("by_epoch=True, max_epochs=2", "max_epochs=2", "11: train_cfg needs by_epoch"),
        ("max_epochs=2, ", "", "11: train_cfg needs max_epochs"),
        ("by_epoch=True, max_epochs=2", "type='IterBasedTrainLoop'", "train_cfg (IterBasedTrainLoop) needs max_iters"),
        ("by_epoch=True, max", "by_epoch=True, type='EpochBasedTrainLoop', max", "is not an argument of EpochBased"),
        ("val_dataloader = dict(", "val_dataloader = dict(bad_samples='raise', ", "6: val_dataloader.bad_samples: "),
        ("train_dataloader = dict(", "train_dataloader = dict(bad_samples=3, ", "bad_samples = 3: train_dataloader"),
    ],
)  # fmt: skip
def test_values_of_the_wrong_type(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = write_config(tmp_path, (old, new))
    text = message(load_config, path)
    assert text.startswith(f"{path}, line ") and expected in text


def test_the_file_that_defines_a_value_is_named(tmp_path: Path) -> None:
    base = write_config(tmp_path, ("momentum=0.9", "momentun=0.9"), name="base.py")
    child = tmp_path / "child.py"
    child.write_text("_base_ = 'base.py'\nval_cfg = dict(fp16=True)\n")
    assert message(load_config, child).startswith(f"{base}, line 14: optim_wrapper.optimizer.momentun is not")
    child.write_text("_base_ = 'base.py'\nmodel = dict(\n    backbone=dict(widht=3))\n")
    assert message(load_config, child).startswith(f"{child}, line 3: model.backbone.widht is not")
    text = message(load_config, child, {"model.backbone.widht": 4})
    assert text.startswith(
        "--cfg-options model.backbone.widht=4: model.backbone.widht is not an argument of TinyBackbone"
    )
    base.write_text("x = 1\ny = z\n")
    assert message(load_config, child) == f"{base}, line 2: NameError: name 'z' is not defined"


def test_configs_of_other_kinds(tmp_path: Path) -> None:
    """Python configs that import what they name, YAML and JSON."""
    (tmp_path / "base.py").write_text(
        "train_cfg = dict(by_epoch=True, max_epochs=2)\nval_cfg = dict(\n    fp17=True)\n"
    )
    path = tmp_path / "imports.py"
    text = "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
    path.write_text(f"{text}from torch.optim import SGD\noptim_wrapper = dict(optimizer=dict(type=SGD, lr='1'))\n")
    assert message(load_config, path).startswith(f"{tmp_path}/base.py, line 3: val_cfg.fp17 is not an argument")
    text = message(load_config, path, {"val_cfg": {"_delete_": True}})
    assert text.startswith(f"{path}, line 5: optim_wrapper.optimizer.lr = '1': SGD expects float or Tensor")
    (tmp_path / "a.yaml").write_text("_base_: b.json\ntrain_cfg:\n  by_epoch: true\n  max_epochs: [2]\n")
    (tmp_path / "b.json").write_text('{"val_cfg": {}}')
    assert "a.yaml, line 4: train_cfg.max_epochs = [2]" in message(load_config, tmp_path / "a.yaml")
    (tmp_path / "b.json").write_text('{"val_cfg":\n {]}')
    assert "b.json, line 2: not JSON: Expecting property name" in message(load_config, tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("a: [1\nb: 2\n")
    assert "a.yaml, line 2: not YAML: " in message(load_config, tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("- 1\n")
    assert "expected keys and their values on the top level" in message(load_config, tmp_path / "a.yaml")


def test_what_is_allowed(tmp_path: Path) -> None:
    """Helper variables, hooks with a priority, third-party keyword sinks, layer configs."""
    load_config(
        write_config(
            tmp_path,
            (
                "width = 8",
                "width = 8; data_root = 'x'; norm_cfg = dict(type='BN'); optimizer = dict(type='SGD', lr=1.)\n"
                "custom_hooks = [dict(type='EMAHook', priority='NORMAL', momentum=0.01, begin_iter=1)]\n"
                "log_processor = dict(by_epoch=True, window_size=5)\n"
                "env_cfg = dict(mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='gloo', timeout=3))",
            ),
            ("num_classes=3", "num_classes=3, test_cfg=dict(mode='whole', norm_cfg=norm_cfg)"),
            (
                "optimizer=dict(type='SGD', lr=0.1, momentum=0.9)",
                "optimizer=dict(momentum=0.9, **optimizer), type='AmpOptimWrapper', loss_scale=512.0",
            ),
            ("begin=0", "convert_to_iter_based=True, begin=0.5"),
            ("train_dataloader = dict(", "allow_partial_load = True\ntrain_dataloader = dict(bad_samples='skip(10)', "),
            ("max_epochs=2", "max_epochs=2e0, dynamic_intervals=[(1, 1)]"),
        )
    )


def test_a_broken_file(tmp_path: Path) -> None:
    assert 'tine.py: no such config file; did you mean "tiny.py"?' in message(
        load_config, write_config(tmp_path).with_name("tine.py")
    )
    text = message(load_config, write_config(tmp_path, ("width = 8", "width = = 8")))
    assert "tiny.py, line 2: invalid syntax: width = = 8" in text
    text = message(load_config, write_config(tmp_path, ("width = 8", "width = height")))
    assert "tiny.py, line 2: NameError: name 'height' is not defined" in text
    text = message(load_config, write_config(tmp_path, ("width = 8", "_base_ = ['base.py']; width = 8")))
    assert f'{tmp_path / "tiny.py"}: _base_ = "{tmp_path / "base.py"}": no such config file' in text
    (tmp_path / "a.py").write_text("_base_ = 'b.py'")
    (tmp_path / "b.py").write_text("_base_ = 'a.py'")
    assert "goes round in a circle" in message(load_config, tmp_path / "a.py")
    (tmp_path / "c.txt").write_text("x")
    assert "a config file ends in .py, .json" in message(load_config, tmp_path / "c.txt")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (
            "train_cfg.max_epochs=3k",
            "--cfg-options train_cfg.max_epochs=3k: train_cfg.max_epochs = '3k': train_cfg expects",
        ),
        ("optim_wrapper.optimizer.lr=true", "optim_wrapper.optimizer.lr = True: SGD expects float or Tensor, not bool"),
        ("optim_wrapper.optimizer.lr=1e-", "optim_wrapper.optimizer.lr = '1e-': SGD expects float or Tensor, not str"),
        ("param_scheduler.x.end=3", 'param_scheduler is a list with indices 0 to 0, not "x"'),
        ("param_scheduler.0=3", "an item is not replaced alone; give the whole list, param_scheduler=[...]"),
        ("custom_hooks.0.type=EMAHook", "--cfg-options custom_hooks.0.type=EMAHook: custom_hooks = {'0': {'type': "),
        (
            "custom_imports.imports=no.such.module",
            "custom_imports: \"no.such.module\": ModuleNotFoundError: No module named 'no'",
        ),
        ("train_cgf.max_epochs=3", 'has no train_cgf; did you mean "train_cfg"'),
        ("train_cfg.max_epoch=3", 'train_cfg.max_epoch is not an argument of train_cfg; did you mean "max_epochs"'),
        ("model.backbone.type=TinyBakbone", 'did you mean "TinyBackbone"'),
        ("param_scheduler.7.end=3", 'param_scheduler is a list with indices 0 to 0, not "7"'),
        ("model.backbone.width.x=3", "model.backbone.width is 8, not a dict"),
    ],
)
def test_options_are_checked_alike(tmp_path: Path, option: str, expected: str) -> None:
    assert expected in message(load_config, write_config(tmp_path), parse_options([option]))


def test_options(tmp_path: Path) -> None:
    options = parse_options(
        ["train_cfg.max_epochs=5", "model.backbone.width=4", "param_scheduler.0.end=7", "load_from=None"]
    )
    cfg = load_config(write_config(tmp_path), options)
    assert (cfg.train_cfg.max_epochs, cfg.model.backbone.width, cfg.param_scheduler[0].end) == (5, 4, 7)
    assert cfg.load_from is None
    assert parse_options(["a=[(1,2.5),x]", "b=true"]) == {"a": [(1, 2.5), "x"], "b": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-1e-3", -1e-3), ("TRUE", True), ("None", None), ("none", "none"), ("a b/c.pth", "a b/c.pth"),
        ("", ""), ("1,2", [1, 2]), ("[1, 2,]", [1, 2]), ("[]", []), ("()", ()), ("(1,)", (1,)), ("'a'", "a"),
        ("(1,2),(3,4)", [(1, 2), (3, 4)]), ("[[1,2],(a,'b')]", [[1, 2], ("a", "b")]), ("it's", "it's"),
        ('"1,2"', [1, 2]), ("1,", [1]),
        ("a=b", "a=b"), ("[(1,2.5),x]", [(1, 2.5), "x"]), ("f(1,2)", "f(1,2)"), ("inf", float("inf")),
    ],
)  # fmt: skip
def test_literals_of_options(text: str, value: object) -> None:
    assert repr(parse_options([f"a={text}"])) == repr({"a": value})


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("lr", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("model..lr=3", "expected KEY=VALUE"),
        ("lr=[1,(2]", "brackets do not match"),
        ("lr=)1(", "brackets do not match"),
        ("lr=(1,[2)]", "brackets do not match"),
        ("lr='1", "quotes do not match"),
        ("lr=[a,b']", "quotes do not match"),
        ("model.neck={'a':1}", "the keys of a dict are set one by one: model.neck.KEY=VALUE"),
    ],
)
def test_bad_literals_of_options(pair: str, expected: str) -> None:
    assert f"--cfg-options {pair}: {expected}" in message(parse_options, [pair])


def test_iteration_based_runs_log_and_save_by_iterations(tmp_path: Path) -> None:
    changed = write_config(
        tmp_path, ("by_epoch=True, max_epochs=2, val_interval=1", "by_epoch=False, max_iters=8, val_interval=4")
    )
    cfg = load_config(changed)
    assert cfg.log_processor.by_epoch is False and cfg.default_hooks.checkpoint.by_epoch is False
    assert cfg.default_hooks.checkpoint.interval == 1 and cfg.default_hooks.logger.log_metric_by_epoch is False
    assert "log_processor" not in load_config(write_config(tmp_path))


def test_a_loader_gets_what_fits_its_workers(tmp_path: Path) -> None:
    options = {"train_dataloader.persistent_workers": True, "train_dataloader.num_workers": 0}
    options |= {"train_dataloader.timeout": 5, "train_dataloader.prefetch_factor": 4, "val_dataloader.num_workers": 1}
    cfg = load_config(write_config(tmp_path), options)
    assert not {"persistent_workers", "timeout", "prefetch_factor"} & set(cfg.train_dataloader)
    assert cfg.val_dataloader.timeout == 600 and "timeout" not in cfg.test_dataloader
    cfg = load_config(write_config(tmp_path), options | {"train_dataloader.num_workers": 2})
    assert cfg.train_dataloader.persistent_workers and cfg.train_dataloader.timeout == 5


def test_a_variable_of_the_file_takes_another_value_and_what_is_made_of_it_follows(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    first = ("width = 8", "width = 8; rates = [\n 1.0,\n 2.0]; depth = 3; pair = list(rates)")
    base = write_config(tmp_path, first, ("width=width", "width=2 * width + depth"))
    own = '_base_ = ["../tiny.py",\n  ]\nepochs = 2\ntrain_cfg = dict(max_epochs=3 * epochs)\nunused = 1\n'
    child = tmp_path / "configs" / "child.py"
    child.write_text(own)
    cfg = load_config(base, {"width": 5, "depth": 1, "rates": (3, 4)})
    assert (cfg.model.backbone.width, cfg.rates, cfg.filename) == (11, [3, 4], str(base))
    cfg = load_config(child, {"epochs": 4})
    assert (cfg.train_cfg.max_epochs, cfg.model.backbone.width) == (12, 19)
    assert cfg.work_dir == str(Path("work_dirs/child"))
    assert "epochs = 2 in" in message(load_config, child, {"epochs": "4k"})
    assert "its value has been used already" in message(load_config, child, {"width": 5})
    assert "its value has been used already" in message(load_config, child, {"unused": 5})
    child.write_text(own + "model = dict(backbone=dict(width=1 // (epochs - 4)))\n")
    assert message(load_config, child, {"epochs": 4}).startswith(f"{child}, line 6: ZeroDivisionError")
