"""Shared test setup: one thread, the command-line tools importable, real data where there is any."""

import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pictures; tests that ask for it are skipped where there is none."""
    folder = Path(os.environ.get("VISIONPATCH_DATA", ROOT / "data"))
    if not (folder / "VOCdevkit").is_dir():
        pytest.skip(f"no VOCdevkit in {folder}; set VISIONPATCH_DATA to a folder of real pictures")
    return folder
