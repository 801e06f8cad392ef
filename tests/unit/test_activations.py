"""Activations: values against scipy in float64, gradients, extremes, shapes, errors, both backends."""
import json
import math

import mpmath
import numpy as np
import pytest
import scipy.special as sp
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from deepnotes import activations, autograd
from deepnotes.activations import UNITS
from deepnotes.autograd import Tensor, elementwise_op, grad_check
from deepnotes.kernels import backend

NASTY = json.loads((ROOT / "tests" / "data" / "nasty.json").read_text())["cases"]
BOTH = pytest.mark.parametrize("name_of_backend", ["numpy", "numba"])
EACH = pytest.mark.parametrize("name", UNITS)



def normal_cdf(x):
    "P(Z <= x) in 30 digits; scipy's ndtr is off by 2e-13 in the tail."
    with mpmath.workdps(30):
        return np.vectorize(lambda v: float(mpmath.erfc(-mpmath.mpf(float(v)) / mpmath.sqrt(2)) / 2), otypes=[float])(x)


LAMBDA, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
REFERENCE = {
    "sigmoid": sp.expit, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "prelu": lambda x: np.where(x > 0, x, 0.25 * x), "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2)),
    "selu": lambda x: LAMBDA * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0))), "gelu": lambda x: x * normal_cdf(x),
    "gelu_tanh": lambda x: x * sp.expit(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)), "silu": lambda x: x * sp.expit(x),
    "swish": lambda x: x * sp.expit(2 * x), "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))), "softplus": lambda x: np.logaddexp(0, x),
    "logsigmoid": sp.log_expit, "softsign": lambda x: x / (1 + np.abs(x)), "relu6": lambda x: np.clip(x, 0, 6),
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6, "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hardtanh": lambda x: np.clip(x, -1, 1), "tanhshrink": lambda x: x - np.tanh(x),
    "softshrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0), "hardshrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "threshold": lambda x: np.where(x > 1, x, 0),
}
AT_INFINITY = {  # the limits, by hand: values and slopes at -inf and +inf
    "sigmoid": (0, 1, 0, 0), "tanh": (-1, 1, 0, 0), "relu": (0, math.inf, 0, 1), "leaky_relu": (-math.inf, math.inf, 0.01, 1),
    "prelu": (-math.inf, math.inf, 0.25, 1), "elu": (-1, math.inf, 0, 1), "celu": (-2, math.inf, 0, 1),
    "selu": (-LAMBDA * ALPHA, math.inf, 0, LAMBDA), "gelu": (0, math.inf, 0, 1), "gelu_tanh": (0, math.inf, 0, 1),
    "silu": (0, math.inf, 0, 1), "swish": (0, math.inf, 0, 1), "mish": (0, math.inf, 0, 1), "softplus": (0, math.inf, 0, 1),
    "logsigmoid": (-math.inf, 0, 1, 0), "softsign": (-1, 1, 0, 0), "relu6": (0, 6, 0, 0), "hardsigmoid": (0, 1, 0, 0),
    "hardswish": (0, math.inf, 0, 1), "hardtanh": (-1, 1, 0, 0), "tanhshrink": (-math.inf, math.inf, 1, 1),
    "softshrink": (-math.inf, math.inf, 1, 1), "hardshrink": (-math.inf, math.inf, 1, 1), "threshold": (0, math.inf, 0, 1),
}


def slope(f, x):
    t = Tensor(x, requires_grad=True)
    f(t).sum().backward()
    return t.grad.numpy()


def test_every_unit_has_a_reference():
    assert REFERENCE.keys() == AT_INFINITY.keys() == UNITS.keys()


@BOTH
@EACH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(name, dtype, name_of_backend):
    x = np.linspace(-12, 12, 1203).astype(dtype).reshape(3, -1)
    with backend(name_of_backend):
        y = UNITS[name](Tensor(x)).numpy()
    assert y.dtype == dtype and y.shape == x.shape
    want = REFERENCE[name](x.astype("float64"))
    # An exponential of an argument of size a carries a units of rounding: 12 for exp(-12), and
    # gelu_tanh's cubic reaches 2 * 71. The reference x - tanh(x) itself cancels near 0, so an absolute term is granted to it.
    units = {"gelu_tanh": 600}.get(name, 32)
    atol = np.finfo("float64").eps if name in ("tanhshrink", "mish") else 1e-37
    np.testing.assert_allclose(y, want, rtol=units * np.finfo(dtype).eps, atol=atol)


@BOTH
@EACH
def test_slopes(name, name_of_backend):
    breaks = np.array(activations.kinks(UNITS[name]))
    x = np.linspace(-9.01, 9.03, 31)
    x = x[(np.abs(x[:, None] - breaks) > 1e-3).all(1)]
    with backend(name_of_backend):
        assert grad_check(lambda t: UNITS[name](t), x)
        assert np.isnan(UNITS[name](Tensor([np.nan])).numpy()).all()


@BOTH
@EACH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits(name, dtype, name_of_backend):
    f, ends = UNITS[name], np.array([-np.inf, np.inf], dtype)
    with backend(name_of_backend):
        got = [*f(Tensor(ends)).numpy(), *slope(f, ends)]
        far = slope(f, np.array([-1e38, 1e38], dtype))
    np.testing.assert_allclose(got, AT_INFINITY[name], rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(far, AT_INFINITY[name][2:], rtol=4 * np.finfo(dtype).eps, atol=1e-37)


def as_floats(entries):
    return np.array([float(v) for v in np.array(entries, dtype=object).reshape(-1)])


OURS = {"gelu_tanh": lambda x: activations.gelu(x, "tanh"), **{c["op"]: getattr(activations, c["op"]) for c in NASTY
        if hasattr(activations, c["op"]) and c["op"] in {*UNITS, "softmax", "log_softmax"}}}


@BOTH
@pytest.mark.parametrize("case", [c for c in NASTY if c["op"] in OURS and "error" not in c], ids=lambda c: c["id"])
def test_nasty(case, name_of_backend):
    "Where the exact value is known, ours is within rounding of it, whatever other libraries return there."
    given_x = case["inputs"]["x"]
    x = as_floats(given_x["data"]).reshape(given_x["shape"]).astype(given_x["dtype"])
    axis = {"axis": case["kwargs"]["dim"]} if "dim" in case["kwargs"] else {}
    with backend(name_of_backend):
        t = Tensor(x, requires_grad=x.dtype.kind == "f")
        y = OURS[case["op"]](t, **axis)
        if t.requires_grad:
            weights = as_floats(case["cotangent"]).reshape(y.shape) if "cotangent" in case else np.ones(y.shape)
            y.backward(Tensor(weights.astype(y.dtype)))
    half = given_x["dtype"] == "float16"                       # stored and computed as float32
    assert y.dtype == ("float32" if half or x.dtype.kind != "f" else given_x["dtype"])
    rtol, tiny = {"float64": (1e-12, 1e-307)}.get(str(y.dtype), (1e-5, 2e-37))
    known = case.get("exact")
    want = as_floats(case["output"]["data"] if known is None or None in known else known).reshape(y.shape)
    if half and case["op"] in ("softmax", "log_softmax"):
        want = getattr(sp, case["op"])(x.astype("float64"), axis.get("axis", -1))
    np.testing.assert_allclose(y.numpy(), want, rtol=rtol, atol=tiny)
    if t.requires_grad and not (half and case["op"] in ("softmax", "log_softmax")):
        known = case.get("exact_grad")
        torch, exact = as_floats(case["grads"]["x"]["data"]), known or [None] * x.size
        # at a kink, and for nan inputs, there is no exact slope; what other libraries chose is accepted
        for i, (got, ref, true) in enumerate(zip(t.grad.numpy().reshape(-1), torch, exact, strict=True)):
            free = math.isnan(x.reshape(-1)[i]) if x.size == torch.size else False
            ok = [v for v in (None if true is None else float(true), float(ref) if true is None or free else None) if v is not None]
            eps = float(np.finfo(y.dtype).eps)
            assert any(got == v or np.isnan(got) and np.isnan(v) or abs(got - v) <= eps + 10 * rtol * abs(v) for v in ok), \
                f"entry {i}, x = {x.reshape(-1)[i]}: slope {got}, expected {ok}"


def test_gelu_keeps_its_tail():
    x = np.array([-5, -8, -12], "float32")
    np.testing.assert_allclose(activations.gelu(Tensor(x)).numpy(), x * normal_cdf(x), rtol=2e-6)
    naive = np.float32(0.5) * x * (np.float32(1) + sp.erf(x / np.float32(2**0.5)))
    assert naive[1] == 0 and abs(naive[0] / (x[0] * normal_cdf(-5.0)) - 1) > 0.01        # the usual formula loses it


def test_tanhshrink_does_not_cancel():
    x = np.array([1e-4, 1e-2, 0.3], "float32")
    x64 = x.astype("float64")
    want = x64**3 / 3 - 2 * x64**5 / 15 + 17 * x64**7 / 315 - 62 * x64**9 / 2835 + 1382 * x64**11 / 155925
    np.testing.assert_allclose(activations.tanhshrink(Tensor(x)).numpy(), want, rtol=1e-6)


def test_normal_tail_over_the_whole_range():
    z = np.linspace(0, 37, 1001)
    np.testing.assert_allclose(activations._normal_tail(z), normal_cdf(-z), rtol=8 * np.finfo("float64").eps)
    cdf = elementwise_op(activations._normal_cdf, name="test_cdf")
    for name in ("numpy", "numba"):
        with backend(name):
            x = np.linspace(-12.5, 5, 1001).astype("float32")
            np.testing.assert_allclose(cdf(x).numpy(), normal_cdf(x), rtol=16 * np.finfo("float32").eps)


@EACH
@settings(max_examples=15, deadline=None)
@given(x=arrays("float64", array_shapes(min_dims=0, max_dims=4, max_side=4), elements=st.floats(-20, 20)))
def test_shapes_and_strides(name, x):
    f = UNITS[name]
    if name == "prelu":
        f = lambda t: activations.prelu(t, 0.25)  # noqa: E731
    y = f(Tensor(x)).numpy()
    assert y.shape == x.shape
    np.testing.assert_array_equal(f(Tensor(x.T)).numpy(), y.T)
    np.testing.assert_array_equal(f(Tensor(x[..., :0] if x.ndim else x)).shape, x[..., :0].shape if x.ndim else ())


@EACH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backends_agree(name, dtype):
    x = np.random.default_rng(3).normal(scale=4, size=(40, 30)).astype(dtype)
    with backend("numpy"):
        slow, slow_slope = UNITS[name](Tensor(x)).numpy(), slope(UNITS[name], x)
    with backend("numba"):
        fast, fast_slope = UNITS[name](Tensor(x)).numpy(), slope(UNITS[name], x)
    units = 600 if name == "gelu_tanh" else 64
    np.testing.assert_allclose(fast, slow, rtol=units * np.finfo(dtype).eps, atol=1e-37)
    # slopes of self-gated units pass through 0, where their parts cancel: an absolute error of a few roundings stays
    np.testing.assert_allclose(fast_slope, slow_slope, rtol=units * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


SMOOTH = ["sigmoid", "tanh", "softplus", "logsigmoid", "gelu", "gelu_tanh", "silu", "swish", "mish", "tanhshrink"]


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives(name):
    second = lambda t: autograd.grad(lambda u: UNITS[name](u).sum())(t)  # noqa: E731
    assert grad_check(second, np.array([-3.1, -0.7, 0.2, 0.9, 2.4]), rtol=1e-4)


def test_kink_rule():
    at = {"relu": (0, 0), "leaky_relu": (0, 0.01), "relu6": (6, 0), "hardtanh": (-1, 0), "hardsigmoid": (3, 0), "softshrink": (0.5, 0),
          "hardshrink": (-0.5, 0), "threshold": (1, 0), "elu": (0, 1)}
    for name, (x, want) in at.items():
        assert slope(UNITS[name], np.array([x], "float64"))[0] == want, name


def test_an_infinite_gradient_does_not_leak_through_a_closed_unit():
    for name in ("relu", "relu6", "hardtanh", "hardswish", "softshrink", "threshold"):
        x = Tensor([-8.0 if name not in ("softshrink",) else 0.1, 0.9, 2.0], requires_grad=True)
        UNITS[name](x).backward(Tensor([np.inf, 1.0, 1.0]))
        assert x.grad.numpy()[0] == 0, name


def test_prelu_learns_its_slope():
    x = np.array([[-2.0, 1.0, -3.0], [4.0, -5.0, -1.0]])
    for weight in ([0.25], [0.1, 0.2, 0.3]):
        w = np.array(weight)
        assert grad_check(lambda t, u: activations.prelu(t, u) * np.array([[1.0, 2, 3], [4, 5, 6]]), x, w)
        np.testing.assert_array_equal(activations.prelu(x, w).numpy(), np.where(x > 0, x, w * x))
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    slopes = np.array([0.1, 0.2, 0.3])
    want = np.where(images > 0, images, slopes[:, None, None] * images)
    np.testing.assert_array_equal(activations.prelu(images, slopes).numpy(), want)
    with pytest.raises(ValueError, match=r"expected 1 slope or 3 .* axis 1 .* weight of shape \(2,\)"):
        activations.prelu(x, np.array([0.1, 0.2]))


def test_swish_learns_its_sharpness():
    assert grad_check(lambda x, b: activations.swish(x, b), np.array([-2.0, -0.3, 1.5]), np.array(1.7))
    assert grad_check(lambda x, b: activations.swish(x, b), np.array([[-2.0, -0.3, 1.5]]), np.array([[0.5], [2.0]]))
    beta = Tensor(np.float32(1.0), requires_grad=True)
    activations.swish(np.array([-np.inf, np.inf], "float32"), beta).backward(np.ones(2, "float32"))
    assert beta.grad.numpy() == 0


@BOTH
@pytest.mark.parametrize("name, gate", [("glu", sp.expit), ("geglu", REFERENCE["gelu"]), ("swiglu", REFERENCE["silu"])])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gated(name, gate, axis, name_of_backend):
    x = np.random.default_rng(1).normal(size=(4, 6, 2))
    f = getattr(activations, name)
    a, b = np.split(x, 2, axis)
    with backend(name_of_backend):
        np.testing.assert_allclose(f(x, axis).numpy(), a * gate(b), rtol=1e-13)
        weights = np.random.default_rng(2).normal(size=a.shape)
        assert grad_check(lambda t: f(t, axis) * weights, x)
        assert grad_check(lambda t: autograd.grad(lambda u: f(u, axis).sum())(t), x[:2, :2])
        assert f(np.arange(8).reshape(2, 4)).dtype == np.float32 and f(np.ones((0, 4), "float32")).shape == (0, 2)
    with pytest.raises(ValueError, match=rf"{name}: expected an axis of even size.*\(2, 3\)"):
        f(np.ones((2, 3)))


def test_maxout():
    x = np.array([[1.0, 5, 2, 2, -3, -1]])
    np.testing.assert_array_equal(activations.maxout(x, 2).numpy(), [[5, 2, -1]])
    np.testing.assert_array_equal(activations.maxout(x, 3).numpy(), [[5, 2]])
    t = Tensor(x, requires_grad=True)
    activations.maxout(t, 2).backward(np.ones((1, 3)))
    np.testing.assert_array_equal(t.grad.numpy(), [[0, 1, 0.5, 0.5, 0, 1]])
    y = np.random.default_rng(0).normal(size=(6, 5))
    np.testing.assert_array_equal(activations.maxout(y, 2, axis=0).numpy(), y.reshape(3, 2, 5).max(1))
    with pytest.raises(ValueError, match="multiple of pieces=4"):
        activations.maxout(x, 4)


@BOTH
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis, name_of_backend):
    x = np.random.default_rng(0).normal(scale=30, size=(6, 7))
    with backend(name_of_backend):
        p = activations.softmax(x, axis).numpy()
        log_p = activations.log_softmax(x, axis).numpy()
        q = activations.softmin(x, axis).numpy()
    np.testing.assert_allclose(p, sp.softmax(x, axis), rtol=1e-13)
    np.testing.assert_allclose(log_p, sp.log_softmax(x, axis), rtol=1e-13)
    np.testing.assert_allclose(q, sp.softmax(-x, axis), rtol=1e-13)
    np.testing.assert_allclose(p.sum(axis), 1, rtol=0, atol=7 * np.finfo("float64").eps)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_softmax_gradient(name):
    x, weights = np.random.default_rng(1).normal(size=(3, 4)), np.random.default_rng(2).normal(size=(3, 4))
    for axis in (0, 1):
        assert grad_check(lambda t, a=axis: getattr(activations, name)(t, a) * weights, x)


def test_integers_become_float32():
    for name in UNITS:
        assert UNITS[name](Tensor([0, 1])).dtype == np.float32, name


def test_errors_teach():
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match="leaky_relu: negative_slope must be a number, got Tensor; for a slope that learns use prelu"):
        activations.leaky_relu(x, Tensor(0.1))
    with pytest.raises(ValueError, match="softplus: beta must be larger than 0, got -1"):
        activations.softplus(x, -1)
    with pytest.raises(ValueError, match="celu: alpha must be larger than 0"):
        activations.celu(x, 0)
    with pytest.raises(ValueError, match="hardtanh: max_val must be larger than 2, got 1"):
        activations.hardtanh(x, 2, 1)
    with pytest.raises(ValueError, match="gelu: approximate must be 'none' or 'tanh', got 'sigmoid'"):
        activations.gelu(x, "sigmoid")
    with pytest.raises(ValueError, match="softshrink: lambd must be at least 0"):
        activations.softshrink(x, -0.5)
    with pytest.raises(ValueError, match="no unit is called 'rleu'"):
        activations.card("rleu")
