"""The house: imports run downwards only, without cycles, and parts keep to the sizes the design sets."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "visionpatch"
BASE = {"distributions", "errors", "palette", "paths", "random_state", "registry", "structures", "visionpatch"}
# what each part may import besides itself
ALLOWED = {
    "distributions": set(),
    "errors": set(),
    "random_state": set(),
    "registry": set(),
    "structures": set(),
    "palette": {"errors"},
    "paths": set(),
    "__init__": {"distributions"},
    "ops": BASE,
    "layers": BASE | {"ops"},
    "backbones": BASE | {"ops", "layers", "converters"},
    "necks": BASE | {"ops", "layers"},
    "losses": BASE | {"ops", "layers", "converters"},
    "heads": BASE | {"ops", "layers", "losses"},
    "models": BASE | {"ops", "layers", "backbones", "necks", "losses", "heads"},
    "converters": BASE,
    "datasets": BASE,
    "evaluation": BASE | {"datasets"},  # their readers of annotation files
    "visualization": BASE,
    "engine": BASE,
    "apis": BASE | {"ops", "layers", "backbones", "necks", "losses", "heads", "models", "converters", "datasets",
                    "evaluation", "visualization", "engine"},
}  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """First package below visionpatch of every import in the file, wherever it stands."""
    package = path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (stem, node.module or "")))
            names = [f"{base}.{alias.name}" if base == "visionpatch" else base for alias in node.names]
        parts |= {name.split(".")[1] if "." in name else name for name in names if name.split(".")[0] == "visionpatch"}
    return parts


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
    part = part_of(path)
    assert part in ALLOWED, f"visionpatch/{part} is no part of the house"
    upward = imported_parts(path) - ALLOWED[part] - {part}
    assert not upward, f"{path.relative_to(ROOT)} imports {sorted(upward)}"


def test_no_module_needs_a_forbidden_package():
    for path in [*FILES, *(ROOT / "tools").rglob("*.py"), *(ROOT / "demo").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"torchvision", "timm", "mmseg", "mmdet", "PIL"}, f"{path} imports {roots}"


def test_sizes_of_files_and_functions():
    over = []
    for path in [*FILES, *(ROOT / "tools").rglob("*.py"), *(ROOT / "demo").rglob("*.py")]:
        text = path.read_text()
        over += [f"{path.name}: {text.count(chr(10))} lines"] if text.count("\n") > 400 else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                over += [f"{path.name}: {node.name} has {lines} lines"] if lines > 60 else []
    assert not over
