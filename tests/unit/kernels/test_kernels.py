"""Kernels: both backends agree, launches are recorded, arguments are checked."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepnotes import kernels as k

FLOATS = [np.float32, np.float64]
few = settings(deadline=None, max_examples=40)       # the first example of a kernel compiles it

UNARY = ["exp", "log", "log1p", "expm1", "tanh", "sigmoid", "erf", "erfinv", "sin", "cos", "sqrt", "square", "absolute",
         "sign", "floor", "ceil", "round", "reciprocal", "negative"]
BINARY = ["add", "subtract", "multiply", "divide", "maximum", "minimum", "power"]
COMPARE = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
PREDICATES = ["isnan", "isinf", "isfinite"]


def both(kernel, shape, dtype, *operands, out=None):
    "The results of a launch on both backends, and the compiled one's output array itself is what launch returns."
    results = []
    for name in k.BACKENDS:
        target = np.empty(shape, dtype) if out is None else out.copy(order="K")
        with k.backend(name):
            assert k.launch(kernel, target, *operands) is target
        results.append(target)
    return results


def agree(compiled, reference, ulps=16):
    "Equal up to a few units in the last place, NaNs and infinities in the same places."
    eps = np.finfo(reference.dtype).eps
    tiny = np.finfo(reference.dtype).smallest_normal
    np.testing.assert_allclose(compiled, reference, rtol=ulps * eps, atol=ulps * tiny)


@st.composite
def laid_out(draw, dtype, shape, elements=None):
    "An array of the given shape in one of many layouts: C, Fortran, strided, reversed, broadcast."
    x = draw(hnp.arrays(dtype, shape, elements=st.floats(-8, 8, width=32) if elements is None else elements))
    layout = draw(st.sampled_from(["C", "F", "strided", "reversed", "broadcast"]))
    if layout == "F":
        return x.copy(order="F")
    if layout == "strided" and x.ndim:
        wide = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "reversed" and x.ndim:
        return x[::-1]
    if layout == "broadcast" and x.ndim:
        return np.broadcast_to(x[:1], shape)
    return x


shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@few
@given(st.data(), shapes, st.sampled_from(FLOATS), st.sampled_from(UNARY))
def test_unary_kernels_agree_in_every_layout(data, shape, dtype, name):
    x = data.draw(laid_out(dtype, shape))
    agree(*both(getattr(k, name), shape, dtype, x))


@few
@given(st.data(), hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=4, min_side=0, max_side=4),
       st.sampled_from(FLOATS), st.sampled_from(BINARY))
def test_binary_kernels_broadcast_as_numpy(data, shapes, dtype, name):
    x, y = (data.draw(laid_out(dtype, s)) for s in shapes.input_shapes)
    compiled, reference = both(getattr(k, name), shapes.result_shape, dtype, x, y)
    agree(compiled, reference)
    with np.errstate(all="ignore"):
        agree(compiled, getattr(np, name)(x, y).astype(dtype))


@few
@given(st.data(), hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=3, max_side=4),
       st.sampled_from(FLOATS), st.sampled_from(COMPARE))
def test_comparisons_write_booleans(data, shapes, dtype, name):
    few = st.sampled_from([0.0, 1.0, float("nan"), float("inf")])
    x, y = (data.draw(laid_out(dtype, s, few)) for s in shapes.input_shapes)
    compiled, reference = both(getattr(k, name), shapes.result_shape, bool, x, y)
    np.testing.assert_array_equal(compiled, reference)
    np.testing.assert_array_equal(compiled, getattr(np, name)(x, y))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", PREDICATES)
def test_predicates(name, dtype):
    x = np.array([0, -1, np.nan, np.inf, -np.inf], dtype)
    for result in both(getattr(k, name), (5,), bool, x):
        np.testing.assert_array_equal(result, getattr(np, name)(x))


@pytest.mark.parametrize("dtype", FLOATS)
def test_maximum_and_minimum_let_nan_through(dtype):
    x, y = np.array([np.nan, 1, np.nan, 2], dtype), np.array([1, np.nan, np.nan, 3], dtype)
    for name in ("maximum", "minimum"):
        for result in both(getattr(k, name), (4,), dtype, x, y):
            np.testing.assert_array_equal(result, getattr(np, name)(x, y))
    for result in both(k.clip, (4,), dtype, x, -1.0, 1.5):
        np.testing.assert_array_equal(result, np.clip(x, -1, 1.5))


@few
@given(st.data(), st.sampled_from(FLOATS))
def test_where_takes_boolean_conditions_and_broadcasts(data, dtype):
    c = data.draw(hnp.arrays(bool, (3, 4)))
    x, y = data.draw(laid_out(dtype, (3, 4))), data.draw(laid_out(dtype, (4,)))
    for result in both(k.where, (3, 4), dtype, c, x, y):
        np.testing.assert_array_equal(result, np.where(c, x, y))


def test_copy_broadcasts_and_casts():
    for result in both(k.copy, (2, 3), np.float32, np.arange(3)):
        np.testing.assert_array_equal(result, [[0, 1, 2], [0, 1, 2]])


def gelu_slope(x, y):
    return 0.5 * (1 + k.erf(x / 2**0.5)) + x * k.exp(-(x**2) / 2) * 0.3989422804014327


@pytest.mark.parametrize("dtype", FLOATS)
def test_pullback_is_gradient_times_derivative(dtype):
    rng = np.random.default_rng(0)
    g, x, y = rng.standard_normal((3, 4, 50)).astype(dtype)
    expected = g * gelu_slope(x.astype(float), y.astype(float))
    for result in both(k.pullback(gelu_slope, 1), (4, 50), dtype, g, x, y):
        np.testing.assert_allclose(result, expected, rtol=32 * np.finfo(dtype).eps, atol=32 * np.finfo(dtype).eps)


SCALE = 3.0


def helper(x):
    return x * SCALE + 1


def test_formulas_may_use_helpers_constants_closures_and_integers():
    shift = 0.1
    kernel = k.elementwise(lambda x, y: k.where(x > y, helper(x) ** 2, k.maximum(x, 0) - shift), "made_up")
    x, y = np.random.default_rng(1).standard_normal((2, 7, 9)).astype(np.float32)
    compiled, reference = both(kernel, (7, 9), np.float32, x, y)
    agree(compiled, reference)
    assert "made_up" in repr(kernel) and "helper(x)" in kernel.source


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("operands", ["row", "column", "middle", "scalar", "array scalar", "one element", "itself"])
def test_operand_patterns(dtype, operands):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((5, 6, 7)).astype(dtype)
    y = {"row": x[0, 0], "column": x[:, :1, :1], "middle": x[:1, :, :1], "scalar": 2.5, "array scalar": dtype(2.5),
         "one element": x[:1, :1, :1], "itself": None}[operands]
    out = x.copy()
    y = out if y is None else y
    expected = x * y if y is not out else x * x
    for result in both(k.multiply, x.shape, dtype, x, y if y is not out else x):
        np.testing.assert_array_equal(result, expected)
    for name in k.BACKENDS:                                      # in place
        out = x.copy()
        with k.backend(name):
            k.launch(k.multiply, out, out, out if operands == "itself" else y)
        np.testing.assert_array_equal(out, expected)


def test_outputs_may_be_strided():
    x = np.random.default_rng(3).standard_normal((4, 5)).astype(np.float32)
    for name in k.BACKENDS:
        out = np.zeros((5, 8), np.float32)
        with k.backend(name):
            k.launch(k.exp, out[:, ::2].T, x)
            k.launch(k.softmax, out[:, 1::2].T, x, -1)
        np.testing.assert_allclose(out[:, ::2].T, np.exp(x), rtol=1e-6)
        np.testing.assert_allclose(out[:, 1::2].T.sum(-1), 1, rtol=1e-6)


def test_an_output_of_the_wrong_shape_is_refused():
    for name in k.BACKENDS:
        with k.backend(name), pytest.raises(ValueError):
            k.launch(k.tanh, np.empty((2, 3)), np.ones((4, 2, 3)))
        with k.backend(name), pytest.raises(ValueError):
            k.launch(k.tanh, np.empty((2, 3)), np.ones((2, 4)))


def test_a_read_only_output_is_refused():
    out = np.zeros(3)
    out.flags.writeable = False
    for name in k.BACKENDS:
        with k.backend(name), pytest.raises(ValueError, match="read-only"):
            k.launch(k.tanh, out, np.ones(3))
    assert not out.any()


def test_swapped_bytes_and_unaligned_memory():
    x = np.arange(1, 5, dtype=">f4")
    odd = np.frombuffer(b"\0" + np.arange(1, 5, dtype=np.float32).tobytes(), np.uint8)[1:].view(np.float32)
    for operand in (x, odd):
        for result in both(k.log, (4,), np.float32, operand):
            np.testing.assert_allclose(result, np.log([1, 2, 3, 4]), rtol=1e-6)


# Reductions, rows

def axes_of(ndim):
    some = st.lists(st.integers(0, max(ndim - 1, 0)), unique=True, max_size=ndim).map(tuple)
    return st.one_of(st.none(), some)


@few
@given(st.data(), hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=5), st.sampled_from(FLOATS),
       st.sampled_from(["sum", "prod", "max", "min"]), st.booleans())
def test_reductions_over_any_axes(data, shape, dtype, name, keepdims):
    near_one = st.floats(0.875, 1.125, width=32)    # 625 such numbers have a product that float32 can hold
    x = data.draw(laid_out(dtype, shape, near_one if name == "prod" else None))
    axes = data.draw(axes_of(len(shape)))
    expected = getattr(np, name)(x.astype(float), axis=axes, keepdims=keepdims)
    scale = np.abs(x).sum() if name == "sum" else 0
    for result in both(getattr(k, name), np.shape(expected), dtype, x, axes):
        np.testing.assert_allclose(result, expected.astype(dtype), rtol=64 * np.finfo(dtype).eps,
                                   atol=8 * np.finfo(dtype).eps * scale)


def test_reductions_of_nothing():
    for result in both(k.sum, (3,), np.float32, np.empty((3, 0), np.float32), 1):
        np.testing.assert_array_equal(result, 0)
    for result in both(k.logsumexp, (3,), np.float32, np.empty((3, 0), np.float32), 1):
        np.testing.assert_array_equal(result, -np.inf)


def test_long_sums_are_accurate():
    x = np.full(3_000_001, 0.1, np.float32)
    for result in both(k.sum, (), np.float32, x):
        assert abs(float(result) - 3_000_001 * float(np.float32(0.1))) < 1e-5 * 300_000


@few
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), st.sampled_from(FLOATS))
def test_sum_to_is_the_transpose_of_broadcasting(data, shape, dtype):
    x = data.draw(laid_out(dtype, shape))
    small = tuple(1 if data.draw(st.booleans()) else n for n in shape)[data.draw(st.integers(0, len(shape))):]
    lead = len(shape) - len(small)
    axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(small) if n == 1)
    expected = x.astype(float).sum(axis=axes).reshape(small)
    for result in both(k.sum_to, small, dtype, x):
        np.testing.assert_allclose(result, expected, rtol=64 * np.finfo(dtype).eps,
                                   atol=8 * np.finfo(dtype).eps * np.abs(x).sum())


@few
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=11), st.sampled_from(FLOATS))
def test_softmax_family_over_any_axis(data, shape, dtype):
    special = pytest.importorskip("scipy.special")
    x, g = data.draw(laid_out(dtype, shape)), data.draw(laid_out(dtype, shape))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    eps = np.finfo(dtype).eps
    exact = x.astype(float)
    p, lp = special.softmax(exact, axis), special.log_softmax(exact, axis)
    for result in both(k.softmax, shape, dtype, x, axis):
        np.testing.assert_allclose(result, p, rtol=64 * eps)
    for result in both(k.log_softmax, shape, dtype, x, axis):
        np.testing.assert_allclose(result, lp, rtol=64 * eps, atol=64 * eps)
    for result in both(k.logsumexp, p.sum(axis).shape, dtype, x, axis):
        np.testing.assert_allclose(result, special.logsumexp(exact, axis), rtol=64 * eps, atol=64 * eps)
    y, ly = p.astype(dtype), lp.astype(dtype)
    for result in both(k.softmax_backward, shape, dtype, g, y, axis):
        expected = p * (g - (g * p).sum(axis, keepdims=True))
        np.testing.assert_allclose(result, expected, rtol=64 * eps, atol=512 * eps)
    for result in both(k.log_softmax_backward, shape, dtype, g, ly, axis):
        expected = g - p * g.sum(axis, keepdims=True, dtype=float)
        np.testing.assert_allclose(result, expected, rtol=64 * eps, atol=2048 * eps)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_with_infinities(dtype):
    inf = np.inf
    x = np.array([[-inf, 0, 0], [-inf, -inf, -inf], [inf, 0, 0], [1e30, -1e30, 0], [np.nan, 0, 1]], dtype)
    for result in both(k.softmax, x.shape, dtype, x):
        np.testing.assert_allclose(result[0], [0, 0.5, 0.5])
        np.testing.assert_array_equal(result[3], [1, 0, 0])
        assert np.isnan(result[[1, 2, 4]]).all()
    for result in both(k.logsumexp, (5,), dtype, x, 1):
        np.testing.assert_allclose(result, [np.log(2), -inf, inf, 1e30, np.nan], rtol=1e-6)
    for result in both(k.log_softmax, x.shape, dtype, x):
        np.testing.assert_allclose(result[0], [-inf, -np.log(2), -np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_normalize_and_its_backward_pass(dtype):
    rng = np.random.default_rng(4)
    x, g = (3 * rng.standard_normal((2, 4, 33)) + 1).astype(dtype), rng.standard_normal((4, 33)).astype(dtype)
    x = x[0]
    exact = x.astype(float)
    r = 1 / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
    y = (exact - exact.mean(-1, keepdims=True)) * r
    dx = r * (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True))
    tolerance = 64 * np.finfo(dtype).eps
    for name in k.BACKENDS:
        out, rstd = np.empty_like(x), np.empty(4, dtype)
        with k.backend(name):
            k.launch(k.normalize, out, x, rstd, 1e-5)
            np.testing.assert_allclose(out, y, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(rstd, r[:, 0], rtol=tolerance)
            k.launch(k.normalize_backward, out, g, out.copy(), rstd)
            np.testing.assert_allclose(out, dx, rtol=tolerance, atol=tolerance)


@few
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), st.sampled_from(FLOATS), st.booleans())
def test_arg_reductions_and_cumsum(data, shape, dtype, keepdims):
    x = data.draw(laid_out(dtype, shape))
    axis = data.draw(st.integers(0, len(shape) - 1))
    for name in ("argmax", "argmin"):
        expected = getattr(np, name)(x, axis, keepdims=keepdims)
        for result in both(getattr(k, name), expected.shape, np.int64, x, axis):
            np.testing.assert_array_equal(result, expected)
    for result in both(k.cumsum, shape, dtype, x, axis):
        np.testing.assert_allclose(result, np.cumsum(x.astype(float), axis), rtol=0,
                                   atol=8 * np.finfo(dtype).eps * np.abs(x).astype(float).sum())


@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((4,), (4, 5)),
                                    ((3, 4), (4,)), ((4,), (4,)), ((0, 4), (4, 5)), ((3, 0), (0, 5))])
@pytest.mark.parametrize("dtype", FLOATS)
def test_matmul_of_every_kind(shapes, dtype):
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal(s).astype(dtype) for s in shapes)
    expected = a.astype(float) @ b.astype(float)
    rounding = {"rtol": 0, "atol": 16 * np.finfo(dtype).eps * np.max(np.abs(a) @ np.abs(b), initial=0).astype(float)}
    for result in both(k.matmul, expected.shape, dtype, a, b):
        np.testing.assert_allclose(result, expected, **rounding)
    if a.ndim >= 2 and b.ndim >= 2:
        at, bt = np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2), np.ascontiguousarray(b.swapaxes(-1, -2))
        for result in both(k.matmul, expected.shape, dtype, at, bt.swapaxes(-1, -2)):
            np.testing.assert_allclose(result, expected, **rounding)
        out = np.empty((*expected.shape[:-2], *expected.shape[:-3:-1]), dtype)
        k.launch(k.matmul, out.swapaxes(-1, -2), a, b)
        np.testing.assert_allclose(out.swapaxes(-1, -2), expected, **rounding)


# Gather and scatter

@few
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5), st.sampled_from(FLOATS))
def test_take_and_scatter_add(data, shape, dtype):
    x = data.draw(laid_out(dtype, shape))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    indices = data.draw(hnp.arrays(np.int64, hnp.array_shapes(max_dims=2, max_side=4), elements=st.integers(-n, n - 1)))
    expected = np.take(x, indices, axis)
    for result in both(k.take, expected.shape, dtype, x, indices, axis):
        np.testing.assert_array_equal(result, expected)
    total = np.zeros(shape)
    np.add.at(np.moveaxis(total, axis, 0), indices, np.moveaxis(
        np.ones(expected.shape), range(axis % len(shape), axis % len(shape) + indices.ndim), range(indices.ndim)))
    ones, out = np.ones(expected.shape, dtype), np.zeros(shape, dtype)
    for result in both(k.scatter_add, shape, dtype, ones, indices, axis, out=out):
        np.testing.assert_array_equal(result, total)


@few
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5), st.sampled_from(FLOATS))
def test_take_along_axis_and_its_transpose(data, shape, dtype):
    x = data.draw(laid_out(dtype, shape))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n, chosen = shape[axis], list(shape)
    chosen[axis] = data.draw(st.integers(1, 3))
    indices = data.draw(hnp.arrays(np.int64, tuple(chosen), elements=st.integers(-n, n - 1)))
    for result in both(k.take_along_axis, tuple(chosen), dtype, x, indices, axis):
        np.testing.assert_array_equal(result, np.take_along_axis(x, indices, axis))
    ones = np.ones(chosen, dtype)
    hits = (np.moveaxis(indices, axis, -1)[..., None] % n == np.arange(n)).sum(-2)
    for result in both(k.put_along_axis_add, shape, dtype, ones, indices, axis, out=np.zeros(shape, dtype)):
        np.testing.assert_array_equal(np.moveaxis(result, axis, -1), hits)


@pytest.mark.parametrize("name", k.BACKENDS)
def test_indices_out_of_range_are_refused(name):
    x = np.zeros((3, 4))
    with k.backend(name):
        for bad in (3, -4):
            with pytest.raises(IndexError):
                k.launch(k.take, np.empty((1, 4)), x, np.array([bad]), 0)
            with pytest.raises(IndexError):
                k.launch(k.scatter_add, x, np.ones((1, 4)), np.array([bad]), 0)
        for bad in (4, -5):
            with pytest.raises(IndexError):
                k.launch(k.take_along_axis, np.empty((3, 1)), x, np.full((3, 1), bad), 1)
            with pytest.raises(IndexError):
                k.launch(k.put_along_axis_add, x, np.ones((3, 1)), np.full((3, 1), bad), 1)
    assert not x.any()


@pytest.mark.parametrize("key", [1, slice(None, None, -2), (slice(None), 2), ..., (None, 1), np.array([0, 2, 2]),
                                 (np.array([0, 2, 0]), np.array([1, 1, 1])), np.array([True, False, True])],
                         ids=repr)
def test_indexing_and_its_transpose(key):
    x = np.arange(12.0).reshape(3, 4)
    for result in both(k.index_get, x[key].shape, x.dtype, x, key):
        np.testing.assert_array_equal(result, x[key])
    expected = np.zeros((3, 4))
    np.add.at(expected, key, 1)
    for result in both(k.index_add, x.shape, x.dtype, np.ones(x[key].shape), key, out=np.zeros((3, 4))):
        np.testing.assert_array_equal(result, expected)


# Optimizers: one hand-written step each, in float64

@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", k.BACKENDS)
def test_optimizer_steps(name, dtype):
    rng = np.random.default_rng(6)
    p, g, m, v = rng.random((4, 3, 5)).astype(dtype)
    close = dict(rtol=64 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)
    P, G, M, V = (a.astype(float) for a in (p, g, m, v))

    def step(kernel, *numbers):
        state = [a.copy() for a in (p, g, m, v)]
        with k.backend(name):
            k.launch(kernel, *state[:3 if kernel in (k.sgd, k.adagrad) else 4], *numbers)
        return state

    d = G + 0.01 * P
    for nesterov in (False, True):
        new = step(k.sgd, 0.1, 0.9, 0.01, nesterov)
        np.testing.assert_allclose(new[2], 0.9 * M + d, **close)
        np.testing.assert_allclose(new[0], P - 0.1 * ((d + 0.9 * (0.9 * M + d)) if nesterov else 0.9 * M + d), **close)
    new = step(k.adagrad, np.zeros(1), np.array([0.1]), 0.0, 1e-10, 0.01)
    np.testing.assert_allclose(new[0], P - 0.1 * d / (np.sqrt(M + d * d) + 1e-10), **close)
    new = step(k.rmsprop, 0.1, 0.9, 1e-8, 0.01, 0.5)
    s = 0.9 * M + 0.1 * d * d
    np.testing.assert_allclose(new[0], P - 0.1 * (0.5 * V + d / (np.sqrt(s) + 1e-8)), **close)
    for decoupled in (False, True):
        new = step(k.adam, np.array([2.0]), 0.1, 0.9, 0.999, 1e-8, 0.01, decoupled)
        e = G if decoupled else d
        m1, v1 = 0.9 * M + 0.1 * e, 0.999 * V + 0.001 * e * e
        start = P * (1 - 0.1 * 0.01) if decoupled else P
        np.testing.assert_allclose(new[2], m1, **close)
        np.testing.assert_allclose(new[3], v1, rtol=1e-4 if dtype == np.float32 else 1e-12)
        np.testing.assert_allclose(new[0], start - 0.1 * (m1 / (1 - 0.9**3)) / (np.sqrt(v1 / (1 - 0.999**3)) + 1e-8),
                                   rtol=2e-6 if dtype == np.float32 else 1e-13, atol=close["atol"])


# Recording

def training_step(buffers, launch=k.launch):
    "One step of a 5-7-3 ReLU network with softmax cross-entropy and Adam, written in launches alone."
    x, y, w1, b1, w2, b2, states = buffers
    z = launch(k.matmul, np.empty((4, 7), np.float32), x, w1)
    z = launch(k.add, np.empty_like(z), z, b1)
    h = launch(k.maximum, np.empty_like(z), z, 0.0)
    o = launch(k.matmul, np.empty((4, 3), np.float32), h, w2)
    o = launch(k.add, o, o, b2)
    lp = launch(k.log_softmax, np.empty_like(o), o, -1)
    g = launch(k.multiply, np.empty_like(o), y, -0.25)
    do = launch(k.log_softmax_backward, np.empty_like(o), g, lp, -1)
    dw2 = launch(k.matmul, np.empty_like(w2), h.T, do)
    db2 = launch(k.sum_to, np.empty_like(b2), do)
    dh = launch(k.matmul, np.empty_like(h), do, w2.T)
    mask = launch(k.greater, np.empty(h.shape, bool), h, 0.0)
    dz = launch(k.where, np.empty_like(h), mask, dh, 0.0)
    dw1 = launch(k.matmul, np.empty_like(w1), x.T, dz)
    db1 = launch(k.sum_to, np.empty_like(b1), dz)
    for p, d, state in zip((w1, b1, w2, b2), (dw1, db1, dw2, db2), states, strict=True):
        launch(k.adam, p, d, *state, 0.01)


def make_buffers():
    rng = np.random.default_rng(7)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)                                # noqa: E731
    weights = draw(5, 7), draw(7), draw(7, 3), draw(3)
    states = [(np.zeros_like(w), np.zeros_like(w), np.zeros(1)) for w in weights]
    return draw(4, 5), np.eye(3, dtype=np.float32)[[0, 2, 1, 1]], *weights, states


@pytest.mark.parametrize("name", k.BACKENDS)
@pytest.mark.parametrize("key", [np.array([2, 0, 2]), np.array([[1, -1], [1, 0]]), (np.array([0, 2]), slice(None)), 1])
def test_replaying_a_scattered_sum_adds_once(name, key):
    x = np.zeros((3, 4), np.float32)
    src = np.ones(x[key].shape, np.float32)
    with k.backend(name), k.recording() as launches:
        k.launch(k.index_add, x, src, key)
    assert [launch.kernel.name for launch in launches] == ["index_add"]
    once = x.copy()
    with k.backend(name):
        k.replay(launches)
    np.testing.assert_array_equal(x, 2 * once)
    expected = np.zeros_like(x)
    np.add.at(expected, key, src)
    np.testing.assert_array_equal(once, expected)


@pytest.mark.parametrize("name", k.BACKENDS)
def test_a_recorded_training_step_replays_bit_for_bit(name):
    rng = np.random.default_rng(8)
    batches = rng.standard_normal((3, 4, 5)).astype(np.float32)
    eager, recorded = make_buffers(), make_buffers()
    with k.backend(name):
        with k.recording() as launches:
            training_step(recorded)
        assert launches[0].kernel is k.matmul and launches[0].operands[0] is recorded[0]
        assert launches[0].out is launches[1].operands[0]
        training_step(eager)
        for batch in batches:
            recorded[0][...] = batch
            k.replay(launches)
            eager[0][...] = batch
            training_step(eager)
    for a, b in zip(eager[2:6], recorded[2:6], strict=True):
        assert a.tobytes() == b.tobytes()
    assert not np.array_equal(make_buffers()[2], recorded[2])


def test_recordings_nest_and_end():
    x = np.ones(3)
    with k.recording() as outer:
        k.launch(k.exp, x, x)
        with k.recording() as inner:
            k.launch(k.add, x, x, 1.0)
    k.launch(k.add, x, x, 1.0)
    assert [line.kernel.name for line in inner] == ["add"]
    assert [line.kernel.name for line in outer] == ["exp", "add"]
    assert isinstance(outer[0].kernel, k.Kernel)


def test_the_vocabulary_dispatches_to_tensors():
    class Recorder:
        def __deepnotes_op__(self, name, operands):
            return name, operands

    x = Recorder()
    assert k.exp(x) == ("exp", (x,))
    assert k.where(True, x, 1.0) == ("where", (True, x, 1.0))
    assert k.exp(0.0) == 1.0
    assert k.exp(np.zeros(2, np.float32)).dtype == np.float32


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match="'cuda' is not a backend"):
        with k.backend("cuda"):
            pass


def test_show_config_names_what_runs(capsys):
    with k.backend("numpy"):
        assert k.show_config("dicts")["backend"] == "numpy"
    k.show_config()
    text = capsys.readouterr().out
    assert all(word in text for word in ("numba", "blas", "threads", "cpu_features", "cache_folder"))


def test_all_that_is_public_is_documented():
    for name in k.__all__:
        thing = getattr(k, name)
        if callable(thing) and not isinstance(thing, k.Kernel):
            assert thing.__doc__, name


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_is_one_stream_the_same_on_both_backends_bit_for_bit(dtype):
    for shape in [(), (0,), (1,), (3, 5), (1000,), (300, 1000)]:
        streams = []
        for name in k.BACKENDS:
            out, state = np.empty(shape, dtype), np.array([0x123456789ABCDEF0, 2**64 - 7], np.uint64)
            with k.backend(name):
                k.launch(k.uniform, out, state)
            assert state[0] == 0x123456789ABCDEF0 and int(state[1]) == (2**64 - 7 + out.size) % 2**64
            streams.append(out)
        np.testing.assert_array_equal(*streams)
        assert ((streams[0] >= 0) & (streams[0] < 1)).all()
    state, cut = k.random_state(0), k.random_state(0)
    whole = k.launch(k.uniform, np.empty(100, dtype), state)
    parts = [k.launch(k.uniform, np.empty(n, dtype), cut) for n in (1, 32, 67)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(state, cut)


def test_uniform_is_splitmix64_and_looks_random():
    state = np.array([0, 1], np.uint64)
    first = k.launch(k.uniform, np.empty(3), state)         # the published stream of SplitMix64 from seed 0
    words = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    np.testing.assert_array_equal(first, [(word >> 11) / 2**53 for word in words])
    one, two = (k.launch(k.uniform, np.empty(200_000, "float32"), k.random_state(seed)) for seed in (1, 2))
    assert abs(one.mean() - 1 / 2) < 4 / np.sqrt(12 * 200_000)              # four standard errors
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / np.sqrt(200_000)
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 4 / np.sqrt(200_000)
    counts = np.histogram2d(one[::2], one[1::2], bins=16, range=[[0, 1], [0, 1]])[0]
    expected = 100_000 / 256
    assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 4 * np.sqrt(2 * 255)


def test_uniform_on_strided_arrays_falls_back_to_numpy():
    wide = np.zeros((4, 6))
    k.launch(k.uniform, wide[:, ::2], k.random_state(3))
    np.testing.assert_array_equal(wide[:, ::2], k.launch(k.uniform, np.empty((4, 3)), k.random_state(3)))
    assert not wide[:, 1::2].any()


@pytest.mark.parametrize("dtype", FLOATS)
def test_normalize_columns_and_its_backward_pass(dtype):
    rng = np.random.default_rng(0)
    x, g = (rng.normal(3, 2, size=(7, 5)).astype(dtype) for _ in range(2))
    results = []
    for name in k.BACKENDS:
        y, (mean, variance, rstd), sums = np.empty_like(x), np.empty((3, 5), dtype), np.empty((2, 5), dtype)
        with k.backend(name):
            k.launch(k.normalize_columns, y, x, mean, variance, rstd, 1e-5)
            dx = k.launch(k.normalize_columns_backward, np.empty_like(x), g, y, rstd, sums)
        results.append((y, mean, variance, rstd, dx))
    eps = np.finfo(dtype).eps
    for compiled, reference in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, reference, rtol=64 * eps, atol=64 * eps)
    np.testing.assert_allclose(results[0][2], x.var(0), rtol=32 * eps)
    twin = np.ascontiguousarray(x.T)                        # the same numbers as rows
    k.launch(k.normalize, out := np.empty_like(twin), twin, np.empty(5, dtype), 1e-5)
    np.testing.assert_allclose(results[0][0], out.T, rtol=64 * eps, atol=64 * eps)
