"""CocoMetric and VOCMetric of two processes are those of one, whatever the number of pictures they share."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from detection_ranks import CASES, evaluate

TESTS = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.xdist_group("two detection processes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What two processes wrote."""
    folder = tmp_path_factory.mktemp("metrics")
    paths = [str(TESTS.parent), str(TESTS)]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]))
    env |= dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    script = Path(__file__).with_name("detection_ranks.py")
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script), str(folder)]
    done = subprocess.run([sys.executable, "-m", *launch], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    logging.disable(logging.INFO)
    yield folder
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("length", "batch_size"), CASES)
def test_two_processes_evaluate_as_one(folder: Path, length: int, batch_size: int) -> None:
    """With an odd number one picture is predicted by both processes, and counts once."""
    first, second = (json.loads((folder / f"{rank}.json").read_text())[f"{length} {batch_size}"] for rank in range(2))
    alone = evaluate(length, batch_size, folder / "one")
    assert first == second == alone
    assert len(alone) == 2 * (12 + 3) + 6 + (1 + 2 + 6)
    assert length == 1 or 0.1 < alone["coco/bbox_mAP"] < 0.9
    for kind in ("bbox", "segm", "gt"):
        written = [(folder / f"{name}.{kind}.json").read_text() for name in (f"two_{length}_{batch_size}", "one")]
        assert written[0] == written[1]
