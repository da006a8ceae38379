"""Lists of patch pairs: the manifests of this toolbox, and the lists of the VIS-NIR and the VIS-LWIR patch set."""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from visionpatch.errors import DataError, nearest

from .pair_folder import PairFolder, sha1


class PatchPair(NamedTuple):
    """One line of a manifest: a visible patch around (vx, vy) of `image`, a thermal one around (tx, ty) of `image2`.

    A patch of 64 pixels has the rows y - 32 ... y + 31 and the columns x - 32 ... x + 31, counted from 0. `label` is 1
    where both show the same place. `set` names the test set: "R" (random), "S" (same image), "H" (hard), or "train".
    """

    set: str
    image: str
    vx: int
    vy: int
    image2: str
    tx: int
    ty: int
    label: int


COLUMNS = PatchPair._fields
VIS_NIR = ("rgb", "nir", "rgb_x", "rgb_y", "nir_x", "nir_y", "type")


def read_manifest(path: str) -> list[PatchPair]:
    """The lines of a manifest.

    Raises:
        DataError: it cannot be read, is empty, lacks a column, or a line is wrong; the message names the line.
    """
    pairs = []
    for where, cells in _read_cells(path, COLUMNS):
        vx, vy, tx, ty = (_number(cells[name], name, where) for name in ("vx", "vy", "tx", "ty"))
        label = _label(cells["label"], where)
        pairs.append(PatchPair(cells["set"], cells["image"], vx, vy, cells["image2"], tx, ty, label))
    return pairs


def write_manifest(path: str, pairs: Iterable[PatchPair], folder: PairFolder) -> None:
    """Write a manifest, and beside it ``NAME.sha1`` with the SHA-1 of its pictures, as the command sha1sum does.

    ``sha1sum -c NAME.sha1`` in the root of the pictures checks them.
    """
    pairs = list(pairs)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(pairs)
    with open(sums_of(path), "w", encoding="utf-8", newline="\n") as file:
        for name in sorted(pictures_of(pairs, folder)):
            file.write(f"{sha1(name)}  {os.path.relpath(name, folder.root).replace(os.sep, '/')}\n")


def sums_of(path: str) -> str:
    """The file with the SHA-1 sums beside a manifest."""
    return os.path.splitext(path)[0] + ".sha1"


def pictures_of(pairs: Iterable[PatchPair], folder: PairFolder) -> set[str]:
    """The files of both spectra that a manifest is about."""
    images = {pair.image for pair in pairs} | {pair.image2 for pair in pairs}
    return {folder.path(image, spectrum) for image in images for spectrum in ("visible", "thermal")}


def check_sums(path: str, folder: PairFolder) -> None:
    """Compare the pictures with the SHA-1 sums beside a manifest; nothing happens where there are none.

    Raises:
        DataError: pictures are missing or others than those the manifest was made of.
    """
    sums = sums_of(path)
    if not os.path.isfile(sums):
        return
    with open(sums, encoding="utf-8") as file:
        listed = [line.rstrip("\n").partition("  ")[::2] for line in file if line.strip()]
    other = [
        name
        for digest, name in listed
        if not os.path.isfile(os.path.join(folder.root, name)) or sha1(os.path.join(folder.root, name)) != digest
    ]
    if other:
        raise DataError(
            f"{path}: {len(other)} of {len(listed)} pictures in {folder.root} are missing or differ from those the "
            f"manifest was made of, first {other[0]}; take the same data, or make the manifest anew with "
            "tools/dataset_converters/make_patch_manifest.py"
        )


def check_both_labels(path: str, pairs: Sequence[PatchPair], sets: Iterable[str]) -> None:
    """Raise DataError unless each of the `sets` has pairs of both labels."""
    counts = Counter((pair.set, pair.label) for pair in pairs)
    for name in sets:
        if not (counts[name, 0] and counts[name, 1]):
            raise DataError(
                f"{path}: set {name} has {counts[name, 1]} matching and {counts[name, 0]} other pairs; "
                "testing needs both"
            )


def read_vis_nir(path: str) -> list[PatchPair]:
    """The pairs of one scene of the VIS-NIR patches (Aguilera et al. 2016); images are file names.

    Columns rgb, nir, rgb_x, rgb_y, nir_x, nir_y, type ("positive" or "negative", 1 or 0). Their coordinates count from
    1, and the patch has the rows y - 31 ... y + 32 there: the pixels of a `PatchPair` with the same numbers.

    Raises:
        DataError: as `read_manifest`.
    """
    scene = os.path.splitext(os.path.basename(path))[0]
    pairs = []
    for where, cells in _read_cells(path, VIS_NIR):
        x, y, x2, y2 = (_number(cells[name], name, where) for name in VIS_NIR[2:6])
        label = _label({"positive": "1", "negative": "0"}.get(cells["type"].lower(), cells["type"]), where)
        pairs.append(PatchPair(scene, cells["rgb"], x, y, cells["nir"], x2, y2, label))
    return pairs


def read_vis_lwir(path: str) -> list[tuple[str, str, str, int]]:
    """The lines ``image, LWIR index, visible index, label`` of the VIS-LWIR patch set (Yu et al.): four cells each.

    Raises:
        DataError: as `read_manifest`.
    """
    lines = []
    for number, cells in enumerate(_rows(path), 1):
        where = f"{path}, line {number}"
        if len(cells) != 4 or not all(cells):
            raise DataError(f"{where}: expected image, LWIR index, visible index, label, not {cells}")
        lines.append((cells[0], cells[1], cells[2], _label(cells[3], where)))
    if not lines:
        raise DataError(f"{path}: the list of pairs is empty")
    return lines


def _read_cells(path: str, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """(place, cells by column) of each line."""
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path}: the file is empty; expected a first line {','.join(columns)}")
    missing = [name for name in columns if name not in rows[0]]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; the first line names {', '.join(rows[0])}")
    found = []
    for number, cells in enumerate(rows[1:], 2):
        if len(cells) != len(rows[0]):
            raise DataError(f"{path}, line {number}: {len(cells)} cells, but there are {len(rows[0])} columns: {cells}")
        found.append((f"{path}, line {number}", dict(zip(rows[0], cells))))
    if not found:
        raise DataError(f"{path}: the manifest is empty: it has a first line and no pairs")
    return found


def _rows(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return [[cell.strip() for cell in cells] for cells in csv.reader(file) if any(cells)]
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        names = [name for name in os.listdir(folder) if not name.startswith(".")] if os.path.isdir(folder) else []
        hint = nearest(os.path.basename(path), names)
        raise DataError(
            f"{path}: no such list of pairs{hint}; tools/dataset_converters/make_patch_manifest.py makes manifests"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: the list of pairs cannot be read: {error}") from None


def _number(text: str, name: str, where: str) -> int:
    if not text.isdecimal():
        raise DataError(f'{where}: {name} is a pixel counted from 0, not "{text}"')
    return int(text)


def _label(text: str, where: str) -> int:
    if text not in ("0", "1"):
        raise DataError(f'{where}: label is 1 (same place) or 0 (another place), not "{text}"')
    return int(text)
