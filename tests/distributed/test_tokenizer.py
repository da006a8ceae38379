"""A tokenizer in two processes learns what it learns in one, its codebook of moving averages too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizer_ranks import codebook

SCRIPT = Path(__file__).with_name("tokenizer_ranks.py")
pytestmark = pytest.mark.xdist_group("two processes")


def run(*command: str) -> None:
    paths = [os.environ.get("PYTHONPATH", ""), str(Path(__file__).resolve().parents[2])]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(paths).strip(os.pathsep))
    env |= dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("tokenizer")
    run(str(SCRIPT), str(folder), "plain")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run(*launch, str(SCRIPT), str(folder), "plain", "adversarial")
    return {path.stem: torch.load(path) for path in folder.iterdir()}


def test_two_processes_do_what_one_does(states):
    alone, first, second = states["plain_1_0"], states["plain_2_0"], states["plain_2_1"]
    assert alone.keys() == first.keys() == second.keys()
    for name in alone:
        torch.testing.assert_close(first[name], alone[name], rtol=1e-4, atol=1e-5)
        assert torch.equal(first[name], second[name]), name
    fresh = torch.ones(16)
    assert not torch.equal(codebook(alone)["ema_count"], fresh)


def test_with_a_discriminator_and_codes_that_come_back_both_hold_the_same_weights(states):
    first, second = states["adversarial_2_0"], states["adversarial_2_1"]
    assert any(name.startswith("discriminator.") for name in first)
    for name in first:
        if "running_" not in name:  # statistics of the batches each has seen
            assert torch.equal(first[name], second[name]), name
