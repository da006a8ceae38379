"""Packages that overwrite each other's files are named at import."""

import os
import warnings

import pytest

from visionpatch.distributions import warn_of_overwritten


def install(folder, name, version, age):
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    os.utime(info / "METADATA", (age, age))


def test_two_of_a_family(tmp_path, monkeypatch):
    install(tmp_path, "onedl-mmcv", "9.3.6", 4e9)
    install(tmp_path, "mmcv", "9.2.0", 3e9)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(UserWarning, match=r"mmcv 9\.2\.0 .*and onedl-mmcv 9\.3\.6 .*those of onedl-mmcv 9\.3\.6"):
        warn_of_overwritten()


def test_one_of_a_family(tmp_path, monkeypatch):
    install(tmp_path, "mmengine", "0.10.7", 1e9)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_overwritten()
