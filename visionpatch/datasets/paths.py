"""What lies in a folder."""

import os
from collections import Counter
from pathlib import Path

from visionpatch.errors import DataError, nearest

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2")


def require_folder(path: str, purpose: str) -> str:
    """`path`, if it is a folder; DataError otherwise."""
    if os.path.isdir(path):
        return path
    parent = Path(path).parent
    hint = ""
    if parent.is_dir():
        folders = [p.name for p in parent.iterdir() if p.is_dir()]
        hint = nearest(Path(path).name, folders) if folders else f"; {parent} has no folders"
    elif not os.path.isabs(path):
        known = os.environ.get("VISIONPATCH_DATA")
        hint = f"; it is relative to {os.getcwd()}, and VISIONPATCH_DATA is {known or 'not set'}"
    what = "is a file, not a folder" if os.path.exists(path) else "folder does not exist"
    raise DataError(f"{path}: {what} ({purpose}){hint}")


def index_files(folder: str, suffix: str | None) -> dict[str, str]:
    """Stem -> path, both relative to `folder` with forward slashes, of the files below it that end with `suffix`.

    ``None`` takes every common image suffix; two files of one stem are an error then.
    """
    endings = IMAGE_SUFFIXES if suffix is None else (suffix,)
    found: dict[str, str] = {}
    for name in _walk(folder):
        ending = next((e for e in endings if (name.lower() if suffix is None else name).endswith(e)), None)
        if ending is None or name.rpartition("/")[2].startswith("."):
            continue
        stem = name[: -len(ending)]
        if stem in found:
            raise DataError(f"{folder}: {found[stem]} and {name} have the same stem; set img_suffix and seg_map_suffix")
        found[stem] = name
    return found


def list_images(folder: str) -> list[str]:
    """The files below `folder` with a common image suffix, relative to it, sorted, without hidden ones."""
    return [name for name in _walk(folder) if name.lower().endswith(IMAGE_SUFFIXES) and not f"/{name}".count("/.")]


def suffix_counts(folder: str) -> str:
    """The suffixes of the files below `folder` with their counts, for messages."""
    counts = Counter(Path(name).suffix or "(no suffix)" for name in _walk(folder))
    return ", ".join(f"{n} {suffix}" for suffix, n in counts.most_common(5)) or "no files"


def _walk(folder: str) -> list[str]:
    """Files below `folder`, links followed, relative to it; a link to a folder it lies in is not followed again."""
    names: list[str] = []
    pending: list[tuple[str, tuple]] = [("", ())]
    while pending:
        prefix, chain = pending.pop()
        try:
            status = os.stat(f"{folder}/{prefix}")
            entries = list(os.scandir(f"{folder}/{prefix}"))
        except OSError as error:
            raise DataError(f"{folder}/{prefix}: folder cannot be read ({error.strerror})") from None
        own = (status.st_dev, status.st_ino)
        if own not in chain:
            folders = {entry.name for entry in entries if entry.is_dir()}
            names += [prefix + entry.name for entry in entries if entry.name not in folders]
            pending += [(f"{prefix}{name}/", (*chain, own)) for name in folders]
    return sorted(names)
