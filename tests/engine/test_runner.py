"""Whole runs of a tiny model: training, resuming, testing, and the runs that must stop."""

import multiprocessing
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from engine.tiny import TinyDataset, write_config
from visionpatch.apis.dry_run import dry_run
from visionpatch.engine import CheckpointHook, CpuAmpOptimWrapper, build_runner, load_config
from visionpatch.engine.hooks import check_dataset
from visionpatch.errors import ConfigError, DataError, NonFiniteLossError, WeightsError


def config(folder: Path, *changes: tuple[str, str], **options: object) -> Config:
    cfg = load_config(write_config(folder, *changes), options, work_dir=str(folder / "work"))
    cfg.log_level, cfg.experiment_name = "ERROR", uuid.uuid4().hex  # two runs of one second and name share their logs
    return cfg


def weights(path: Path) -> dict:
    return torch.load(path, weights_only=True)["state_dict"]  # holds plain data only


def test_resumed_run_equals_the_whole(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    build_runner(config(tmp_path)).train()
    whole = weights(tmp_path / "work/epoch_2.pth")
    first = config(tmp_path / "b", **{"train_cfg.max_epochs": 1})
    build_runner(first).train()
    again = config(tmp_path / "b")
    again.resume = True
    runner = build_runner(again)
    runner.train()
    assert runner.iter == 4 and runner.message_hub.get_scalar("train/loss").data[0].size == 4
    resumed = weights(tmp_path / "b/work/epoch_2.pth")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_testing_needs_all_weights(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    build_runner(cfg).train()
    path = tmp_path / "work/epoch_2.pth"
    cfg.load_from = str(path)
    assert 0 <= build_runner(cfg).test()["acc"] <= 1
    state = weights(path)
    state.pop("decode_head.bias")
    torch.save({"state_dict": state}, tmp_path / "part.pth")
    cfg.load_from = str(tmp_path / "part.pth")
    with pytest.raises(
        WeightsError, match=r"part.pth: does not fit TinySegmentor: 3 keys matched, 1 missing \(decode_head.bias\)"
    ):
        build_runner(cfg).test()
    runner = build_runner(cfg)
    runner.train()
    assert runner.load_report.missing == ("decode_head.bias",)


def test_stored_config_is_not_run(tmp_path: Path) -> None:
    build_runner(config(tmp_path, **{"train_cfg.max_epochs": 1})).train()
    path = tmp_path / "work/epoch_1.pth"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["meta"]["config"] = f"import os; os.mkdir(r'{tmp_path / 'trap'}')"
    torch.save(checkpoint, path)
    cfg = config(tmp_path)
    cfg.resume = True
    build_runner(cfg).train()
    assert not (tmp_path / "trap").exists()


def test_wrong_class_count(tmp_path: Path) -> None:
    cfg = config(tmp_path, ("num_classes=3", "num_classes=5"))
    with pytest.raises(ConfigError) as caught:
        build_runner(cfg).train()
    assert str(caught.value) == (
        f"{tmp_path / 'tiny.py'}, line 3: model.num_classes = 5, but train_dataloader.dataset "
        "(TinyDataset) has 3 classes; set model.num_classes = 3"
    )


def test_classes_of_other_names_or_number_than_in_training(tmp_path: Path) -> None:
    other = "dict(type='TinyDataset', length=2, classes=('sky', 'treee', 'road'))"
    cfg = config(tmp_path, ("dict(type='TinyDataset', length=2)", other))
    with pytest.raises(DataError, match='val_dataloader.dataset: class 1 is "treee", and "tree" in train_dataloader'):
        build_runner(cfg).train()
    fewer = "dict(type='TinyDataset', length=2, classes=('sky', 'road'))"
    cfg = config(tmp_path, ("dict(type='TinyDataset', length=2)", fewer))
    with pytest.raises(
        ConfigError, match=r"set model.num_classes = 2, or the data set's metainfo=dict\(classes=\.\.\.\)"
    ):
        build_runner(cfg).train()


def test_empty_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="^val_dataloader.dataset: TinyDataset holds no sample; check its data_root"):
        check_dataset(TinyDataset(0), "val_dataloader.dataset")
    with pytest.raises(DataError, match="TinyDataset"):
        build_runner(config(tmp_path, ("length=2", "length=0"))).train()


def test_nan_stops_with_its_samples(tmp_path: Path) -> None:
    cfg = config(tmp_path, ("dict(type='TinyDataset')", "dict(type='TinyDataset', poison=1)"))
    with pytest.raises(NonFiniteLossError, match=r"iteration \d: loss_ce is not finite .*picture_1.png"):
        build_runner(cfg).train()


def test_amp_on_cpu(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.optim_wrapper.type, cfg.optim_wrapper.dtype = "AmpOptimWrapper", "float16"
    cfg.optim_wrapper.clip_grad = dict(max_norm=1.0)
    runner = build_runner(cfg)
    runner.train()
    if torch.cuda.is_available():
        return
    assert isinstance(runner.optim_wrapper, CpuAmpOptimWrapper)
    with runner.optim_wrapper.optim_context(runner.model):
        assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16
    cfg.optim_wrapper.dtype = "bfloat61"
    with pytest.raises(ConfigError, match='did you mean "bfloat16"'):
        build_runner(cfg).train()


def test_cpu_processes_need_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = config(tmp_path)
    cfg.launcher = "slurm"
    with pytest.raises(ConfigError, match="launcher = slurm without a GPU: .* torchrun"):
        build_runner(cfg)


def test_runs_without_setuptools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pkg_resources", "setuptools"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    runner = build_runner(config(tmp_path, **{"train_cfg.max_epochs": 1}))
    runner.train()
    assert runner.iter == 2


def test_log_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One line on the environment, one per checkpoint and iteration: no dumps, no warnings that mean nothing."""
    cfg = config(tmp_path, **{"train_cfg.max_epochs": 1})
    cfg.log_level, cfg.optim_wrapper.paramwise_cfg, cfg.param_scheduler = "INFO", dict(bias_lr_mult=2.0), None
    build_runner(cfg).train()
    lines = capsys.readouterr().out.splitlines()
    assert "torch" in lines[0] and "seed 3" in lines[0] and len(lines) < 14
    assert not [line for line in lines if "WARNING" in line or "paramwise" in line]


@pytest.mark.parametrize("kind", ["test", "val"])
def test_no_loading_process_outlives_the_evaluation(tmp_path: Path, kind: str) -> None:
    loader = f"{kind}_dataloader"
    cfg = config(tmp_path, **{f"{loader}.num_workers": 2, f"{loader}.persistent_workers": True})
    getattr(build_runner(cfg), kind)()
    assert not multiprocessing.active_children()


def test_which_value_of_a_metric_is_the_better_one(tmp_path: Path) -> None:
    """Told from the name of every metric of the toolbox, and asked for otherwise."""
    names = (
        "single-label/f1-score",
        "single-label/recall",
        "single-label/kappa",
        "single-label/mcc",
        "FB-IoU",
        "mFscore",
    )
    for name in names:
        hook = CheckpointHook(save_best=name)
        assert hook.is_better_than[name](2, 1) and not hook.is_better_than[name](1, 2)
    with pytest.raises(
        ConfigError, match=r"save_best = \['MAE'\], rule = \[None\]: is a greater .* set rule=\"greater\""
    ):
        CheckpointHook(save_best="MAE")
    assert CheckpointHook(save_best="MAE", rule="less").is_better_than["MAE"](1, 2)


def test_a_best_metric_that_is_none(tmp_path: Path) -> None:
    """A dry run finds it; a training saves what it has, and goes on once the name is right."""
    wrong = {"default_hooks.checkpoint.save_best": "mIoU", "default_hooks.checkpoint.interval": 5}
    text = 'save_best = "mIoU" is not a metric; valid: acc'
    with pytest.raises(ConfigError, match=text):
        dry_run(config(tmp_path, **wrong))
    with pytest.raises(
        ConfigError, match=rf"{text} -- .*iter_2.pth is saved; correct the name and go on with --resume"
    ):
        build_runner(config(tmp_path, **wrong)).train()
    again = config(tmp_path)
    again.resume = True
    runner = build_runner(again)
    runner.train()
    assert runner.iter == 4 and (tmp_path / "work/epoch_2.pth").is_file()
