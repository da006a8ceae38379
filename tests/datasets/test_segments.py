"""Run lengths and polygons to masks."""

import sys

import numpy as np
import pytest

from visionpatch.datasets.segments import check_segmentation, mask_of, run_lengths
from visionpatch.errors import DataError, MissingDependencyError


def test_run_lengths_go_down_the_columns():
    mask = mask_of(dict(size=[2, 3], counts=[1, 2, 3]), 2, 3)
    assert mask.tolist() == [[False, True, False], [True, False, False]]
    assert mask.dtype == bool


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 48)])
def test_compressed_runs_equal_pycocotools(shape):
    tools = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        expected = rng.random(shape) < share
        code = tools.encode(np.asfortranarray(expected.astype(np.uint8)))
        for counts in (code["counts"], code["counts"].decode()):
            assert np.array_equal(mask_of(dict(size=list(shape), counts=counts), *shape), expected)


def test_long_runs_equal_pycocotools():
    tools = pytest.importorskip("pycocotools.mask")
    expected = np.zeros((1500, 1200), bool)
    expected[3:1400, 1100:] = True
    code = tools.encode(np.asfortranarray(expected.astype(np.uint8)))
    assert np.array_equal(mask_of(dict(size=[1500, 1200], counts=code["counts"]), 1500, 1200), expected)


def test_polygons():
    square = [1, 1, 3, 1, 3, 4, 1, 4]
    mask = mask_of([square, [6, 6, 8, 6, 8, 8, 6, 8]], 10, 12)
    assert (mask.shape, mask.dtype, int(mask.sum())) == ((10, 12), bool, 10)
    assert mask[1:4, 1:3].all()


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        "x",
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, float("nan")]],
        dict(counts=[6]),
        dict(size=[3, 2], counts=[6]),
        dict(size=[2, 3]),
        dict(size=[2, 3], counts=[5]),
        dict(size=[2, 3], counts=[-1, 7]),
        dict(size=[2, 3], counts=[6.0]),
        dict(size=[2, 3], counts=[]),
        dict(size=[2, 3], counts=""),
        dict(size=[2, 3], counts="o"),
        dict(size=[2, 3], counts="ooooooooooooooooooooo0"),
        dict(size=[2, 3], counts="6é"),
    ],
)
def test_malformed(segmentation):
    assert check_segmentation(segmentation, 2, 3) is None
    with pytest.raises(DataError, match="malformed segmentation"):
        mask_of(segmentation, 2, 3)


def test_what_would_take_too_much_memory():
    with pytest.raises(DataError, match="an outline of"):
        mask_of([[0, 0, 100, 100] * 10**5], 100, 100)
    with pytest.raises(DataError, match="1 to 268435456"):
        mask_of(dict(size=[10**6, 10**6], counts=[10**12]), 10**6, 10**6)
    assert run_lengths([10**12], 10**12) == [10**12]


def test_without_pycocotools(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert mask_of(dict(size=[1, 2], counts=[1, 1]), 1, 2).tolist() == [[False, True]]
    with pytest.raises(MissingDependencyError, match="pip install pycocotools"):
        mask_of([[0, 0, 5, 0, 5, 5]], 6, 6)
