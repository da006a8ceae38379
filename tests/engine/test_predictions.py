"""Prediction files come back as they went, and hold no code."""

from pathlib import Path

import numpy as np
import pytest

from visionpatch.engine.predictions import read_predictions, write_predictions
from visionpatch.errors import DataError


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    maps = [np.array([[0, 0, 1], [1, 1, 255]], dtype=np.uint8), np.array([[300, 2]], dtype=np.uint16)]
    records = [dict(img_path=f"a/{i} é.png", sem_seg=m) for i, m in enumerate(maps)]
    records.append(dict(img_path="c", label=np.array([4]), score=np.array([0.25, 0.75])))
    path = tmp_path / "deep" / f"p{suffix}"
    write_predictions(path, records)
    read = read_predictions(path)
    assert [r["img_path"] for r in read] == ["a/0 é.png", "a/1 é.png", "c"]
    for given, found in zip(maps, read, strict=False):
        assert np.array_equal(given, found["sem_seg"]) and given.dtype == found["sem_seg"].dtype
    assert read[2]["label"].tolist() == [4] and read[2]["score"].tolist() == [0.25, 0.75]


def test_run_lengths(tmp_path: Path) -> None:
    write_predictions(
        tmp_path / "p.json", [dict(img_path="x", sem_seg=np.array([[7, 7, 7], [7, 0, 0]], dtype=np.uint8))]
    )
    assert (tmp_path / "p.json").read_text() == (
        '[{"img_path": "x", "sem_seg": {"shape": [2, 3], "runs": [[7, 4], [0, 2]]}}]'
    )


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", img_path=np.array([object()], dtype=object))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "text.json").write_text('{"a": 1}')
    for name in ("evil.npz", "text.npz", "text.json"):
        with pytest.raises(DataError, match=rf"{name}: not a prediction file"):
            read_predictions(tmp_path / name)
    with pytest.raises(DataError, match="no such prediction file"):
        read_predictions(tmp_path / "none.npz")
