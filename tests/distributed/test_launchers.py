"""The scripts that start several processes, as a user calls them."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from engine.tiny import write_config

from visionpatch.engine import load_checkpoint_file, load_config

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / "tools"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def dist_train(folder: Path, *flags: str) -> subprocess.CompletedProcess:
    paths = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(HERE.parent), str(HERE)]).strip(os.pathsep)
    env = dict(os.environ, PYTHON=sys.executable, PYTHONPATH=paths, PORT=str(free_port()))
    env |= dict(CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
    command = ["bash", str(TOOLS / "dist_train.sh"), str(folder / "tiny.py"), "2", "--work-dir", str(folder / "work")]
    return subprocess.run([*command, *flags], env=env, cwd=folder, capture_output=True, text=True, timeout=300)


def test_signal_to_one_process(tmp_path: Path) -> None:
    """Both finish the iteration, one checkpoint is saved, both end with status 75; then the training goes on."""
    changes = [
        ("width = 8", "width = 8; custom_imports = dict(imports=['trainings'])"),
        ("val_cfg = dict()", "val_cfg = dict(); custom_hooks = [dict(type='StopOne')]"),
        ("interval=1, save_best='acc'", "interval=2"),
        ("max_epochs=2", "max_epochs=4"),
    ]
    write_config(tmp_path, *changes)
    stopped = dist_train(tmp_path)
    assert re.findall(r"exitcode +: (-?\d+)", stopped.stderr) == ["75", "75"], stopped.stderr[-4000:]
    assert stopped.returncode == 1
    path = tmp_path / "work/iter_3.pth"
    assert f"stopped by SIGTERM after iteration 3: {path} is saved" in stopped.stderr
    assert f"stopped by a signal to another process after iteration 3: {path} is saved" in stopped.stderr
    assert (tmp_path / "work/last_checkpoint").read_text() == str(path)
    resumed = dist_train(tmp_path, "--resume", "if-any")
    assert resumed.returncode == 0, resumed.stderr[-4000:]
    logs = sorted((tmp_path / "work").glob("*/vis_data/scalars.json"))
    steps = [json.loads(line)["step"] for log in logs for line in log.read_text().splitlines() if "loss" in line]
    assert steps == [1, 2, 3, 4]
    assert sorted(file.name for file in (tmp_path / "work").glob("*.pth")) == ["epoch_2.pth", "epoch_4.pth"]
    state = load_checkpoint_file(tmp_path / "work/epoch_4.pth")["state_dict"]
    assert sorted(state) == ["backbone.conv.bias", "backbone.conv.weight", "decode_head.bias", "decode_head.weight"]


def recorded(folder: Path, script: str, arguments: str, program: str, **environment: str) -> list[str]:
    """The arguments with which a script calls `program`, which a file that notes them stands in for."""
    fake = folder / program
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/arguments"\necho "$PYTHONPATH" > "{folder}/path"\n')
    fake.chmod(0o755)
    kept = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **environment}
    subprocess.run(["bash", str(TOOLS / script), *arguments.split()], env=kept, check=True, timeout=60)
    assert (folder / "path").read_text().startswith(f"{TOOLS}/..:")
    return (folder / "arguments").read_text().splitlines()


def test_dist_test(tmp_path: Path) -> None:
    found = recorded(tmp_path, "dist_test.sh", "c.py w.pth 4 --tta", "python", PORT="1234", NNODES="2", NODE_RANK="1")
    launch = ["--nnodes=2", "--node_rank=1", "--master_addr=127.0.0.1", "--master_port=1234", "--nproc_per_node=4"]
    tool = [f"{TOOLS}/test.py", "c.py", "w.pth", "--launcher", "pytorch", "--tta"]
    assert found == ["-m", "torch.distributed.run", *launch, *tool]


def test_slurm_train(tmp_path: Path) -> None:
    found = recorded(tmp_path, "slurm_train.sh", "gpu_8 name c.py --resume if-any", "srun", SRUN_ARGS="--mem=9G -t 60")
    srun = "--partition=gpu_8 --job-name=name --gres=gpu:8 --ntasks=8 --ntasks-per-node=8 --cpus-per-task=5"
    tool = ["python", "-u", f"{TOOLS}/train.py", "c.py", "--launcher", "slurm", "--resume", "if-any"]
    assert found == [*srun.split(), "--kill-on-bad-exit=1", "--mem=9G", "-t", "60", *tool]


@pytest.mark.parametrize(("given", "gpus", "per_node"), [({}, 4, 4), ({"GPUS_PER_NODE": "2"}, 4, 2), ({}, 16, 8)])
def test_slurm_test(tmp_path: Path, given: dict, gpus: int, per_node: int) -> None:
    given = dict(given, GPUS=str(gpus), CPUS_PER_TASK="3", PYTHON="python3")
    found = recorded(tmp_path, "slurm_test.sh", "p n c.py w.pth --out o.npz", "srun", **given)
    srun = f"--partition=p --job-name=n --gres=gpu:{per_node} --ntasks={gpus} --ntasks-per-node={per_node}"
    tool = ["python3", "-u", f"{TOOLS}/test.py", "c.py", "w.pth", "--launcher", "slurm", "--out", "o.npz"]
    assert found == [*srun.split(), "--cpus-per-task=3", "--kill-on-bad-exit=1", *tool]


@pytest.mark.parametrize("script", ["dist_train.sh", "dist_test.sh", "slurm_train.sh", "slurm_test.sh"])
def test_usage(script: str) -> None:
    done = subprocess.run(["bash", str(TOOLS / script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and f"tools/{script} " in done.stderr


def test_fsdp_config_of_the_manual(tmp_path: Path) -> None:
    """The manual's example is accepted; FSDP itself needs GPUs."""
    manual = (HERE.parents[1] / "docs/distributed.md").read_text()
    example = re.search(r"```python\n(.*?)```", manual, re.DOTALL)
    assert example
    path = write_config(tmp_path)
    path.write_text(path.read_text() + example[1])
    cfg = load_config(path)
    assert (cfg.runner_type, cfg.strategy.type) == ("FlexibleRunner", "FSDPStrategy")
