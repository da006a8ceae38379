"""Compare our models with stored outputs of the published implementations.

    python tools/check_golden.py CASE_DIR [CASE_DIR ...]

A case is a folder with `case.json` (published class, constructor arguments, tensor names and shapes, inputs) and
`output.npz`; a folder of cases stands for all of them. One line a case; exit status 1 if any fails or is of no known
class.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from golden import crossformer, detection, detectors, few_shot, heads, metrics, movq, ops, sag_vit, sccan
from golden.rule import draw, fill

BAR = 1e-4
BARS = {"prior": 1e-3}  # of single outputs; the prior mask is stretched to 0..1, which amplifies rounding
PARTS = (crossformer, heads, detection, detectors, metrics, ops, few_shot, sccan, sag_vit, movq)
ADAPTERS: dict[str, Callable] = {name: adapter for part in PARTS for name, adapter in part.ADAPTERS.items()}


def check_case(folder: Path) -> dict[str, float]:
    """max|ours - reference| / max|reference| of every output of the case in `folder`; 0 or inf for integer outputs.

    Raises:
        LookupError: no adapter knows the published class.
    """
    case = json.loads((folder / "case.json").read_text())
    with np.load(folder / "output.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    ours = find_adapter(case)(case, arrays, fill(case.get("state", {})), draw)
    errors = {}
    for name, text in described_outputs(case, arrays).items():
        if name == "expected":
            errors[name] = nested_error(ours.get(name), case[name])
        elif not text.startswith("INPUT"):
            if name.startswith("mask") and arrays[name].dtype.kind in "iu":
                errors[name] = masks_error(ours.get(name), arrays[name], text)
            else:
                spread = arrays.get(f"{name[:-4]}std", 0.0) if name.endswith("mean") else 0.0  # a mean may be 0
                errors[name] = relative_error(ours.get(name), arrays[name], text, float(spread))
    return errors


def described_outputs(case: dict, arrays: Iterable[str]) -> dict[str, str]:
    """Output names and descriptions; "*" and "<word>" in a described name stand for any part of stored names, "x_i" and
    "x_0..x_7" for any number; names may be joined by commas.

    A case with ``expected`` values holds these, and every array that is no input.
    """
    if "expected" in case:
        return {name: "" for name in arrays if name not in case["inputs"]} | {"expected": "values in the case"}
    found, plain = {}, {}
    for described, text in case["outputs"].items():
        for name in re.split(r",\s*", described):
            numbered = name if name in arrays else re.sub(r"(?<=_)i$|(?<=_)\d+\.\.\w+_\d+$", "#", name)
            parts = re.split(r"(\*|<\w+>|#)", numbered)
            if len(parts) == 1:
                plain[name] = text
                continue
            pattern = "".join(r"\d+" if p == "#" else ".+" if i % 2 else re.escape(p) for i, p in enumerate(parts))
            matched = (key for key in arrays if re.fullmatch(pattern, key) and key not in case["inputs"])
            found |= dict.fromkeys(matched, text)
    return found | plain


def find_adapter(case: dict) -> Callable:
    """The adapter of the published class named in the case's source, or of a `type` in its arguments."""
    words = re.findall(r"\w+", case["source"].rpartition("class ")[2])
    whole = [case["model"]["type"]] if "type" in case["model"] else []
    types = [] if whole else re.findall(r'"type": "(\w+)"', json.dumps(case["model"]))
    for word in (*whole, *reversed(words), *types):
        if word in ADAPTERS:
            return ADAPTERS[word]
    named = f", {whole[0]}" if whole else ""
    raise LookupError(f"no adapter for the source: {case['source']}{named}")


def relative_error(ours: torch.Tensor | None, reference: np.ndarray, text: str, scale: float = 0.0) -> float:
    """The error of one output against its stored, possibly thinned, reference; inf where shapes or integers differ.

    Relative to the largest reference value, or to `scale` where that is larger.
    """
    if ours is None:
        return float("inf")
    array = thin(ours.detach().cpu().numpy(), text, reference.shape)
    if array.size == reference.size == 0:
        return 0.0
    if array.shape != reference.shape:
        return float("inf")
    if reference.dtype.kind in "iub":
        return 0.0 if np.array_equal(array, reference) else float("inf")
    difference = np.abs(array.astype(np.float64) - reference).max(initial=0.0)
    scale = max(np.abs(reference).max(initial=0.0), scale, 1e-30)
    return float(difference / scale) if np.isfinite(array).all() else float("inf")


def nested_error(ours: Any, reference: Any) -> float:
    """The largest relative error of the numbers in nested lists and mappings; inf where anything else differs."""
    if isinstance(reference, Mapping):
        if not isinstance(ours, Mapping) or not set(reference) <= set(ours):
            return float("inf")
        return max((nested_error(ours[key], value) for key, value in reference.items()), default=0.0)
    if isinstance(ours, torch.Tensor | np.ndarray):
        ours = ours.tolist()
    if isinstance(reference, list):
        if not isinstance(ours, list) or len(ours) != len(reference):
            return float("inf")
        return max((nested_error(*pair) for pair in zip(ours, reference)), default=0.0)
    if isinstance(reference, float) and isinstance(ours, int | float):
        error = abs(ours - reference) / max(abs(reference), 1e-30)
        return error if error < float("inf") else float("inf")  # not nan
    return 0.0 if ours == reference else float("inf")


def masks_error(ours: torch.Tensor | None, reference: np.ndarray, text: str) -> float:
    """0 where each binary mask, packed or its area (n,), differs in at most 2 pixels and 0.1 % of its area; else inf.

    A pixel whose probability is the threshold but for rounding falls on either side.
    """
    if ours is None:
        return float("inf")
    array = ours.detach().cpu().numpy()
    if array.size == reference.size == 0:
        return 0.0
    if array.shape != reference.shape:
        return float("inf")
    if reference.ndim == 1:
        area, different = reference, np.abs(array.astype(np.int64) - reference)
    else:
        bits, expected = np.unpackbits(array, axis=1), np.unpackbits(reference, axis=1)
        area, different = expected.sum(1), (bits != expected).sum(1)
    return 0.0 if (different <= 2 + area / 1000).all() else float("inf")


def thin(array: np.ndarray, text: str, shape: tuple[int, ...]) -> np.ndarray:
    """The part of `array` that the output's description says is stored, e.g. "(full[:, ::4])"."""
    if array.shape == shape:
        return array
    if array.size == np.prod(shape, dtype=int):
        return array.reshape(shape)
    flat = re.search(r"flattened[^\[]*\[::(\d+)\]", text)
    if flat:
        return array.reshape(-1)[:: int(flat[1])]
    view = re.search(r"(?:full|stored|subsampled)\s*\[([\d:,\s]+)\]", text)
    if view:
        return array[tuple(_slice(part) for part in view[1].split(","))]
    return array


def _slice(text: str) -> slice | int:
    parts = [int(part) if part.strip() else None for part in text.split(":")]
    return parts[0] if len(parts) == 1 and parts[0] is not None else slice(*parts)


def case_folders(paths: list[Path]) -> Iterator[Path]:
    """Each path that is a case, and all cases below each that is not."""
    for path in paths:
        found = [path] if (path / "case.json").is_file() else sorted(p.parent for p in path.rglob("case.json"))
        if not found:
            raise SystemExit(f"{path}: no case.json here or below")
        yield from found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case_dir", nargs="+", type=Path)
    failed = 0
    for folder in case_folders(parser.parse_args().case_dir):
        try:
            errors = check_case(folder)
        except Exception as error:  # one broken case must not hide the others
            print(f"{folder.name}  {type(error).__name__}: {error}  FAIL")
            failed += 1
            continue
        worst = max(errors, key=lambda name: errors[name] / BARS.get(name, BAR))
        ok = errors[worst] <= BARS.get(worst, BAR)
        failed += not ok
        print(f"{folder.name}  max_rel_err={errors[worst]:.2e}  " + ("ok" if ok else f"FAIL ({worst})"))
    return int(failed > 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
