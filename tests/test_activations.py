"""Activations: values against numpy and scipy, gradients against finite differences, behavior at the extremes."""
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from deepnotes import activations
from deepnotes.autograd import Tensor, grad_check
from deepnotes.kernels import backend

REFERENCE = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
    "softplus": lambda x: np.logaddexp(0, x),
}
BOTH = pytest.mark.parametrize("backend_name", ["numpy", "numba"])
EACH = pytest.mark.parametrize("name", REFERENCE)


@BOTH
@EACH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(name, dtype, backend_name):
    x = np.linspace(-30, 30, 1200).astype(dtype).reshape(3, -1)
    with backend(backend_name):
        y = getattr(activations, name)(Tensor(x)).numpy()
    assert y.dtype == dtype and y.shape == x.shape
    # the reference is rounded to the same dtype; a few units in the last place are the kernels' own rounding
    np.testing.assert_allclose(y, REFERENCE[name](x.astype("float64")), rtol=16 * np.finfo(dtype).eps)


@EACH
@settings(max_examples=25, deadline=None)
@given(x=arrays("float64", array_shapes(min_dims=0, max_dims=3, max_side=4), elements=st.floats(-20, 20)))
def test_shapes_and_strides(name, x):
    f = getattr(activations, name)
    y = f(Tensor(x)).numpy()
    assert y.shape == x.shape
    np.testing.assert_array_equal(f(Tensor(x.T)).numpy(), y.T)


@EACH
def test_gradients(name):
    x = np.array([[-7.0, -1.3, -0.2], [0.3, 1.0, 9.0]])     # no entry within a finite-difference step of a kink
    weights = Tensor(np.array([[1.0, -2.0, 0.5], [3.0, 1.0, -1.0]]))
    grad_check(lambda t: (getattr(activations, name)(t) * weights).sum(), Tensor(x, requires_grad=True))


@BOTH
def test_extremes(backend_name):
    x = np.array([-np.inf, -1e38, -200.0, 200.0, 1e38, np.inf], "float32")
    with backend(backend_name):
        value = {name: getattr(activations, name)(Tensor(x)).numpy() for name in REFERENCE}
        bad = {name: getattr(activations, name)(Tensor([np.nan])).numpy() for name in REFERENCE}
    np.testing.assert_array_equal(value["relu"], [0, 0, 0, 200, np.float32(1e38), np.inf])
    np.testing.assert_array_equal(value["sigmoid"][[0, 1, 4, 5]], [0, 0, 1, 1])
    np.testing.assert_array_equal(value["tanh"], [-1, -1, -1, 1, 1, 1])
    np.testing.assert_array_equal(value["softplus"], [0, 0, 0, 200, np.float32(1e38), np.inf])
    assert value["leaky_relu"][0] == -np.inf
    assert all(np.isnan(y).all() for y in bad.values())


def test_kink_rule():
    for name, at_zero in (("relu", 0.0), ("leaky_relu", 0.25)):
        x = Tensor([0.0], requires_grad=True)
        arguments = (0.25,) if name == "leaky_relu" else ()
        getattr(activations, name)(x, *arguments).sum().backward()
        assert x.grad.numpy()[0] == at_zero


def test_an_infinite_gradient_does_not_leak_through_a_closed_unit():
    x = Tensor([-1.0, 1.0], requires_grad=True)
    activations.relu(x).backward(Tensor([np.inf, 2.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [0, 2])


def test_integers_become_float32():
    assert activations.sigmoid(Tensor([0, 1])).dtype == np.float32
    assert activations.softmax(Tensor([0, 1])).dtype == np.float32


@BOTH
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis, backend_name):
    x = np.random.default_rng(0).normal(scale=30, size=(6, 7))
    with backend(backend_name):
        p = activations.softmax(Tensor(x), axis).numpy()
        log_p = activations.log_softmax(Tensor(x), axis).numpy()
        shifted = activations.softmax(Tensor(x + 1000), axis).numpy()
    np.testing.assert_allclose(p, scipy.special.softmax(x, axis), rtol=1e-13)
    np.testing.assert_allclose(log_p, scipy.special.log_softmax(x, axis), rtol=1e-13)
    np.testing.assert_allclose(p.sum(axis), 1, rtol=0, atol=7 * np.finfo("float64").eps)
    # x + 1000 is rounded to a multiple of 2^-43, and the relative error of exp is the absolute error of its argument
    np.testing.assert_allclose(shifted, p, rtol=2.0**-40)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_gradient(name):
    x = Tensor(np.random.default_rng(1).normal(size=(3, 4)), requires_grad=True)
    weights = Tensor(np.random.default_rng(2).normal(size=(3, 4)))
    for axis in (0, 1):
        grad_check(lambda t, a=axis: (getattr(activations, name)(t, a) * weights).sum(), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backends_agree(dtype):
    x = np.random.default_rng(3).normal(scale=5, size=(50, 20)).astype(dtype)
    for name in [*REFERENCE, "softmax", "log_softmax"]:
        with backend("numpy"):
            slow = getattr(activations, name)(Tensor(x)).numpy()
        with backend("numba"):
            fast = getattr(activations, name)(Tensor(x)).numpy()
        # log_softmax takes the logarithm of a sum that may be 1 + δ, so the rounding of 1 + δ is an absolute error
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(fast, slow, rtol=32 * eps, atol=2 * eps if name == "log_softmax" else 0, err_msg=name)
