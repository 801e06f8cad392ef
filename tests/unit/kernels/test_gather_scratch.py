"""scatter_add and its relative at every length at which they change how they add up, against float64"""

import numpy as np
import pytest

from deepnotes import kernels
from deepnotes.kernels import launch
from deepnotes.kernels.gather import FEW


def scattered(rows, width, count, dtype, seed=0):
    "A launch, and what it must give: negative indices, repeated ones and rows that no index names are among them."
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(rows, width)).astype(dtype)
    source = rng.normal(size=(count, width)).astype(dtype)
    indices = rng.integers(-rows, max(1, rows // 2), count)
    expected = table.astype(np.float64)
    np.add.at(expected, indices, source.astype(np.float64))
    return table, source, indices, expected


@pytest.mark.parametrize("count", [1, FEW - 1, FEW, FEW + 1, 2 * FEW + 1, 100])
@pytest.mark.parametrize("width", [1, FEW - 1, FEW, 33])
@pytest.mark.parametrize("rows", [1, 2, FEW, 50])
def test_scatter_add_whichever_way_it_adds(rows, width, count):
    table, source, indices, expected = scattered(rows, width, count, np.float32)
    for _ in range(2):                  # a second launch meets what the first left in its scratch
        out = launch(kernels.scatter_add, table.copy(), source, indices, 0)
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-6 * np.abs(source).sum())


@pytest.mark.parametrize("count", [FEW, FEW + 1, 100])
@pytest.mark.parametrize("length", [1, FEW, 30, 1000])
def test_put_along_axis_add_whichever_way_it_adds(length, count):
    rng = np.random.default_rng(0)
    table, source = (rng.normal(size=(3, n)).astype(np.float32) for n in (length, count))
    indices = rng.integers(-length, max(1, length // 2), (3, count))
    expected = table.astype(np.float64)
    np.add.at(expected, (np.arange(3)[:, None], indices), source.astype(np.float64))
    for _ in range(2):
        out = launch(kernels.put_along_axis_add, table.copy(), source, indices, 1)
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-6 * np.abs(source).sum())


@pytest.mark.parametrize("count", [FEW, 40])
def test_a_wrong_index_is_refused_before_anything_is_added(count):
    for width in (2, 20):
        table, source, indices, _ = scattered(6, width, count, np.float32)
        indices[count - 1] = 6
        before = table.copy()
        with pytest.raises(IndexError, match="scatter_add: index 6 is out of range for an axis of length 6"):
            launch(kernels.scatter_add, table, source, indices, 0)
        np.testing.assert_array_equal(table, before)


def test_a_table_of_more_axes_is_scattered_as_rows():
    rng = np.random.default_rng(0)
    table, source = np.zeros((5, 2, 3), np.float32), rng.normal(size=(4, 3, 2, 3)).astype(np.float32)
    indices = rng.integers(0, 5, (4, 3))
    expected = np.zeros((5, 2, 3))
    np.add.at(expected, indices, source.astype(np.float64))
    np.testing.assert_allclose(launch(kernels.scatter_add, table, source, indices, 0), expected, rtol=0, atol=1e-5)
