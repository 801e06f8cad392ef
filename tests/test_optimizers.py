"""Optimizers: the published rules step by step, known rates on quadratics, saving, and errors."""
import numpy as np
import pytest

from deepnotes.autograd import Tensor
from deepnotes.kernels import backend, recording
from deepnotes.optimizers import SGD, Adam

BOTH = pytest.mark.parametrize("backend_name", ["numpy", "numba"])


def sgd_rule(w, g, memory, t, lr=0.05, momentum=0.9):
    memory["v"] = momentum * memory.get("v", 0) + g
    return w - lr * memory["v"]


def adam_rule(w, g, memory, t, lr=0.05, betas=(0.8, 0.95), eps=1e-6):
    memory["m"] = betas[0] * memory.get("m", 0) + (1 - betas[0]) * g
    memory["u"] = betas[1] * memory.get("u", 0) + (1 - betas[1]) * g**2
    return w - lr * (memory["m"] / (1 - betas[0]**t)) / (np.sqrt(memory["u"] / (1 - betas[1]**t)) + eps)


RULES = pytest.mark.parametrize("make, rule", [
    (lambda p: SGD(p, lr=0.05, momentum=0.9), sgd_rule),
    (lambda p: SGD(p, lr=0.05), lambda w, g, memory, t: w - 0.05 * g),
    (lambda p: Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6), adam_rule),
], ids=["momentum", "sgd", "adam"])


@BOTH
@RULES
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), ("float32", 1e-5)])
def test_trajectory_is_the_published_rule(make, rule, dtype, rtol, backend_name):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 4)), rng.normal(size=(25, 3, 4))
    w = Tensor(start.astype(dtype), requires_grad=True)
    optimizer, expected, memory = make([w]), start, {}
    with backend(backend_name):
        for t, g in enumerate(gradients, start=1):
            optimizer.zero_grad()
            (w * Tensor(g.astype(dtype))).sum().backward()
            optimizer.step()
            expected = rule(expected, g, memory, t)
    assert w.dtype == dtype and optimizer.steps == 25
    np.testing.assert_allclose(w.numpy(), expected, rtol=rtol, atol=rtol)


def distances(make, start, curvature, steps):
    w = Tensor(np.array(start), requires_grad=True)
    optimizer, path = make([w]), []
    for _ in range(steps):
        optimizer.zero_grad()
        (w * w * Tensor(np.array(curvature)) * 0.5).sum().backward()
        optimizer.step()
        path.append(np.linalg.norm(w.numpy()))
    return np.array(path)


def test_gradient_descent_on_a_parabola_is_a_power():
    path = distances(lambda p: SGD(p, lr=0.3), [1.0], [2.0], 20)
    np.testing.assert_allclose(path, (1 - 0.3 * 2.0) ** np.arange(1, 21), rtol=1e-12)
    assert distances(lambda p: SGD(p, lr=1.01), [1.0], [2.0], 100)[-1] > 1       # beyond 2/curvature it diverges


def test_rates_at_condition_number_100():
    # (kappa - 1)/(kappa + 1) for gradient descent at 2/(1 + 100); (sqrt(kappa) - 1)/(sqrt(kappa) + 1) for heavy ball
    plain = distances(lambda p: SGD(p, lr=2 / 101), [1.0, 1.0], [1.0, 100.0], 300)
    heavy = distances(lambda p: SGD(p, lr=(2 / 11) ** 2, momentum=(9 / 11) ** 2), [1.0, 1.0], [1.0, 100.0], 300)
    assert abs(plain[-1] / plain[-2] - 99 / 101) < 1e-9
    # t (9/11)^t would approach its rate like 1/t, the double root of the tuned method: measure it over many steps
    assert abs((heavy[-1] / heavy[99]) ** (1 / 200) - 9 / 11) < 0.01


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_adams_first_step_is_lr_times_sign(scale):
    w = Tensor(np.zeros(4), requires_grad=True)
    optimizer = Adam([w], lr=0.1, eps=1e-12)
    (w * Tensor(scale * np.array([1.0, -2.0, 0.5, -3.0]))).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(w.numpy(), [-0.1, 0.1, -0.1, 0.1], rtol=1e-5)


def test_a_step_is_one_kernel_launch_per_parameter():
    params = [Tensor(np.ones(n, "float32"), requires_grad=True) for n in (3, 5)]
    for make in (Adam, SGD):
        optimizer = make(params)
        optimizer.zero_grad()
        (params[0].sum() + params[1].sum()).backward()
        with recording() as launches:
            optimizer.step()
        assert len(launches) == 2


def test_parameters_without_gradient_rest():
    used, unused = (Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    optimizer = SGD([used, unused], lr=0.5)
    used.sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(used.numpy(), [0.5, 0.5])
    np.testing.assert_array_equal(unused.numpy(), [1, 1])
    optimizer.zero_grad()
    assert used.grad is None
    optimizer.step()
    np.testing.assert_array_equal(used.numpy(), [0.5, 0.5])


def test_a_step_invalidates_graphs_that_used_the_old_weights():
    w, x = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    y = (w * x).sum()
    optimizer = SGD([w])
    (w * w).sum().backward()
    optimizer.step()
    with pytest.raises(RuntimeError):
        y.backward()


@RULES
def test_a_saved_optimizer_goes_on_bit_for_bit(make, rule):
    gradients = np.random.default_rng(1).normal(size=(10, 5)).astype("float32")

    def run(optimizer, w, part):
        for g in part:
            optimizer.zero_grad()
            (w * Tensor(g)).sum().backward()
            optimizer.step()

    w = Tensor(np.ones(5, "float32"), requires_grad=True)
    optimizer = make([w])
    run(optimizer, w, gradients[:4])
    saved, weights = optimizer.state_dict(), w.numpy().copy()
    run(optimizer, w, gradients[4:])
    v = Tensor(weights, requires_grad=True)
    resumed = make([v])
    resumed.lr = 123.0
    resumed.load_state_dict(saved)
    run(resumed, v, gradients[4:])
    np.testing.assert_array_equal(v.numpy(), w.numpy())


def test_load_state_dict_refuses_what_does_not_fit():
    w = Tensor([1.0, 2.0], requires_grad=True)
    adam = Adam([w])
    for other in (SGD([w]), Adam([Tensor([1.0], requires_grad=True)]), Adam([w, Tensor([1.0], requires_grad=True)])):
        with pytest.raises(ValueError, match="nothing was changed"):
            adam.load_state_dict(other.state_dict())
    assert adam.steps == 0


W = Tensor([1.0], requires_grad=True)


@pytest.mark.parametrize("call, error, words", [
    (lambda: SGD([W], lr=0.0), ValueError, "SGD: lr must be positive and finite, got 0.0"),
    (lambda: SGD([W], lr=np.nan), ValueError, "lr must be"),
    (lambda: SGD([W], momentum=1.0), ValueError, r"momentum must be in \[0, 1\)"),
    (lambda: Adam([W], lr=np.inf), ValueError, "lr must be"),
    (lambda: Adam([W], betas=(0.9, 1.0)), ValueError, "betas must be"),
    (lambda: Adam([W], betas=(0.9,)), ValueError, "betas must be"),
    (lambda: Adam([W], eps=0.0), ValueError, "eps must be"),
    (lambda: Adam([]), ValueError, "no parameters"),
    (lambda: Adam([W, W]), ValueError, "listed twice"),
    (lambda: Adam([np.ones(2)]), TypeError, "parameter 0 is a ndarray"),
])
def test_errors_teach(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter Optimizers" in str(caught.value)
