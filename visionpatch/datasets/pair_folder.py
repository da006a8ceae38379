"""Pairs of pictures in folders: ``vis/NAME`` and ``ir/NAME``, below a root or below one folder for each scene."""

import hashlib
import os
from collections import OrderedDict

import cv2
import numpy as np

from visionpatch.errors import BadSampleError, DataError, nearest
from visionpatch.paths import data_path

from .paths import index_files, require_folder, suffix_counts
from .transforms.decode import decode_image, read_bytes

FOLDERS = dict(visible="vis", thermal="ir")


class PairFolder:
    """Where the two pictures of a pair lie. A pair is called ``SCENE/NAME``, or ``NAME`` where there are no scenes.

    The two files of a pair have the same name, up to the suffix, and their pictures the same size.

    Args:
        root: the folder that holds ``SCENE/vis`` and ``SCENE/ir``, or ``vis`` and ``ir``.

    Raises:
        DataError: no such folder.
    """

    def __init__(self, root: str) -> None:
        self.root = require_folder(data_path(root), "data_root")
        self._files: dict[str, dict[str, str]] = {}

    def path(self, image: str, spectrum: str) -> str:
        """The file of the pair `image` in the `spectrum` "visible" or "thermal".

        Raises:
            DataError: there is none; the message says whether its partner is there.
        """
        scene, _, name = image.rpartition("/")
        folder = os.path.join(self.root, scene, FOLDERS[spectrum])
        files = self._list(folder)
        if name not in files:
            other = FOLDERS["thermal" if spectrum == "visible" else "visible"]
            partner = self._list(os.path.join(self.root, scene, other)).get(name)
            known = f"; its partner {other}/{partner} is there" if partner else nearest(name, files)
            raise DataError(f"{folder}: no {spectrum} picture of the pair {image}{known}")
        return os.path.join(folder, files[name])

    def scenes(self) -> list[str]:
        """The folders below the root that hold both spectra; [""] where the root itself does.

        Raises:
            DataError: none.
        """
        names = ["", *sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())]
        found = [name for name in names if all(os.path.isdir(os.path.join(self.root, name, f)) for f in ("vis", "ir"))]
        if not found:
            raise DataError(
                f"{self.root}: expected the folders vis and ir, or folders that hold them; it holds "
                f"{suffix_counts(self.root)}"
            )
        return found

    def images(self, scene: str) -> list[str]:
        """All pairs of a scene, sorted.

        Raises:
            DataError: no pairs, or a picture without partner.
        """
        folders = [require_folder(os.path.join(self.root, scene, name), "pairs") for name in FOLDERS.values()]
        visible, thermal = (self._list(folder) for folder in folders)
        single = sorted(set(visible) ^ set(thermal))
        if single:
            has = [folder for folder, files in zip(folders, (visible, thermal)) if single[0] in files]
            raise DataError(
                f"{has[0]}: {len(single)} pictures have no partner in the other spectrum, first {single[0]}; the two "
                "files of a pair have the same name"
            )
        if not visible:
            raise DataError(f"{folders[0]}: no pictures; it holds {suffix_counts(folders[0])}")
        return [f"{scene}/{name}" if scene else name for name in sorted(visible)]

    def read(self, image: str) -> tuple[np.ndarray, np.ndarray]:
        """Both pictures of a pair, grey, (H, W) uint8 or uint16 each.

        Raises:
            BadSampleError: a file cannot be read, or the sizes differ.
        """
        paths = self.path(image, "visible"), self.path(image, "thermal")
        visible, thermal = read_grey(paths[0]), read_grey(paths[1])
        check_same_size(visible, thermal, *paths)
        return visible, thermal

    def _list(self, folder: str) -> dict[str, str]:
        if folder not in self._files:
            self._files[folder] = index_files(folder, None) if os.path.isdir(folder) else {}
        return self._files[folder]


class PictureCache:
    """Grey pictures that were read lately, up to a number of bytes; a file that changed is read again."""

    def __init__(self, megabytes: float) -> None:
        self.limit, self.used = megabytes * 2**20, 0
        self._kept: OrderedDict[str, tuple[tuple[int, int], np.ndarray]] = OrderedDict()

    def __getstate__(self) -> dict:
        return dict(limit=self.limit, used=0, _kept=OrderedDict())  # another process reads for itself

    def read(self, path: str) -> np.ndarray:
        """The picture as `read_grey` gives it; it must not be written to."""
        state = _state(path)
        kept = self._kept.pop(path, None)
        if kept is not None:
            self.used -= kept[1].nbytes
        image = kept[1] if kept is not None and kept[0] == state else read_grey(path)
        self._kept[path] = state, image
        self.used += image.nbytes
        while self.used > self.limit:
            self.used -= self._kept.popitem(last=False)[1][1].nbytes
        return image


def read_grey(path: str) -> np.ndarray:
    """A picture as (H, W) grey of its own depth, uint8 or uint16.

    Raises:
        BadSampleError: it cannot be read.
    """
    return cv2.cvtColor(decode_image(read_bytes(path), path), cv2.COLOR_BGR2GRAY)


def check_same_size(visible: np.ndarray, thermal: np.ndarray, visible_path: str, thermal_path: str) -> None:
    """Raise BadSampleError unless the pictures (H, W) of a pair have one size."""
    if visible.shape != thermal.shape:
        (h, w), (height, width) = visible.shape, thermal.shape
        raise BadSampleError(
            f"{visible_path}: {w}x{h}, but its thermal partner {thermal_path} is {width}x{height} (width x height); "
            "the pictures of a pair lie pixel on pixel: register and crop them to one size first"
        )


def sha1(path: str) -> str:
    """The SHA-1 of a file, in hexadecimal."""
    return hashlib.sha1(read_bytes(path), usedforsecurity=False).hexdigest()


def _state(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0  # reading it tells what is wrong
    return status.st_mtime_ns, status.st_size
