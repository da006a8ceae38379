"""Two processes on the CPU, started by tools/dist_train.sh as a user would."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from engine.tiny import write_config
from tool import ROOT


def test_two_processes(tmp_path: Path) -> None:
    """One epoch of 4 samples in 1 iteration of 2 x 2; the weights are saved once and hold no wrapper's prefix."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = write_config(tmp_path, ("width = 8", "width = 8; custom_imports = dict(imports=['engine.tiny'])"))
    env = dict(
        os.environ, PYTHON=sys.executable, PYTHONPATH=str(ROOT / "tests"), PORT=str(port), CUDA_VISIBLE_DEVICES=""
    )
    command = ["bash", str(ROOT / "tools/dist_train.sh"), str(path), "2", "--work-dir", str(tmp_path / "work")]
    done = subprocess.run(command, env=dict(env, OMP_NUM_THREADS="1"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    log = next((tmp_path / "work").glob("*/vis_data/scalars.json")).read_text().splitlines()
    assert [json.loads(line)["step"] for line in log if "loss" in line] == [1, 2]
    state = torch.load(tmp_path / "work/epoch_2.pth", weights_only=True)["state_dict"]
    assert sorted(state) == ["backbone.conv.bias", "backbone.conv.weight", "decode_head.bias", "decode_head.weight"]
