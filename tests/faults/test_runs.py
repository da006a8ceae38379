"""Runs that meet a fault: what is on the disk, what is said, and with which status they end."""

import json
import os
import random
import resource
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch
from engine import tiny
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook

from faults.child import Child
from faults.expect import expect
from visionpatch.apis.exact_resume import differences
from visionpatch.engine import build_runner, load_config
from visionpatch.engine.checkpoint import load_checkpoint_file
from visionpatch.errors import (
    BadSampleError,
    ConfigError,
    DataError,
    NonFiniteLossError,
    SaveError,
    VisionpatchError,
    WeightsError,
    WorkerError,
)
from visionpatch.registry import DATASETS, HOOKS, MODELS

KILLS = 50 if __debug__ else 5
ITERATIONS = {"train_cfg": dict(by_epoch=False, max_iters=6, val_interval=100)}


@DATASETS.register_module()
class Troubled(tiny.TinyDataset):
    """TinyDataset, one sample of which is in trouble, and a mark on the disk for every sample read.

    Args:
        trouble: ``bad`` raises BadSampleError, ``die`` kills the process, ``hang`` never answers, ``slow`` takes 0.1 s.
        bad: the indices in trouble.
    """

    def __init__(self, length: int = 4, trouble: str = "", bad: tuple[int, ...] = (1,)) -> None:
        super().__init__(length)
        self.trouble, self.bad = trouble, tuple(bad)

    def __getitem__(self, index: int) -> dict:
        if index in self.bad:
            if self.trouble == "bad":
                raise BadSampleError(f"picture_{index}.png: is empty (0 bytes)")
            if self.trouble == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep({"hang": 1000, "slow": 0.1}.get(self.trouble, 0))
        return super().__getitem__(index)


@MODELS.register_module()
class TwelveChannels(tiny.TinyBackbone):
    """Twelve channels, of which eight are handed on."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (super().forward(x)[0][:, :8],)


@HOOKS.register_module()
class TellHook(Hook):
    """Prints the number of each iteration that was done."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        print(f"done {runner.iter + 1}.", flush=True)


def config(folder: Path, **options: Any) -> Config:
    """The tiny training, in `folder`/work."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg = load_config(tiny.write_config(folder), {}, work_dir=str(folder / "work"))
    if "train_cfg" in options:
        cfg.train_cfg = options.pop("train_cfg")
    cfg.merge_from_dict(options)
    cfg.log_level, cfg.experiment_name = "ERROR", uuid.uuid4().hex
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="TellHook")]
    if not cfg.train_cfg.get("by_epoch", True):
        cfg.default_hooks.checkpoint.by_epoch = False
    return cfg


def train(cfg: Config, resume: bool = False) -> Any:
    cfg.resume = resume
    runner = build_runner(cfg)
    runner.train()
    return runner


def epochs_in(work_dir: str) -> list[str]:
    return sorted(path.name for path in Path(work_dir).glob("epoch_*.pth"))


def error_of(kind: type[VisionpatchError], cfg: Config, resume: bool = False) -> str:
    with pytest.raises(kind) as caught:
        train(cfg, resume)
    text = str(caught.value)
    expect("\n" not in text, text)
    return text


@pytest.mark.parametrize("keep", [1, 3])
def test_fault_03_kill_9_at_any_instant(tmp_path: Path, keep: int) -> None:
    """Killed at random instants of runs that do little but save, each going on from what the one before left."""
    draw = random.Random(keep)
    loop = dict(by_epoch=False, max_iters=10**6, val_interval=3)  # validations save best checkpoints between
    cfg = config(tmp_path, train_cfg=loop, **{"default_hooks.checkpoint.max_keep_ckpts": keep})
    reached = 0
    for number in range(KILLS // 2 + 1):
        cfg.experiment_name, cfg.resume = uuid.uuid4().hex, number > 0
        child = Child(lambda: build_runner(cfg).train(), tmp_path / "out.txt")
        child.wait_for(f"done {reached + 2}.")
        time.sleep(draw.random() * 0.3)
        child.kill()
        pointed = Path((tmp_path / "work/last_checkpoint").read_text())
        meta = load_checkpoint_file(pointed)["meta"]
        expect(meta["iter"] > reached, (meta["iter"], reached, child.text()))
        reached = meta["iter"]
        files = list((tmp_path / "work").glob("iter_*.pth"))
        expect(len(files) <= keep + 1, files)
        for file in files:
            expect(load_checkpoint_file(file)["meta"]["iter"] > 0)  # none is cut off


def test_fault_03_killed_before_a_removal(tmp_path: Path) -> None:
    """What a run was killed too early to remove is removed when it goes on; files of other folders are left alone."""
    cfg = config(tmp_path, **{"train_cfg.max_epochs": 3, "default_hooks.checkpoint.max_keep_ckpts": 1})

    def killed_at_the_first_removal() -> None:
        LocalBackend.remove = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        train(cfg)

    child = Child(killed_at_the_first_removal, tmp_path / "out.txt")
    expect(child.status() == -signal.SIGKILL, child.text())
    expect(epochs_in(cfg.work_dir) == ["epoch_1.pth", "epoch_2.pth"], epochs_in(cfg.work_dir))
    elsewhere = config(tmp_path / "other", **{"train_cfg.max_epochs": 2, "default_hooks.checkpoint.max_keep_ckpts": 1})
    elsewhere.load_from, kept = str(tmp_path / "work/epoch_2.pth"), tmp_path / "other/work/epoch_1.pth"
    kept.parent.mkdir()
    kept.write_bytes(b"of another run")
    train(elsewhere, resume=True)
    expect(kept.read_bytes() == b"of another run")
    train(cfg, resume=True)
    expect(epochs_in(cfg.work_dir) == ["epoch_3.pth"], epochs_in(cfg.work_dir))


def test_fault_04_disk_full(tmp_path: Path) -> None:
    """The system refuses to write on: the old checkpoint stays, nothing unfinished is left, the error has numbers."""
    train(config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=1)))
    before = (tmp_path / "work/epoch_1.pth").read_bytes()

    def with_little_space() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, resource.RLIM_INFINITY))
        train(config(tmp_path, **{"train_cfg.max_epochs": 3}), resume=True)

    child = Child(with_little_space, tmp_path / "out.txt")
    expect(child.status() == 2, child.text())
    text = child.text().strip().splitlines()[-1]
    expect("epoch_2.pth: cannot be written (File too large); needs about" in text and "bytes" in text, text)
    expect((tmp_path / "work/epoch_1.pth").read_bytes() == before)
    expect((tmp_path / "work/last_checkpoint").read_text().endswith("epoch_1.pth"))
    left = [p.name for p in (tmp_path / "work").iterdir() if "epoch_2" in p.name or p.name.endswith(".part")]
    expect(left == [], left)
    expect(train(config(tmp_path, **{"train_cfg.max_epochs": 2}), resume=True).iter == 4)


def test_fault_04_work_dir_is_tested_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    cfg = config(tmp_path)
    cfg.work_dir = str(tmp_path / "file/work")
    expect("work_dir " + cfg.work_dir in error_of(SaveError, cfg) and "--work-dir" in error_of(SaveError, cfg))

    def refuse(*args: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    text = error_of(SaveError, config(tmp_path))
    expect("cannot be written to (Permission denied); choose another one by --work-dir" in text, text)
    expect(not list((tmp_path / "work").iterdir()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [0, 2])
def test_fault_05_signal_saves_and_ends(tmp_path: Path, number: int, workers: int) -> None:
    options = {"train_dataloader.num_workers": workers, "train_dataloader.dataset.type": "Troubled"}
    slow = options | {"train_dataloader.dataset.trouble": "slow", "train_dataloader.dataset.bad": (0, 1, 2, 3)}
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=500), **slow)
    child = Child(lambda: train(cfg), tmp_path / "out.txt")
    child.wait_for("done 3.")
    os.killpg(child.pid, number)  # as a terminal or a queue does it: to the loading processes too
    expect(child.status() == 75, child.text())
    done = int(child.text().rsplit("done ", 1)[1].split(".")[0])
    name = signal.Signals(number).name
    expect(f"stopped by {name} after iteration {done}: {tmp_path}/work/iter_{done}.pth is saved" in child.text())
    expect(load_checkpoint_file(tmp_path / f"work/iter_{done}.pth")["meta"]["iter"] == done)
    longer = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=done // 2 + 2))
    expect(train(longer, resume=True).iter == 2 * (done // 2 + 2))
    expect(not (tmp_path / f"work/iter_{done}.pth").exists())  # regular checkpoints have followed


def test_fault_05_stopped_run_is_exact(tmp_path: Path) -> None:
    """Stopped by a signal within an epoch and resumed: the weights of the run as a whole."""
    whole = config(tmp_path / "a", train_cfg=dict(by_epoch=True, max_epochs=3))
    train(whole)
    cfg = config(tmp_path / "b", train_cfg=dict(by_epoch=True, max_epochs=3))
    cfg.train_dataloader.dataset = dict(type="Troubled", trouble="slow", bad=(0, 1, 2, 3))
    child = Child(lambda: train(cfg), tmp_path / "out.txt")
    child.wait_for("done 3.")
    child.send(signal.SIGTERM)
    expect(child.status() == 75, child.text())
    train(config(tmp_path / "b", train_cfg=dict(by_epoch=True, max_epochs=3)), resume=True)
    a, b = (load_checkpoint_file(tmp_path / f"{x}/work/epoch_3.pth")["state_dict"] for x in "ab")
    expect(all(torch.equal(a[key], b[key]) for key in a))


def test_fault_05_signal_in_validation(tmp_path: Path) -> None:
    """The pass ends, averaged weights are swapped back, and the validation is made up for after the resume."""
    slow = dict(type="Troubled", trouble="slow", bad=tuple(range(100)), length=100)
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1))
    cfg.custom_hooks.append(dict(type="EMAHook"))
    cfg.default_hooks.checkpoint.interval = 100
    cfg.val_dataloader.dataset = slow
    child = Child(lambda: train(cfg), tmp_path / "out.txt")
    child.wait_for("done 2.")
    time.sleep(0.3)
    child.send(signal.SIGTERM)
    expect(child.status(20) == 75, child.text())
    meta = load_checkpoint_file(tmp_path / "work/iter_2.pth")["meta"]
    expect((meta["iter"], meta["validated"]) == (2, False), meta)
    again = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1))
    again.custom_hooks.append(dict(type="EMAHook"))
    runner = train(again, resume=True)
    expect(runner.message_hub.get_scalar("val/acc").data[0].size == 2)


def test_fault_05_second_signal_leaves_at_once(tmp_path: Path) -> None:
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=500))
    cfg.train_dataloader.dataset = dict(type="Troubled", trouble="hang", bad=(2,))
    child = Child(lambda: train(cfg), tmp_path / "out.txt")
    time.sleep(0.5)
    child.wait_for("")
    for _ in range(200):
        if (tmp_path / "work/.training").exists():
            break
        time.sleep(0.05)
    time.sleep(0.5)
    child.send(signal.SIGTERM)
    child.wait_for("SIGTERM: finishing the iteration and saving; once more to leave at once")
    child.send(signal.SIGTERM)
    expect(child.status(10) == -signal.SIGTERM)


def test_fault_06_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """The whole proof is in tests/engine/test_exact_resume.py; here one training with everything in it."""
    cfg = config(tmp_path, train_cfg=dict(by_epoch=False, max_iters=6, val_interval=2))
    cfg.custom_hooks = [dict(type="EMAHook", momentum=0.1)]
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    expect(differences(cfg, tmp_path, 5, [2, 3]) == [])


def test_fault_07_nothing_to_resume(tmp_path: Path) -> None:
    text = error_of(WeightsError, config(tmp_path), resume=True)
    expect("holds no checkpoint to resume from; leave out --resume to start afresh" in text, text)
    torch.save({"state_dict": {"w": torch.zeros(1)}}, tmp_path / "weights.pth")
    cfg = config(tmp_path, load_from=str(tmp_path / "weights.pth"))
    expect("weights.pth: holds weights only" in error_of(WeightsError, cfg, resume=True))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"model.backbone.width": 12},
            r"of another model: backbone.conv.weight is \(8, 3, 3, 3\) in the file and \(12, 3, 3, 3\) in",
        ),
        (
            {"optim_wrapper.optimizer": dict(type="AdamW", lr=0.1, _delete_=True)},
            "saved by another optimizer than AdamW",
        ),
        ({"optim_wrapper.paramwise_cfg": dict(bias_lr_mult=2.0)}, "1 parameter groups saved, 4 here"),
        ({"train_dataloader.dataset.length": 5}, "trained on another dataset, of 4 samples and not 5"),
        ({"train_dataloader.dataset.classes": ("sky", "tree", "car")}, r"first at 2 \(road, here car\)"),
        ({"param_scheduler": []}, "1 parameter schedulers saved, 0 here"),
    ],
)
def test_fault_07_another_run(tmp_path: Path, change: dict, text: str) -> None:
    train(config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=1)))
    cfg = config(tmp_path)
    if "param_scheduler" in change:
        cfg.param_scheduler = []
    else:
        cfg.merge_from_dict(change)
    if "model.backbone.width" in change:
        cfg.model.backbone.type = "TwelveChannels"
    with pytest.raises(WeightsError, match=text):
        train(cfg, resume=True)


def test_fault_02_falls_back_to_the_newest_intact(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Auto-resume tells of the broken file and of the one it takes."""
    train(config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=3)))
    work = tmp_path / "work"
    for name, content in (("epoch_3.pth", b"PK"), ("last_checkpoint", b"elsewhere/epoch_3.pth")):
        (work / name).write_bytes(content)
    said: list[str] = []
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=4))
    cfg.resume = True
    runner = build_runner(cfg)
    runner.logger.warning = said.append  # type: ignore[method-assign]
    runner.train()
    expect(runner.iter == 8)
    expect("epoch_3.pth: 2 bytes that cannot be read" in said[0] and "going on from" in said[0], said)
    expect("epoch_2.pth instead" in said[0], said)


def test_fault_09_nan_stops_before_the_step(tmp_path: Path) -> None:
    """The weights are those of the iteration before, and the message names iteration, term and samples."""
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=2))
    cfg.train_dataloader.dataset.poison = 1
    cfg.resume = False
    runner = build_runner(cfg)
    with pytest.raises(
        NonFiniteLossError, match=r"^iteration \d: loss_ce is not finite \(loss_ce = nan\); samples: .*p"
    ):
        runner.train()
    expect(all(p.isfinite().all() for p in runner.model.parameters()))


def test_fault_09_gradient(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.resume = False
    runner = build_runner(cfg)
    weight = runner.model.decode_head.weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weight.detach().clone()
    with pytest.raises(NonFiniteLossError, match=r"the gradient of decode_head.weight is not finite \(loss_ce = 1"):
        runner.train()
    expect(torch.equal(runner.model.decode_head.weight, before))


def test_fault_09_skipped(tmp_path: Path) -> None:
    """A skipped iteration leaves weights, running statistics and optimiser as they were; n in a row are let pass."""
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=2))
    cfg.train_dataloader.dataset.poison = 1
    cfg.custom_hooks.append(dict(type="CheckHook", non_finite="skip(2)"))
    runner = train(cfg)
    expect(runner.iter == 4 and all(p.isfinite().all() for p in runner.model.parameters()))
    cfg = config(tmp_path / "more", train_cfg=dict(by_epoch=True, max_epochs=2))
    cfg.train_dataloader.batch_size, cfg.train_dataloader.dataset.poison = 4, 1
    cfg.custom_hooks.append(dict(type="CheckHook", non_finite="skip(1)"))
    text = error_of(NonFiniteLossError, cfg)
    expect("iteration 2" in text and "2 iterations in a row" in text, text)
    cfg.custom_hooks[-1] = dict(type="CheckHook", non_finite="ignore")
    expect("'ignore' is not a policy" in error_of(ConfigError, cfg))


@pytest.mark.parametrize("workers", [0, 2])
def test_fault_10_bad_samples(tmp_path: Path, workers: int) -> None:
    """``raise`` stops; ``skip(n)`` takes others, writes down which, and stops at one more than n."""
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=2))
    cfg.train_dataloader.dataset = dict(type="Troubled", length=8, trouble="bad", bad=(1, 5))
    cfg.train_dataloader.num_workers = workers
    expect("picture_" in error_of(BadSampleError, cfg))
    cfg.train_dataloader.bad_samples = "skip(2)"
    expect(train(cfg).iter == 8)
    lines = (tmp_path / "work/bad_samples.jsonl").read_text().splitlines()
    expect(sorted(json.loads(line)["path"] for line in lines) == ["picture_1.png", "picture_5.png"], lines)
    (tmp_path / "work/bad_samples.jsonl").unlink()
    cfg.train_dataloader.bad_samples = "skip(1)"
    text = error_of(DataError, cfg)
    expect("2 samples cannot be read, more than the 1 that" in text, text)


def test_fault_10_evaluation_never_skips(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.val_dataloader.dataset = dict(type="Troubled", trouble="bad", bad=(1,))
    expect("picture_1.png" in error_of(BadSampleError, cfg))
    with pytest.raises(ConfigError, match="val_dataloader.bad_samples"):
        load_config(tiny.write_config(tmp_path), {"val_dataloader.bad_samples": "skip(3)"})


def test_fault_16_no_batch_in_an_epoch(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.train_dataloader.batch_size, cfg.train_dataloader.drop_last = 9, True
    expect("an epoch of 4 samples has no batch of 9 with drop_last" in error_of(ConfigError, cfg))
    cfg.train_dataloader.dataset.length = 0
    expect("TinyDataset holds no sample" in error_of(DataError, cfg))


def test_fault_16_an_epoch_without_end(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    cfg.train_dataloader.sampler = dict(type="TrainSampler")
    expect("the first epoch of EpochBasedTrainLoop" in error_of(ConfigError, cfg))


@pytest.mark.parametrize(
    ("trouble", "words"), [("die", "died; often it ran out of memory"), ("hang", "within timeout=2 s")]
)
def test_fault_20_worker(tmp_path: Path, trouble: str, words: str) -> None:
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset = dict(type="Troubled", trouble=trouble)
    cfg.train_dataloader.num_workers, cfg.train_dataloader.timeout = 2, 2
    text = error_of(WorkerError, cfg)
    expect(words in text and "num_workers" in text, text)


def test_fault_20_no_orphans(tmp_path: Path) -> None:
    """After Ctrl-C, twice, no loading process is left."""
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=500))
    cfg.train_dataloader.dataset = dict(type="Troubled", trouble="slow", bad=(0, 1, 2, 3))
    cfg.train_dataloader.num_workers = 2
    child = Child(lambda: train(cfg), tmp_path / "out.txt")
    child.wait_for("done 2.")
    for _ in range(2):
        os.killpg(child.pid, signal.SIGINT)
        time.sleep(0.01)
    child.status(20)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a loading process is still there")


def test_fault_21_two_runs_in_one_work_dir(tmp_path: Path) -> None:
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=500))
    cfg.train_dataloader.dataset = dict(type="Troubled", trouble="slow", bad=(0, 1, 2, 3))
    child = Child(lambda: train(cfg), tmp_path / "out.txt")
    child.wait_for("done 1.")
    try:
        text = error_of(ConfigError, config(tmp_path))
        expect(f"process {child.pid} on " in text and "trains there; give another --work-dir" in text, text)
    finally:
        child.kill()
    train(config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=1)))  # the dead one holds nothing


def test_fault_21_clock_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest checkpoint is told by its iteration, not by the clock; spaces, accents and relative paths are fine."""
    folder = tmp_path / "mes données 1"
    folder.mkdir()
    monkeypatch.chdir(folder)
    cfg = config(Path("."), train_cfg=dict(by_epoch=True, max_epochs=2))
    train(cfg)
    os.utime("work/epoch_2.pth", (0, 0))
    Path("work/last_checkpoint").unlink()
    expect(train(config(Path("."), train_cfg=dict(by_epoch=True, max_epochs=3)), resume=True).iter == 6)
    moved = tmp_path / "moved"
    folder.rename(moved)
    monkeypatch.chdir(tmp_path)
    runner = train(config(moved, train_cfg=dict(by_epoch=True, max_epochs=4)), resume=True)
    expect(runner.iter == 8)


def test_fault_24_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixed precision without a GPU computes in bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=1))
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    expect(type(train(cfg).optim_wrapper).__name__ == "CpuAmpOptimWrapper")


def test_fault_24_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    cfg = config(tmp_path)
    cfg.visualizer = dict(type="Visualizer", vis_backends=[dict(type="TensorboardVisBackend")])
    child = Child(lambda: train(cfg), tmp_path / "out.txt")
    expect(child.status() == 2, child.text())
    lines = [line for line in child.text().splitlines() if line.startswith("error: ")]
    expect(len(lines) == 1 and "pip install" in lines[0] and "tensorboard" in lines[0], child.text())


def test_signals_in_a_thread(tmp_path: Path) -> None:
    """Training in another thread than the main one works; signals stay with whoever has them."""
    done: list[int] = []
    cfg = config(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=1))
    thread = threading.Thread(target=lambda: done.append(train(cfg).iter))
    thread.start()
    thread.join()
    expect(done == [2])
