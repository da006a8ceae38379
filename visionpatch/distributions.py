"""Warns of installed packages that overwrite each other's files.

mmcv, mmcv-lite and onedl-mmcv install the same folder, as do mmengine and onedl-mmengine; pip installs one over the
other without a word, and removing either removes the files of both.
"""

import warnings
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

FAMILIES = (("mmcv", "mmcv-lite", "onedl-mmcv"), ("mmengine", "onedl-mmengine"))


def warn_of_overwritten() -> None:
    """One `UserWarning` a family of which more than one member is installed."""
    for family in FAMILIES:
        present = [found for name in family if (found := _find(name)) is not None]
        if len(present) > 1:
            last = max(present, key=_written)
            names = " and ".join(f"{d.metadata['Name']} {d.version}" for d in present)
            others = " ".join(d.metadata["Name"] for d in present)
            warnings.warn(
                f"{names} install the same folder {family[0]}/; the files there are those of {last.metadata['Name']} "
                f"{last.version}, installed last. Keep one: pip uninstall {others}, then install the one you want",
                stacklevel=2,
            )


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _written(found: Distribution) -> float:
    """When the package was installed, seconds since the epoch; 0 where its files do not say."""
    folder = f"{found.metadata['Name'].replace('-', '_')}-{found.version}.dist-info"
    path = Path(str(found.locate_file(folder))) / "METADATA"
    return path.stat().st_mtime if path.is_file() else 0.0
