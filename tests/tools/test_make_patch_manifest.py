"""Manifests of patch pairs from the command line."""

import pytest
from tool import run

from visionpatch.datasets import read_manifest

TOOL = "tools/dataset_converters/make_patch_manifest.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn")
    assert run(TOOL, root, root / "lists", "--synthetic", 9, "--max-patches", 8) == 0
    return root


def images(path):
    return {pair.image for pair in read_manifest(str(path))}


def test_a_split_by_groups(root):
    """A quarter of nine images for testing; one in ten of seven groups, and so many that they hold two images."""
    parts = [images(root / f"lists/{name}.csv") for name in ("train", "val", "test")]
    assert [len(part) for part in parts] == [5, 2, 2] and len(set().union(*parts)) == 9


def test_scenes_kept_out_of_training(root, tmp_path):
    assert run(TOOL, root, tmp_path, "--test-only", "synthetic") == 2  # nothing is left to train on
    (tmp_path / "more").symlink_to(root / "synthetic", target_is_directory=True)
    (tmp_path / "synthetic").symlink_to(root / "synthetic", target_is_directory=True)
    assert run(TOOL, tmp_path, tmp_path / "lists", "--test-only", "more", "--max-patches", 4) == 0
    assert len(images(tmp_path / "lists/more_test.csv")) == 9
    assert all(name.startswith("synthetic") for name in images(tmp_path / "lists/train.csv"))


def test_given_lists(root, tmp_path, capsys):
    names = [f"synthetic/scene_{100 * number:06d}" for number in range(9)]
    (root / "splits").mkdir()
    (root / "splits/drawn_train.txt").write_text("\n".join(names[:6]) + "\n")
    (root / "splits/drawn_test.txt").write_text("\n".join(names[6:]) + "\n")
    arguments = (root, tmp_path, "--splits", "splits", "--max-patches", 8)
    assert run(TOOL, *arguments, "--val-share", 0.34) == 0
    shown = capsys.readouterr()
    assert "drawn_test.csv: 3 images, pairs: R 48, S 48, H 48" in shown.out and "warning" not in shown.err
    made = {path.stem: images(path) for path in tmp_path.glob("*.csv")}
    assert made["drawn_test"] == set(names[6:]) and made["drawn_train"] | made["drawn_val"] == set(names[:6])
    assert len(made["drawn_val"]) == 2
    assert run(TOOL, *arguments, "--val-share", 0, "--gap", 100) == 0  # all frames are one group now
    assert "are one group, and in drawn_test and drawn_train" in capsys.readouterr().err


def test_errors(root, tmp_path, capsys):
    for arguments, message in (
        ((tmp_path, tmp_path / "out"), "expected the folders vis and ir"),
        ((root, tmp_path, "--test-only", "synthetik"), 'did you mean "synthetic"'),
        ((root, tmp_path, "--splits", "nowhere.txt"), "nowhere.txt exists"),
        ((root, tmp_path, "--val-share", 1), "--val-share is a share"),
        ((root, tmp_path, "--max-patches", 1), "--max-patches is 2 or more"),
    ):
        assert run(TOOL, *arguments) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "empty.txt").touch()
    assert run(TOOL, root, tmp_path, "--splits", tmp_path / "empty.txt") == 2
    assert "the list names no image" in capsys.readouterr().err
