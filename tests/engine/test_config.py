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
    assert text.startswith(f"{path}: ") and expected in text


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
                "optimizer=dict(momentum=0.9, **optimizer), type='AmpOptimWrapper'",
            ),
            ("begin=0", "convert_to_iter_based=True, begin=0"),
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
        ("train_cgf.max_epochs=3", 'has no train_cgf; did you mean "train_cfg"'),
        ("train_cfg.max_epoch=3", 'train_cfg.max_epoch is not an argument of train_cfg; did you mean "max_epochs"'),
        ("model.backbone.type=TinyBakbone", 'did you mean "TinyBackbone"'),
        ("param_scheduler.7.end=3", "does not fit"),
        ("width=3", "override what it was used for: model.backbone.width"),
        ("model.backbone.width.x=3", "does not fit"),
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
    assert "expected KEY=VALUE" in message(parse_options, ["lr"])
    assert "brackets do not match" in message(parse_options, ["lr=[1,(2]"])


def test_iteration_based_runs_log_and_save_by_iterations(tmp_path: Path) -> None:
    changed = write_config(
        tmp_path, ("by_epoch=True, max_epochs=2, val_interval=1", "by_epoch=False, max_iters=8, val_interval=4")
    )
    cfg = load_config(changed)
    assert cfg.log_processor.by_epoch is False and cfg.default_hooks.checkpoint.by_epoch is False
    assert cfg.default_hooks.checkpoint.interval == 1 and cfg.default_hooks.logger.log_metric_by_epoch is False
    assert "log_processor" not in load_config(write_config(tmp_path))


def test_a_loader_without_workers_keeps_none_alive(tmp_path: Path) -> None:
    options = {"train_dataloader.persistent_workers": True, "train_dataloader.num_workers": 0}
    assert "persistent_workers" not in load_config(write_config(tmp_path), options).train_dataloader
    options["train_dataloader.num_workers"] = 2
    assert load_config(write_config(tmp_path), options).train_dataloader.persistent_workers
