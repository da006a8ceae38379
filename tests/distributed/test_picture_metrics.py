"""The metrics of pictures in two processes are those of one, whatever the number of pictures they share."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from picture_ranks import CASES, evaluate

TESTS = Path(__file__).resolve().parents[1]
NAMES = ["PSNR", "SSIM", "L1", "codebook_usage", "perplexity", "Difference", "FD-averages"]
pytestmark = pytest.mark.xdist_group("two processes of pictures")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What two processes wrote."""
    folder = tmp_path_factory.mktemp("metrics")
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")]))
    env |= dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    script = Path(__file__).with_name("picture_ranks.py")
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script), str(folder)]
    done = subprocess.run([sys.executable, "-m", *launch], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    logging.disable(logging.WARNING)
    yield folder
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("length", "batch_size"), CASES)
def test_two_processes_evaluate_as_one(folder: Path, length: int, batch_size: int) -> None:
    """With an odd number one picture is predicted by both processes, and counts once."""
    first, second = (json.loads((folder / f"{rank}.json").read_text())[f"{length} {batch_size}"] for rank in range(2))
    alone = evaluate(length, batch_size)
    assert first == second and list(first) == list(alone) == NAMES
    for name in NAMES:
        exact = name not in ("FD-averages", "perplexity")
        assert first[name] == (alone[name] if exact else pytest.approx(alone[name], rel=1e-9)), name
    assert alone["FD-averages"] > 1 and alone["codebook_usage"] > 0.2
