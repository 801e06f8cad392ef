"""Losses: values by hand and against scikit-learn, gradients, the far ends of float32, errors that teach."""
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from deepnotes import outputs
from deepnotes.autograd import Tensor, grad_check
from deepnotes.kernels import backend

BOTH = pytest.mark.parametrize("backend_name", ["numpy", "numba"])
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def cross_entropy(z, labels):
    return scipy.special.logsumexp(z, axis=-1) - np.take_along_axis(z, labels[..., None], -1)[..., 0]


def reduce(values, reduction):
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](values)


@BOTH
@REDUCTIONS
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 7)])
def test_cross_entropy_values_and_gradient(shape, reduction, backend_name):
    rng = np.random.default_rng(0)
    z, labels = rng.normal(scale=3, size=shape), rng.integers(0, shape[-1], shape[:-1])
    t = Tensor(z, requires_grad=True)
    with backend(backend_name):
        loss = outputs.cross_entropy(t, labels, reduction)
        loss.sum().backward()
    np.testing.assert_allclose(loss.numpy(), reduce(cross_entropy(z, labels), reduction), rtol=1e-13)
    p_minus_y = scipy.special.softmax(z, -1) - (np.arange(shape[-1]) == labels[..., None])
    rows = labels.size if reduction == "mean" else 1
    np.testing.assert_allclose(t.grad.numpy(), p_minus_y / rows, rtol=1e-12, atol=1e-15)


def test_cross_entropy_is_scikit_learns_log_loss():
    rng = np.random.default_rng(1)
    z, labels = rng.normal(size=(200, 6)), np.arange(200) % 6
    expected = sklearn.metrics.log_loss(labels, scipy.special.softmax(z, -1))
    np.testing.assert_allclose(outputs.cross_entropy(Tensor(z), labels).item(), expected, rtol=1e-12)


@REDUCTIONS
def test_gradients_by_finite_differences(reduction):
    rng = np.random.default_rng(2)
    z, labels, y = rng.normal(size=(4, 3)), rng.integers(0, 3, 4), rng.uniform(size=(4, 3))
    t = Tensor(z, requires_grad=True)
    grad_check(lambda t: outputs.cross_entropy(t, labels, reduction).sum(), t)
    grad_check(lambda t: outputs.binary_cross_entropy_with_logits(t, y, reduction).sum(), t)
    grad_check(lambda t: outputs.mse_loss(t, y, reduction).sum(), t)


def test_gradients_flow_to_targets_too():
    rng = np.random.default_rng(3)
    z, y = Tensor(rng.normal(size=4)), Tensor(rng.uniform(0.1, 0.9, size=4), requires_grad=True)
    grad_check(lambda y: outputs.binary_cross_entropy_with_logits(z, y), y)
    grad_check(lambda y: outputs.mse_loss(z, y), y)


def test_cross_entropy_can_be_differentiated_twice():
    z = np.random.default_rng(4).normal(size=(1, 3))
    t = Tensor(z, requires_grad=True)
    outputs.cross_entropy(t, [1]).backward(create_graph=True)
    g = t.grad
    t.grad = None
    (g * Tensor(np.array([[1.0, 0.0, 0.0]]))).sum().backward()
    p = scipy.special.softmax(z[0])
    np.testing.assert_allclose(t.grad.numpy()[0], (np.diag(p) - np.outer(p, p))[0], rtol=1e-10, atol=1e-14)


@BOTH
def test_confident_logits_stay_finite(backend_name):
    with backend(backend_name):
        z = Tensor(np.array([[1e38, -1e38, 0.0], [0.0, 1000.0, 0.0]], "float32"), requires_grad=True)
        loss = outputs.cross_entropy(z, [0, 0], "none")
        loss.sum().backward()
        np.testing.assert_array_equal(loss.numpy(), [0, 1000])
        np.testing.assert_array_equal(z.grad.numpy(), [[0, 0, 0], [-1, 1, 0]])
        z = Tensor(np.array([1e38, -1e38, 100.0], "float32"), requires_grad=True)
        loss = outputs.binary_cross_entropy_with_logits(z, [1, 0, 0], "none")
        loss.sum().backward()
        np.testing.assert_array_equal(loss.numpy(), [0, 0, 100])
        np.testing.assert_array_equal(z.grad.numpy(), [0, 0, 1])


def test_minus_infinity_masks_a_class():
    z = Tensor(np.array([[0.0, -np.inf, 0.0]]), requires_grad=True)
    loss = outputs.cross_entropy(z, [0])
    loss.backward()
    np.testing.assert_allclose(loss.item(), np.log(2), rtol=1e-15)
    np.testing.assert_allclose(z.grad.numpy(), [[-0.5, 0, 0.5]], rtol=1e-15)
    assert outputs.cross_entropy(Tensor([[0.0, -np.inf]]), [1]).item() == np.inf


def test_binary_and_squared_against_the_textbook():
    rng = np.random.default_rng(5)
    z, y = rng.normal(size=100), rng.integers(0, 2, 100)
    p = scipy.special.expit(z)
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    np.testing.assert_allclose(outputs.binary_cross_entropy_with_logits(Tensor(z), y).item(), expected, rtol=1e-12)
    expected = sklearn.metrics.mean_squared_error(y, z)
    np.testing.assert_allclose(outputs.mse_loss(Tensor(z), y).item(), expected, rtol=1e-12)


def test_empty_batches():
    z = Tensor(np.empty((0, 3), "float32"), requires_grad=True)
    labels = np.empty(0, "int64")
    assert outputs.cross_entropy(z, labels, "sum").item() == 0
    assert outputs.cross_entropy(z, labels, "none").shape == (0,)
    assert outputs.mse_loss(z, np.empty((0, 3)), "sum").item() == 0


def test_float32_stays_float32():
    z = Tensor(np.zeros((2, 3), "float32"))
    for loss in (outputs.cross_entropy(z, [0, 1]), outputs.mse_loss(z, np.zeros((2, 3), int)),
                 outputs.binary_cross_entropy_with_logits(z, np.zeros((2, 3), bool))):
        assert loss.dtype == np.float32 and loss.shape == ()


Z = Tensor(np.zeros((2, 10), "float32"))


@pytest.mark.parametrize("call, error, words", [
    (lambda: outputs.cross_entropy(Z, [3, 12]), ValueError, "labels hold class 12, but logits have 10 columns"),
    (lambda: outputs.cross_entropy(Z, [3, -1]), ValueError, "labels hold class -1"),
    (lambda: outputs.cross_entropy(Z, [1.0, 2.0]), TypeError, "labels must be integer classes, got float64"),
    (lambda: outputs.cross_entropy(Z, [1, 2, 3]), ValueError, r"need labels of shape \(2,\), got \(3,\)"),
    (lambda: outputs.cross_entropy(Z, [[1], [2]]), ValueError, r"got \(2, 1\)"),
    (lambda: outputs.cross_entropy(Tensor([[1, 2]]), [0]), TypeError, "int64"),
    (lambda: outputs.cross_entropy(Z, [1, 2], "avg"), ValueError, "reduction must be"),
    (lambda: outputs.mse_loss(Tensor([1.0, 2.0]), [[1.0], [2.0]]), ValueError, "nothing is broadcast"),
    (lambda: outputs.mse_loss(Tensor([1, 2]), [1, 2]), TypeError, "floating point"),
    (lambda: outputs.binary_cross_entropy_with_logits(Tensor([0.0]), [[0.0]]), ValueError, "must be equal"),
    (lambda: outputs.binary_cross_entropy_with_logits(Tensor([0.0]), [1.5]), ValueError, r"in \[0, 1\]"),
    (lambda: outputs.binary_cross_entropy_with_logits(Tensor([0.0]), [1.0], "total"), ValueError, "reduction"),
])
def test_errors_teach(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter Output units" in str(caught.value)
