"""Sums of very many float32 numbers, in every direction and on both backends: an error that does not grow with their count."""

import math

import numpy as np
import pytest

from deepnotes import autograd as ag
from deepnotes import kernels, layers, optimizers, outputs
from deepnotes.autograd import Tensor
from deepnotes.capture import capture
from deepnotes.kernels import launch

BACKENDS = pytest.mark.parametrize("backend", kernels.BACKENDS)
COUNT = 10**6 + 3
EQUAL = np.full((COUNT, 2), 0.1, "f4")  # the rounding of every sum of equal numbers goes the same way
LIMIT = 1e-6


def off(got, exact, magnitude=None):
    "The largest error, in shares of the sum of magnitudes"
    exact = np.asarray(exact, "f8")
    return np.max(np.abs(np.asarray(got, "f8") - exact) / (np.abs(exact) if magnitude is None else magnitude))


@BACKENDS
def test_sums_and_means(backend):
    total = float(EQUAL[0, 0]) * COUNT
    cube = EQUAL.reshape(1, COUNT, 2)
    with kernels.backend(backend):
        assert off(ag.sum(EQUAL, 0).data, total) < LIMIT
        assert off(ag.sum(EQUAL.T, 1).data, total) < LIMIT
        assert off(ag.sum(np.ascontiguousarray(EQUAL.T), 1).data, total) < LIMIT
        assert off(ag.sum(EQUAL).data, 2 * total) < LIMIT
        assert off(ag.sum(EQUAL[::-1], 0).data, total) < LIMIT
        assert off(ag.sum(cube, 1).data, total) < LIMIT
        assert off(ag.mean(EQUAL, 0).data, EQUAL[0, 0]) < LIMIT
        assert off(ag.mean(EQUAL).data, EQUAL[0, 0]) < LIMIT
        assert off(ag.sum_to(EQUAL, 2).data, total) < LIMIT
        assert off(ag.sum_to(EQUAL, 1, 1).data, 2 * total) < LIMIT
        assert off(ag.sum_to(cube, 1, 1, 2).data, total) < LIMIT
        assert off(ag.var(EQUAL, 0).data, 0, 1) < 1e-14 and off(ag.std(EQUAL, 0).data, 0, 1) < 1e-7


@BACKENDS
def test_sums_over_axes_on_both_sides_of_those_that_stay(backend):
    x = EQUAL[:10**6].reshape(2000, 1, 500, 2).transpose(0, 3, 1, 2)          # as it lies no loop can read it
    total = float(EQUAL[0, 0]) * 10**6
    with kernels.backend(backend):
        for given in (x, np.ascontiguousarray(x), x[::-1]):
            assert off(ag.sum(given, (0, 3)).data, total) < LIMIT and ag.sum(given, (0, 3)).shape == (2, 1)
            assert off(ag.sum_to(given, 2, 1, 1).data, total) < LIMIT
            assert off(ag.mean(given, (0, 2, 3)).data, EQUAL[0, 0]) < LIMIT


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_they_are_loops_that_a_captured_step_calls(dtype):
    x = np.arange(4 * 3 * 5 * 2, dtype=dtype).reshape(4, 3, 5, 2)
    for kernel, out, axes in ((kernels.sum, np.empty(3, dtype), ((0, 2, 3),)), (kernels.mean, np.empty((3, 1, 1), dtype), ((0, 2, 3),)),
                              (kernels.sum_to, np.empty((3, 1, 1), dtype), ()), (kernels.sum, np.empty((3, 5), dtype), ((0, 3),))):
        kernels.launch(kernel, out, x, *axes)
        lines = kernel.compiled.calls(out, x, *axes)
        assert len(lines) == 2, kernel
        again = out.copy()
        out[...] = 0
        for loop, args in lines:
            loop(*args)
        exact = (x.mean if kernel is kernels.mean else x.sum)((axes or ((0, 2, 3),))[0])
        assert (out == again).all() and (again.ravel() == exact.ravel()).all()


@BACKENDS
@pytest.mark.parametrize("shape, axis", [((7, 5), None), ((7, 5), 0), ((7, 5), 1), ((3, 40, 3), 1), ((2, 600), 1),
                                         ((9000, 2), 0), ((300_000,), 0), ((2, 9000), (1,)), ((4, 3, 5), (0, 2)),
                                         ((3, 2, 2, 700), (0, 3))])
def test_means_of_what_no_sum_holds(shape, axis, backend):
    "Near the end of the range the sum is infinite and the mean is not; nor is a sum whose parts cancel."
    top = np.finfo("f4").max
    x = np.full(shape, 0.75 * top, "f4") + (0.2 * top * np.random.default_rng(0).uniform(-1, 1, shape)).astype("f4")
    wide = x.astype("f8")
    with kernels.backend(backend):
        for given in (x, -x, np.asfortranarray(x), x[::-1]):
            t = Tensor(given, requires_grad=True)
            out = ag.mean(t, axis)
            assert out.dtype == np.float32 and off(out.data, given.astype("f8").mean(axis)) < LIMIT
            out.sum().backward()
            assert off(t.grad.data, out.size / x.size) < LIMIT
        assert np.isposinf(ag.sum(x, axis).data).all() and np.isneginf(ag.sum(-x, axis).data).all()
        assert (ag.var(np.full_like(x, top), axis).data == 0).all()
        both = np.concatenate([x, -x], 0 if axis is None else np.atleast_1d(axis)[0])
        assert np.abs(ag.sum(both, axis).data).max() <= LIMIT * np.abs(wide).sum(axis).min()
        for bad in (np.inf, np.nan):
            x.flat[0] = bad
            np.testing.assert_allclose(ag.mean(x, axis).data, x.astype("f8").mean(axis), rtol=LIMIT)


def test_a_captured_mean_of_what_no_sum_holds():
    x = np.full((40, 3), 3e38, "f4")
    for fuse in (False, True):
        step = capture(lambda x: (ag.mean(x), ag.mean(x, 0), ag.mean(x * 1.0, 1)), fuse=fuse)
        for _ in range(4):
            for out in step(Tensor(x)):
                assert (out.data == np.float32(3e38)).all()
        assert step.captured, step.reason


@BACKENDS
@pytest.mark.parametrize("make", [layers.BatchNorm1d, layers.LayerNorm])
def test_normalization_of_the_largest_numbers(make, backend):
    rng = np.random.default_rng(0)
    x = (np.finfo("f4").max * (0.9 + 0.05 * rng.uniform(-1, 1, (64, 8)))).astype("f4")
    axis = 0 if make is layers.BatchNorm1d else 1
    with kernels.backend(backend):
        t = Tensor(x, requires_grad=True)
        out = make(8)(t)
        wide = x.astype("f8")
        wanted = (wide - wide.mean(axis, keepdims=True)) / wide.std(axis, keepdims=True)
        assert np.abs(out.data - wanted).max() < 1e-5
        out.sum().backward()
        assert np.isfinite(t.grad.data).all()


@BACKENDS
def test_running_sums(backend):
    wanted = float(EQUAL[0, 0]) * np.arange(1, COUNT + 1)
    with kernels.backend(backend):
        assert off(ag.cumsum(EQUAL, 0).data[:, 1], wanted) < LIMIT
        assert off(ag.cumsum(np.ascontiguousarray(EQUAL.T), 1).data[0], wanted) < LIMIT


@BACKENDS
def test_gradients_that_are_sums(backend):
    x, bias = Tensor(EQUAL), Tensor(np.zeros(2, "f4"), requires_grad=True)
    scale = Tensor(np.ones((1, 1), "f4"), requires_grad=True)
    with kernels.backend(backend):
        (x + bias).backward(EQUAL)
        (x * scale).backward(EQUAL)
    assert off(bias.grad.data, float(EQUAL[0, 0]) * COUNT) < LIMIT
    assert off(scale.grad.data, 2 * float(EQUAL[0, 0]) ** 2 * COUNT) < LIMIT


@BACKENDS
def test_sums_of_random_numbers(backend):
    rng = np.random.default_rng(0)
    with kernels.backend(backend):
        for shape, axis in (((100003, 3), 0), ((3, 100003), 1), ((1001, 100), 0), ((100, 1001), 1), ((7, 999, 5), 1)):
            x = rng.normal(size=shape).astype("f4")
            wide = x.astype("f8")
            assert off(ag.sum(x, axis).data, wide.sum(axis), np.abs(wide).sum(axis)) < LIMIT / 2


@BACKENDS
@pytest.mark.parametrize("rows", [1, 3])
def test_sums_that_meet_at_one_index(backend, rows):
    "Gradients of a table of which one row is asked for again and again: ones in float32 alone stop at 2**24."
    n = 30_000
    index = np.full(n, rows - 1)
    tenth, ones = np.full((n, 1), 0.1, "f4"), np.ones((n, 1), "f4")
    with kernels.backend(backend):
        for src, start, each in ((tenth, 0.0, float(tenth[0, 0])), (ones, 2.0**24, 1.0)):
            table = np.full((rows, 1), start, "f4")
            assert off(launch(kernels.scatter_add, table, src, index, 0)[rows - 1], start + each * n) < LIMIT
            row = np.full((1, rows), start, "f4")
            launch(kernels.put_along_axis_add, row, src.reshape(1, n), index.reshape(1, n), 1)
            assert off(row[0, rows - 1], start + each * n) < LIMIT
            for key in (index, (index,), (np.zeros_like(index), index)):
                line = np.full((1, rows) if len(key) == 2 else rows, start, "f4")
                launch(kernels.index_add, line, src.reshape(n), key)
                assert off(line.flat[rows - 1], start + each * n) < LIMIT
            assert (table[:-1] == start).all() and (row[0, :-1] == start).all()


@BACKENDS
def test_gradients_of_tables(backend):
    "Rows that are asked for never, once, a few times and very often, from both ends, in every direction."
    rng = np.random.default_rng(0)
    index = np.concatenate([np.full(5000, 2), np.full(9, -1), np.full(8, 4), [0], np.full(3000, -4)])
    rng.shuffle(index)
    for dtype in ("f4", "f8"):
        src = rng.normal(size=(len(index), 3)).astype(dtype)
        exact, size = np.zeros((7, 3)), np.zeros((7, 3))
        np.add.at(exact, index, src)
        np.add.at(size, index, np.abs(src))
        with kernels.backend(backend):
            t = Tensor(np.zeros((7, 3), dtype), requires_grad=True)
            for take, cotangent in ((lambda t: ag.take(t, index), src), (lambda t: t[index], src),
                                    (lambda t: ag.gather(t, 0, np.repeat(index[:, None], 3, 1)), src),
                                    (lambda t: ag.take(t.T, index, 1), src.T), (lambda t: ag.take(t, index[::-1]), src[::-1])):
                t.grad = None
                take(t).backward(cotangent)
                assert np.all(np.abs(t.grad.data - exact) <= (LIMIT if dtype == "f4" else 1e-14) * size)


@BACKENDS
def test_wide_rows_of_softmax(backend):
    n = 300_001
    x, g = np.zeros((2, n), "f4"), np.full((2, n), 0.1, "f4")
    y = np.full((2, n), 1 / n, "f4")
    new = lambda: np.empty((2, n), "f4")  # noqa: E731
    with kernels.backend(backend):
        assert off(launch(kernels.softmax, new(), x, 1), 1 / n) < LIMIT
        assert off(launch(kernels.log_softmax, new(), x, 1), -math.log(n)) < LIMIT
        assert off(launch(kernels.logsumexp, np.empty(2, "f4"), x, (1,)), math.log(n)) < LIMIT
        total = float(g[0, 0]) * float(y[0, 0]) * n
        assert off(launch(kernels.softmax_backward, new(), g, y, 1), y * (g - total), 0.1 / n) < LIMIT
        total = float(g[0, 0]) * n
        assert off(launch(kernels.log_softmax_backward, new(), g, x, 1), g - total) < LIMIT


@BACKENDS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_very_many_classes(backend, smoothing):
    n = 300_001
    z = np.full((2, n), 0.1, "f4")
    z[1] = np.random.default_rng(0).normal(size=n)
    wide, labels = z.astype("f8"), np.array([5, n - 1])
    log_p = wide - np.log(np.exp(wide).sum(1, keepdims=True))
    wanted = -(1 - smoothing) * log_p[[0, 1], labels] - smoothing * log_p.mean(1)
    with kernels.backend(backend):
        for given in (z, np.asfortranarray(z)):
            t = Tensor(given, requires_grad=True)
            loss = outputs.cross_entropy(t, labels, reduction="none", label_smoothing=smoothing)
            loss.sum().backward()
            assert off(loss.data, wanted) < LIMIT
            target = np.full((2, n), smoothing / n)
            target[[0, 1], labels] += 1 - smoothing
            assert np.all(np.abs(t.grad.data - (np.exp(log_p) - target)) < 3 * LIMIT * (np.exp(log_p) + target))


# ---- normalization


def normalized(x, axis, eps=1e-5):
    x = x.astype("f8")
    d = x - x.mean(axis, keepdims=True)
    return d / np.sqrt((d * d).mean(axis, keepdims=True) + eps)


def gradient(g, x, axis, eps=1e-5):
    g, x = g.astype("f8"), x.astype("f8")
    y = normalized(x, axis, eps)
    r = 1 / np.sqrt(x.var(axis, keepdims=True) + eps)
    return r * (g - g.mean(axis, keepdims=True) - y * (g * y).mean(axis, keepdims=True))


def far(kind, shape):
    rng = np.random.default_rng(1)
    z = rng.normal(size=shape)
    return {"near": z, "far": 1e4 + 5e-3 * z, "farther": -1e6 + z, "huge": 1e30 * z, "largest": 1e37 * z,
            "tiny": 1e-3 * z}[kind].astype("f4")


@BACKENDS
@pytest.mark.parametrize("kind", ["near", "far", "farther", "huge", "largest", "tiny"])
def test_normalization_anywhere(kind, backend):
    x, g = far(kind, (37, 21)), np.random.default_rng(2).normal(size=(37, 21)).astype("f4")
    with kernels.backend(backend):
        for layer, axis in ((layers.LayerNorm(21), 1), (layers.BatchNorm1d(21), 0)):
            t = Tensor(x, requires_grad=True)
            y = layer(t)
            y.backward(g)
            assert np.abs(y.data - normalized(x, axis)).max() < 4e-6, layer
            wanted = gradient(g, x, axis)
            assert np.abs(t.grad.data - wanted).max() < 5e-6 * np.abs(wanted).max() + 1e-43, layer


@BACKENDS
@pytest.mark.parametrize("kind", ["near", "huge", "largest", "tiny"])
def test_root_mean_square_normalization_anywhere(kind, backend):
    x, g = far(kind, (5, 4, 6)), np.random.default_rng(2).normal(size=(5, 4, 6)).astype("f4")
    eps, wide = float(np.finfo("f4").eps), x.astype("f8").reshape(5, 24)
    r = 1 / np.sqrt((wide**2).mean(1, keepdims=True) + eps)
    y, h = wide * r, g.astype("f8").reshape(5, 24)
    with kernels.backend(backend):
        t = Tensor(x, requires_grad=True)
        out = layers.RMSNorm((4, 6))(t)
        out.backward(g)
    assert np.abs(out.data.reshape(5, 24) - y).max() < 2e-6
    wanted = r * (h - y * (h * y).mean(1, keepdims=True))
    assert np.abs(t.grad.data.reshape(5, 24) - wanted).max() < 5e-6 * np.abs(wanted).max() + 1e-43


def test_root_mean_square_normalization_differentiates_twice():
    x = np.random.default_rng(0).normal(size=(3, 4))
    layer = layers.RMSNorm(4, eps=0.1, dtype=np.float64)
    assert ag.grad_check(layer, x)
    assert ag.grad_check(ag.grad(lambda x: (layer(x) ** 3).sum()), x)
    norm = layers.LayerNorm(4, eps=0.1, dtype=np.float64)
    assert ag.grad_check(ag.grad(lambda x: (norm(x) ** 3).sum()), 3 * x)


@BACKENDS
def test_normalization_of_tiny_numbers_without_eps(backend):
    x = (1e-25 * np.random.default_rng(0).normal(size=(8, 16))).astype("f4")
    with kernels.backend(backend):
        for layer, axis in ((layers.LayerNorm(16, eps=0.0), 1), (layers.BatchNorm1d(16, eps=0.0), 0)):
            assert np.abs(layer(Tensor(x)).data - normalized(x, axis, 0.0)).max() < 4e-6


@BACKENDS
def test_normalization_over_very_many(backend):
    x = np.full((COUNT, 2), 0.1, "f4")
    x[::2] += 1
    with kernels.backend(backend):
        t = Tensor(x, requires_grad=True)
        y = layers.BatchNorm1d(2)(t)
        y.backward(EQUAL)
        assert np.abs(y.data - normalized(x, 0)).max() < 4e-6
        # A gradient that is the same for all has nothing left but a rounding of each of two means, over a std of 1/2.
        assert np.abs(t.grad.data).max() < 4 * np.finfo("f4").eps
        rows = np.ascontiguousarray(x.T)
        t = Tensor(rows, requires_grad=True)
        y = layers.LayerNorm(COUNT, elementwise_affine=False)(t)
        y.backward(np.ascontiguousarray(EQUAL.T))
        assert np.abs(y.data - normalized(rows, 1)).max() < 4e-6
        assert np.abs(t.grad.data).max() < 4 * np.finfo("f4").eps


@BACKENDS
@pytest.mark.parametrize("kind", ["near", "far", "farther", "huge", "largest", "tiny", "tiniest"])
@pytest.mark.parametrize("axis", [0, 1, None, (0, 1)])
def test_spread_anywhere(kind, axis, backend):
    x = 1e-22 * far("near", (37, 21)) if kind == "tiniest" else far(kind, (37, 21))
    x, wide = x.astype("f4"), x.astype("f4").astype("f8")
    t = Tensor(x, requires_grad=True)
    with kernels.backend(backend):
        out = ag.std(t, axis)
        out.sum().backward()
        variance = ag.var(x, axis, 0, True).data
    exact = wide.std(axis, ddof=1)
    assert off(out.data, exact) < 2 * LIMIT
    n = x.size if exact.ndim == 0 else x.shape[axis]
    wanted = (wide - wide.mean(axis, keepdims=True)) / wide.std(axis, ddof=1, keepdims=True) / (n - 1)
    assert np.abs(t.grad.data - wanted).max() < 5e-6 * np.abs(wanted).max()
    with np.errstate(over="ignore"):
        squares = wide.var(axis, keepdims=True).astype("f4")
    assert variance.shape == squares.shape
    np.testing.assert_allclose(variance, squares, rtol=3 * LIMIT)


@BACKENDS
def test_spread_that_is_nothing_or_no_number(backend):
    with kernels.backend(backend):
        for bad in (math.nan, math.inf):
            assert np.isnan(ag.std(np.array([1, bad, 2], "f4")).item())
        for size in (0.0, 1e-30, 1.0, 3e38):
            t = Tensor(np.full(4, size, "f4"), requires_grad=True)
            ag.std(t).backward()
            assert ag.std(t).item() == 0 and (t.grad.data == 0).all()
        assert ag.std(np.array([2e200, -2e200])).item() == pytest.approx(8**0.5 * 1e200, rel=1e-15)
        assert ag.var(np.zeros((0, 2), "f4"), 1).shape == (0,)


@BACKENDS
def test_running_averages_of_huge_values(backend):
    "The averages that evaluation divides by: as far as float32 holds a variance, they hold it."
    z = np.random.default_rng(0).normal(size=(64, 3))
    with kernels.backend(backend):
        for size in (1e-15, 1.0, 1e15, 5e18):
            layer, x = layers.BatchNorm1d(3, momentum=None, eps=0.0), (size * z).astype("f4")
            for _ in range(3):
                layer(Tensor(x))
            np.testing.assert_allclose(layer.running_var, x.astype("f8").var(0, ddof=1), rtol=2e-6)
            layer.eval()
            assert np.abs(layer(Tensor(x)).data.std(0, ddof=1) - 1).max() < 1e-5


# ---- norms of gradients


@BACKENDS
@pytest.mark.parametrize("dtype, sizes", [("f4", (1e-44, 1e-30, 1e-3, 1e15, 3e38)), ("f8", (1e-320, 1e-200, 1.0, 1e200, 1e308))])
@pytest.mark.parametrize("order", [1, 1.5, 2, 3, 7.5, 100, math.inf])
def test_norms_of_every_order_and_size(order, dtype, sizes, backend):
    q = layers.Parameter(np.ones(5, dtype))
    with kernels.backend(backend):
        for size in sizes:
            entry = float(np.array(size, dtype))
            if entry > 1e307 and order < 7:
                continue  # the norm itself leaves float64
            q.grad = Tensor(np.full(5, entry, dtype))
            norm, share = optimizers.clip_grad_norm_([q], 1.0, norm_type=order).item(), 5 ** (-1 / order)
            assert norm == pytest.approx(entry / share, rel=1e-6 if size > 1e-319 else 1e-3)
            limited = min(1.0, 1.0 / (norm + 1e-6))
            np.testing.assert_allclose(q.grad.data, entry * limited, rtol=1e-6)


def test_a_norm_that_is_not_finite_says_so():
    for bad in (math.inf, math.nan):
        for order in (1, 2, 3, math.inf):
            q = layers.Parameter(np.ones(3, "f4"))
            q.grad = Tensor(np.array([1, bad, 0], "f4"))
            with pytest.raises(FloatingPointError, match="norm of the gradients is"):
                optimizers.clip_grad_norm_([q], 1.0, norm_type=order, error_if_nonfinite=True)
    q.grad = Tensor(np.zeros(3, "f4"))
    assert optimizers.clip_grad_norm_([q], 1.0, norm_type=3).item() == 0


@BACKENDS
def test_centered_rmsprop_of_gradients_that_hardly_change(backend):
    rng = np.random.default_rng(0)
    with kernels.backend(backend):
        for noise in (0.0, 1e-5):
            w = layers.Parameter(np.zeros(1, "f4"))
            optimizer = optimizers.RMSprop([w], lr=0.01, centered=True)
            last = 0.0
            for _ in range(3000):
                w.grad = Tensor(np.array([1 + noise * rng.normal()], "f4"))
                optimizer.step()
                now = w.data.item()
                assert abs(now - last) < 0.01 * 1001 + 1e-3, "the denominator is at least a thousandth of the root"
                last = now


# ---- tails


@BACKENDS
def test_the_derivative_of_expm1_keeps_its_digits(backend):
    x = Tensor(np.array([-40.0, -30.0, -1e-9, 3.0]), requires_grad=True)
    with kernels.backend(backend):
        ag.expm1(x).backward(np.ones(4))
    np.testing.assert_allclose(x.grad.data, np.exp(x.data), rtol=1e-14)


def test_what_the_docstrings_say_of_tails():
    x = Tensor(np.array([16.0, 18.0], "f4"), requires_grad=True)
    ag.sigmoid(x).backward(np.ones(2, "f4"))
    assert x.grad.data[0] > 0 == x.grad.data[1]
    assert abs(ag.log_softmax(np.array([20.0, 0.0], "f4")).data[0] + math.log1p(math.exp(-20))) < 1e-7
    for cure in (lambda x: ag.where(x <= 0, ag.exp(ag.minimum(x, 0.0)), 1 + x),
                 lambda x: ag.where(x > 0, ag.sqrt(ag.where(x > 0, x, 1.0)), 0.0)):
        x = Tensor(np.array([100.0, 0.0, -100.0], "f4"), requires_grad=True)
        cure(x).sum().backward()
        assert np.isfinite(x.grad.data).all()
