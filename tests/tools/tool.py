"""The scripts as modules, run in this process."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from visionpatch.apis import cli

ROOT = Path(__file__).resolve().parents[2]
TOOLS = [
    "tools/train.py",
    "tools/test.py",
    "tools/analysis_tools/get_flops.py",
    "tools/analysis_tools/browse_dataset.py",
    "tools/analysis_tools/analyze_logs.py",
    "tools/analysis_tools/print_config.py",
    "tools/analysis_tools/confusion_matrix.py",
    "tools/analysis_tools/analyze_results.py",
    "tools/check_dataset.py",
    "tools/check_resume.py",
    "tools/convert_checkpoint.py",
    "tools/what_is.py",
    "tools/benchmark_matching.py",
    "tools/dataset_converters/make_sample_dataset.py",
    "tools/dataset_converters/make_patch_manifest.py",
    "demo/image_demo.py",
    "demo/few_shot_demo.py",
    "demo/dependency_demo.py",
    "demo/matching_demo.py",
    "demo/tokenizer_demo.py",
]


def load(path: str) -> ModuleType:
    name = "tool_" + Path(path).stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / path)
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def run(path: str, *arguments: object) -> int:
    """The exit status of a tool; its output is the test's."""
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: load(path).main([str(a) for a in arguments]))
    return int(left.value.code or 0)
