"""The matrix product by numpy's BLAS, for every way in which a matrix can lie in memory."""

import itertools

import numpy as np
import pytest

from deepnotes import kernels
from deepnotes.compiler import blas
from deepnotes.kernels import launch

LAYOUTS = {
    "rows": lambda a: np.ascontiguousarray(a),
    "columns": lambda a: np.asfortranarray(a),
    "rows of more": lambda a: np.pad(a, ((0, 0), (1, 3)))[:, 1 : a.shape[1] + 1],
    "columns of more": lambda a: np.pad(a.T, ((0, 0), (2, 3)))[:, 2 : a.shape[0] + 2].T,
    "every other": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "backwards": lambda a: np.ascontiguousarray(a[::-1])[::-1],
}
SHAPES = [(1, 1, 1), (1, 5, 7), (5, 1, 7), (5, 7, 1), (1, 5, 1), (1, 1, 5), (5, 1, 1), (8, 9, 10), (50, 3, 77)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_of_all_layouts(shape, dtype):
    m, n, k = shape
    rng = np.random.default_rng(m + 10 * n + 100 * k)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = 2 * k * np.finfo(dtype).eps * (np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)))
    for left, right in itertools.product(LAYOUTS.values(), repeat=2):
        out = np.full((m, n), np.nan, dtype)
        launch(kernels.matmul, out, left(a), right(b))
        assert (np.abs(out - exact) <= bound).all()


def test_a_part_of_a_larger_output_is_written_and_nothing_else():
    out = np.full((6, 8), 7.0)
    launch(kernels.matmul, out[1:3, 2:5], np.ones((2, 4)), np.ones((4, 3)))
    expected = np.full((6, 8), 7.0)
    expected[1:3, 2:5] = 4
    np.testing.assert_array_equal(out, expected)


def test_shapes_that_do_not_fit_and_read_only_outputs_are_refused():
    with pytest.raises(ValueError):
        launch(kernels.matmul, np.empty((2, 3)), np.ones((2, 4)), np.ones((5, 3)))
    with pytest.raises(ValueError):
        launch(kernels.matmul, np.empty((2, 2)), np.ones((2, 4)), np.ones((4, 3)))
    frozen = np.zeros((2, 3))
    frozen.flags.writeable = False
    with pytest.raises(ValueError):
        launch(kernels.matmul, frozen, np.ones((2, 4)), np.ones((4, 3)))
    np.testing.assert_array_equal(frozen, 0)


def test_empty_products_are_zero():
    np.testing.assert_array_equal(launch(kernels.matmul, np.ones((2, 3)), np.ones((2, 0)), np.ones((0, 3))), 0)


def test_without_numpys_blas_numpy_computes(monkeypatch):
    if not kernels.can_compile():
        return
    monkeypatch.setattr(blas, "_numpys_blas", lambda: None)
    assert blas.matmul_loop(kernels.matmul) is kernels.matmul.reference


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("width", [32, 64])
def test_the_way_to_a_blas_of_either_width_is_valid_code(size, width):
    from llvmlite import binding
    text = blas.product_text(size, width)
    binding.parse_assembly(text).verify()
    (real,) = {"float", "double"} & set(text.split())
    assert real == {4: "float", 8: "double"}[size]
    assert ("trunc i64" in text) == (width == 32)
