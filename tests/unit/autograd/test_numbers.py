"""Python numbers that meet tensors: on both backends what numpy 2 says, for every dtype and at every end of its range."""

import math

import numpy as np
import pytest

from deepnotes import autograd as ag
from deepnotes import kernels
from deepnotes.autograd import Tensor

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
ARITHMETIC = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": np.power,
}
COMPARISONS = {
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
}
BACKENDS = pytest.mark.parametrize("backend", kernels.BACKENDS)
# every dtype in numpy, and those that C converts differently in compiled loops: each dtype more is a compilation an operation
GRID = pytest.mark.parametrize("dtype, backend", [*[(d, "numpy") for d in INTEGERS],
                                                  *[(d, "numba") for d in ("int8", "uint8", "int32", "int64", "uint64")]])


def samples(dtype):
    limits = np.iinfo(dtype)
    return np.array([limits.min, limits.min + 1, 0, 1, 5, limits.max - 1, limits.max], dtype)


def numbers(dtype):
    "Whole numbers at, in and beyond the range"
    limits = np.iinfo(dtype)
    ends = [limits.min - 1, limits.min, limits.min + 1, limits.max - 1, limits.max, limits.max + 1]
    return [*ends, -1, 0, 1, 3, 300, 2**31, 2**63, -(2**63) - 1, 2**64, 2**70]


def fits(n, dtype):
    return np.iinfo(dtype).min <= n <= np.iinfo(dtype).max


def same(ours, wanted):
    assert ours.dtype == wanted.dtype and np.array_equal(ours.numpy(), wanted), f"{ours} is not {wanted!r}"


@GRID
@pytest.mark.parametrize("name", [n for n in ARITHMETIC if n != "power"])
def test_arithmetic_with_whole_numbers(name, dtype, backend):
    x, op, ufunc = samples(dtype), getattr(ag, name), ARITHMETIC[name]
    with kernels.backend(backend), np.errstate(all="ignore"):
        for n in numbers(dtype):
            if fits(n, dtype):
                same(op(Tensor(x), n), ufunc(x, np.array(n, dtype)))
                if name == "subtract":
                    same(op(n, Tensor(x)), ufunc(np.array(n, dtype), x))
            else:
                for operands in ((Tensor(x), n), (n, Tensor(x))):
                    with pytest.raises(OverflowError, match=f"{name}: the number {n} .*{dtype}"):
                        op(*operands)


@GRID
def test_where_and_power_with_whole_numbers(dtype, backend):
    x = samples(dtype)
    c = np.arange(x.size) % 2 == 0
    with kernels.backend(backend), np.errstate(all="ignore"):
        for n in numbers(dtype):
            if not fits(n, dtype):
                for f in (lambda n=n: ag.where(c, x, n), lambda n=n: ag.where(c, n, x), lambda n=n: Tensor(x) ** n):
                    with pytest.raises(OverflowError, match=f"the number {n} .*{dtype}"):
                        f()
                continue
            same(ag.where(c, x, n), np.where(c, x, np.array(n, dtype)))
            same(ag.where(c, n, x), np.where(c, np.array(n, dtype), x))
            if n >= 0:
                same(Tensor(x) ** n, np.power(x, np.array(n, dtype)))


@GRID
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_are_exact(name, dtype, backend):
    "Python compares its integers with every number exactly, whatever the size"
    x, op = samples(dtype), getattr(ag, name)
    exact = {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "equal": "eq", "not_equal": "ne"}
    python = getattr(__import__("operator"), exact[name])
    fractions = [0.5, 2.5, -0.5, 2.0, 300.0, 2.0**63, 2.0**64, 1e300, math.inf, -math.inf, math.nan]
    with kernels.backend(backend):
        for n in numbers(dtype) + fractions + [True]:
            same(op(Tensor(x), n), np.array([python(v, n) for v in x.tolist()]))
            if name == "less":
                same(op(n, Tensor(x)), np.array([python(n, v) for v in x.tolist()]))


def clipped(x, low, high):
    "The exact result, and whether the dtype holds it"
    values = [v if low is None else max(v, low) for v in x.tolist()]
    values = [v if high is None else min(v, high) for v in values]
    return values, all(fits(v, x.dtype) for v in values)


@GRID
def test_clip_of_whole_numbers(dtype, backend):
    x = samples(dtype)
    with kernels.backend(backend):
        for low, high in [(2, None), (None, 3), (0, 300), (-5, 100), (-(2**70), 2**70), (None, 2**64), (-1, None), (4, 2),
                          (np.iinfo(dtype).min, np.iinfo(dtype).max), (2**63, None), (2**70, None), (None, -(2**70))]:
            values, held = clipped(x, low, high)
            if held:
                same(ag.clip(x, low, high), np.array(values, dtype))
                same(Tensor(x).clamp(min=low, max=high), np.array(values, dtype))
            else:
                with pytest.raises(OverflowError, match="clip"):
                    ag.clip(x, low, high)


@BACKENDS
def test_bools(backend):
    b, c = np.array([True, False, True]), np.array([True, True, False])
    with kernels.backend(backend):
        for name in ("maximum", "minimum"):
            same(getattr(ag, name)(Tensor(b), c), ARITHMETIC[name](b, c))
            same(getattr(ag, name)(Tensor(b), True), ARITHMETIC[name](b, True))
            same(getattr(ag, name)(Tensor(b), 1), ARITHMETIC[name](b.astype(int), 1))
        for n in (-1, 0, 1, 2, 300, 0.5, 1.0, 2.0**70, math.nan, True):
            for name, ufunc in COMPARISONS.items():
                same(getattr(ag, name)(Tensor(b), n), ufunc(b.astype(float), float(n)))
        same(ag.where(c, b, False), np.where(c, b, False))
        same(ag.where(c, b, 7), np.where(c, b, 7))
        same(ag.clip(b, 0, 1), np.clip(b, 0, 1))
        same(ag.clip(b, max=False), np.clip(b, None, False))
        same(ag.clip(b, min=True), np.clip(b, True, None))
        same(Tensor(b) + c, np.array([2, 1, 1]))  # a choice of ours, written in elementwise_op: sums of bools count


@BACKENDS
def test_plain_numbers_among_themselves(backend):
    c = np.array([True, False])
    with kernels.backend(backend):
        same(ag.where(c, 16777217, 0), np.array([16777217, 0]))
        same(ag.where(c, True, False), c)
        same(ag.add(1, 2), np.array(3))
        same(ag.maximum(1, 2), np.array(2))
        same(ag.maximum(True, False), np.array(True))
        same(ag.where(c, 1, 2.5), np.array([1, 2.5], "float32"))
        same(ag.exp(0), np.array(1, "float32"))
        same(ag.divide(1, 2), np.array(0.5, "float32"))
        same(ag.less(16777216, 16777217), np.array(True))
        same(ag.less(16777216.5, 16777217), np.array(True))
        same(ag.isnan(3), np.array(False))
        assert Tensor([7, 8, 9])[ag.where(c, 1, 0)].tolist() == [8, 7]
        for f in (lambda: ag.add(1, 2**63), lambda: ag.where(c, 2**63, 1), lambda: ag.maximum(2**70, 1)):
            with pytest.raises(OverflowError, match="int64"):
                f()


@BACKENDS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats(dtype, backend):
    x = np.array([-np.inf, -1.0, 0.0, 0.1, 16777216.0, np.finfo(dtype).max, np.inf, np.nan], dtype)
    ops = [n for n in ARITHMETIC if n != "power"]
    with kernels.backend(backend), np.errstate(all="ignore"):
        for n in (0.1, -1, 3, 2.5, 16777217, 2**53 + 1, 10**30, 1e30, math.inf, math.nan, True):
            with np.errstate(all="ignore"):
                number = np.array(n, dtype) if abs(n) < 2**53 else np.array(float(n), dtype)
            for name in ops:
                np.testing.assert_array_equal(getattr(ag, name)(Tensor(x), n).numpy(), ARITHMETIC[name](x, number))
            for name in COMPARISONS:
                same(getattr(ag, name)(Tensor(x), n), COMPARISONS[name](x, number))
        for f in (lambda: Tensor(x) + 10**400, lambda: Tensor(x) < 10**400, lambda: 10**400 * Tensor(x)):
            with pytest.raises(OverflowError, match="out of the range of float64|out of the range of float32"):
                f()


@BACKENDS
def test_float32_compared_with_numbers_beyond_it(backend):
    x = Tensor(np.array([-np.inf, 0.0, np.finfo("float32").max, np.inf, np.nan], "float32"))
    with kernels.backend(backend):
        for n in (1e300, 10**300):
            assert (x < n).tolist() == (x <= n).tolist() == [True, True, True, False, False]
            assert (x > n).tolist() == (x >= n).tolist() == [False, False, False, True, False]
            assert not (x == n).numpy().any() and (x != n).numpy().all()


@BACKENDS
def test_numbers_that_are_stored(backend):
    with kernels.backend(backend):
        assert ag.pad(np.array([1, 2], "uint8"), 1, 255).tolist() == [255, 1, 2, 255]
        for value in (256, -1, math.inf, math.nan):
            with pytest.raises(OverflowError, match="pad: .*uint8"):
                ag.pad(np.array([1, 2], "uint8"), 1, value)
        t = Tensor(np.array([1, 2], "int8"))
        t[0] = -128
        assert t.tolist() == [-128, 2]
        with pytest.raises(OverflowError, match="item assignment: .*int8"):
            t[0] = 128
        for data in (300, [1, 300], -1, 2**70):
            with pytest.raises(OverflowError, match="Tensor: .*uint8"):
                Tensor(data, dtype="uint8")
        assert Tensor([1, 255], dtype="uint8").tolist() == [1, 255]


@BACKENDS
def test_negative_powers_of_whole_numbers(backend):
    with kernels.backend(backend):
        for exponent in (-1, np.array([1, -2])):
            with pytest.raises(ValueError, match="power: .*astype.*chapter"):
                Tensor([2, 3]) ** exponent
        assert (Tensor([2, 4]) ** -1.0).tolist() == [0.5, 0.25]


@BACKENDS
def test_clip_between_tensors(backend):
    x, low, high = (Tensor(np.array(v), requires_grad=True) for v in ([-1.0, 0.5, 3.0, 1.0], [0.0, 0.0, 0.0, 2.0],
                                                                      [1.0, 1.0, 1.0, 1.5]))
    with kernels.backend(backend):
        y = ag.clip(x, low, high)
        y.backward(np.array([1.0, 2.0, 3.0, 4.0]))
    assert y.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert x.grad.tolist() == [0, 2, 0, 0] and low.grad.tolist() == [1, 0, 0, 0] and high.grad.tolist() == [0, 0, 3, 4]
    one = Tensor(1.0, requires_grad=True, dtype="float64")
    ag.clip(Tensor(np.array([0.0, 2.0])), one).sum().backward()
    assert one.grad.item() == 1
    assert ag.grad_check(lambda x, low: ag.clip(x, low, 4.0), [0.3, 2.0, 5.0], [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="clip: expected min, max or both"):
        ag.clip(x)


@BACKENDS
def test_axes_of_a_single_number(backend):
    with kernels.backend(backend):
        for axis in (0, -1, (0,), None):
            for f in (ag.sum, ag.mean, ag.max, ag.prod, ag.logsumexp):
                assert f(3.0, axis).item() == pytest.approx(3.0)
    with pytest.raises(IndexError, match="axis 1 is out of range .*has none"):
        ag.sum(3.0, 1)


def test_no_operand_is_left_without_its_gradient_in_silence():
    scale = ag.elementwise_op(lambda x, factor: x * factor, lambda factor: factor, None, name="half_known")
    x, factor = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(TypeError, match="half_known: no gradient is known with respect to factor"):
        scale(x, factor)
    assert scale(x, factor.detach()).requires_grad and not scale(x.detach(), factor.detach()).requires_grad


def test_every_operation_gives_a_gradient_or_refuses():
    "Each operand that requires a gradient, of each operation with formulas, gets one, or the call says that it cannot"
    for name, function in list(ag.add.__globals__["OPS"].items()):
        op = getattr(function, "op", None)
        if op is None or not op.differentiable or name == "half_known":
            continue
        for i in range(op.arity):
            operands = [Tensor(np.full(2, 0.5), requires_grad=i == j) for j in range(op.arity)]
            try:
                y = function(*operands)
            except TypeError as error:
                assert "no gradient is known" in str(error) and op.derivatives[i] is None, (name, i)
                continue
            y.backward(np.ones(2))
            assert operands[i].grad is not None, (name, i)


@BACKENDS
@pytest.mark.parametrize("dtype, number", [("i1", 1000), ("i1", -200), ("u1", -1), ("i4", 2**40), ("u8", -1), ("i8", 2**70)])
def test_launches_of_numbers_that_do_not_fit(dtype, number, backend):
    "Where an operation would choose a wider dtype, a launch has its output: numpy's answer, a refusal, is the kernels' too."
    x, c = np.array([1, 2, 3], dtype), np.array([True, False, True])
    with kernels.backend(backend):
        for kernel in (kernels.add, kernels.subtract, kernels.multiply, kernels.maximum, kernels.minimum):
            out = np.full(3, 7, dtype)
            with pytest.raises(OverflowError):
                kernels.launch(kernel, out, x, number)
            assert (out == 7).all()
        with pytest.raises(OverflowError):
            kernels.launch(kernels.where, np.empty(3, dtype), c, x, number)
        for kernel, wanted in ((kernels.less, number > 3), (kernels.greater_equal, number < 1), (kernels.equal, False)):
            assert (kernels.launch(kernel, np.empty(3, bool), x, number) == wanted).all()
        assert kernels.launch(kernels.add, np.empty(3, "f4"), x.astype("f4"), 2**70).tolist() == [2.0**70] * 3


@BACKENDS
def test_launches_of_fractions_that_meet_whole_numbers(backend):
    x = np.array([1, 2, 3], "i4")
    with kernels.backend(backend):
        for kernel in (kernels.add, kernels.multiply, kernels.maximum):
            out = np.full(3, 7, "i4")
            with pytest.raises(TypeError, match="same_kind"):
                kernels.launch(kernel, out, x, 2.5)
            assert (out == 7).all()
        assert kernels.launch(kernels.less, np.empty(3, bool), x, 2.5).tolist() == [True, True, False]
        assert kernels.launch(kernels.equal, np.empty(3, bool), x, 2.5).tolist() == [False] * 3
        large = np.array([1, 2**64 - 1], "u8")
        assert kernels.launch(kernels.maximum, np.empty(2, "u8"), large, 2**63).tolist() == [2**63, 2**64 - 1]
        assert kernels.launch(kernels.where, np.empty(3, "f4"), x > 1, 0.5, -0.5).tolist() == [-0.5, 0.5, 0.5]
