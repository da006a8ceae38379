"""The command lines are frozen: a flag may be added here, never renamed."""

import argparse
import re
import subprocess
import sys

import pytest
from tool import ROOT, TOOLS, load

FLAGS = {
    "train.py": "config --work-dir --cfg-options --launcher --local-rank --local_rank --resume --amp --auto-scale-lr "
    "--dry-run --trust-checkpoint",
    "test.py": "config checkpoint --work-dir --cfg-options --launcher --local-rank --local_rank --out --show "
    "--show-dir --wait-time --tta --expect --trust-checkpoint",
    "get_flops.py": "config --shape --cfg-options",
    "browse_dataset.py": "config --out-dir --output-dir --split --number --epoch --cfg-options",
    "analyze_logs.py": "logs --keys --legend --title --out",
    "print_config.py": "config --save-path --cfg-options",
    "confusion_matrix.py": "config predictions --out --title --device --cfg-options",
    "analyze_results.py": "config predictions --out-dir --number --score-thr --cfg-options",
    "check_dataset.py": "config --split --max-cases --cfg-options",
    "check_resume.py": "config --iterations --breaks --interval --cfg-options",
    "convert_checkpoint.py": "source checkpoint out --trust-checkpoint",
    "what_is.py": "files --keys --config",
    "benchmark_matching.py": "out --only --seeds --table --cfg-options",
    "make_sample_dataset.py": "out --seed --train --val --size",
    "make_patch_manifest.py": "root out --splits --test-only --test-share --val-share --gap --one-group --max-patches "
    "--seed --synthetic --thermal-bits",
    "few_shot_demo.py": "query --support --image --support-file --mask --box --polygon --mask-value --class-name "
    "--config --weights --device --save-support --out-dir --opacity --trust-checkpoint",
    "dependency_demo.py": "image config --weights --device --out-dir --parts --saliency --opacity --trust-checkpoint",
    "matching_demo.py": "visible thermal --point --grid --config --weights --device --radius --step --shift "
    "--tolerance --share --out-dir --trust-checkpoint",
    "tokenizer_demo.py": "picture --config --weights --device --tile --box --generate --label --steps --guidance "
    "--seed --out-dir --trust-checkpoint",
    "image_demo.py": "image config --weights --device --out-dir --opacity --score-thr --trust-checkpoint",
}


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in (action.option_strings or [action.dest])} - {"-h", "--help"}


@pytest.mark.parametrize("path", TOOLS)
def test_flags(path: str) -> None:
    assert flags_of(load(path).build_parser()) == set(FLAGS[path.split("/")[-1]].split())


def test_values() -> None:
    train, test = load("tools/train.py").build_parser(), load("tools/test.py").build_parser()
    args = train.parse_args(
        ["c.py", "--cfg-options", "a=1", "b=2", "--resume", "--launcher", "pytorch", "--local_rank", "3"]
    )
    assert (args.cfg_options, args.resume, args.launcher, args.local_rank) == (["a=1", "b=2"], "auto", "pytorch", 3)
    assert (
        train.parse_args(["c.py", "--resume", "x.pth"]).resume == "x.pth" and train.parse_args(["c.py"]).resume is None
    )
    assert test.parse_args(["c.py", "x.pth"]).wait_time == 2.0
    launcher = next(a for a in train._actions if a.dest == "launcher")
    assert launcher.choices == ["none", "pytorch", "slurm", "mpi"]


@pytest.mark.parametrize(
    "path",
    [
        "tools/train.py",
        "tools/what_is.py",
        "demo/image_demo.py",
        "demo/few_shot_demo.py",
        "demo/dependency_demo.py",
        "demo/matching_demo.py",
        "demo/tokenizer_demo.py",
    ],
)
def test_help_imports_nothing_heavy(path: str) -> None:
    """The heavy libraries are imported after the command line is read."""
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']; sys.path.insert(0, {str(ROOT)!r})\n"
        f"try: runpy.run_path({str(ROOT / path)!r}, run_name='__main__')\n"
        "except SystemExit: print(sorted({'torch', 'mmengine', 'cv2', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]") and "usage:" in done.stdout


@pytest.mark.parametrize("name", ["dist_train.sh", "dist_test.sh"])
def test_shell_scripts(name: str) -> None:
    text = (ROOT / "tools" / name).read_text()
    assert "--launcher pytorch" in text and re.search(r"-m torch\.distributed\.run", text)
    done = subprocess.run(["bash", str(ROOT / "tools" / name)], capture_output=True, text=True)
    assert done.returncode == 2 and f"tools/{name} CONFIG" in done.stderr
