"""Losses: values by hand, against scipy and scikit-learn, gradients, the far ends of float32, and errors that teach."""

import json
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnotes import autograd, outputs
from deepnotes.autograd import Tensor, grad_check
from deepnotes.kernels import backend, recording, replay

BOTH = pytest.mark.parametrize("backend_name", ["numpy", "numba"])
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def rows_of_cross_entropy(z, labels):
    return scipy.special.logsumexp(z, axis=-1) - np.take_along_axis(z, labels[..., None], -1)[..., 0]


def reduced(values, reduction):
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](values)


def value_and_gradient(loss, z, *args, **kwargs):
    t = Tensor(z, requires_grad=True)
    value = loss(t, *args, **kwargs)
    value.sum().backward()
    return value.numpy(), t.grad.numpy()


# Cross-entropy


@BOTH
@REDUCTIONS
@pytest.mark.parametrize("n, classes", [(5, 3), (1, 1), (700, 3), (3, 5000), (64, 17)])
def test_cross_entropy_values_and_gradient(n, classes, reduction, backend_name):
    rng = np.random.default_rng(n)
    z, labels = rng.normal(scale=3, size=(n, classes)), rng.integers(0, classes, n)
    with backend(backend_name):
        loss, gradient = value_and_gradient(outputs.cross_entropy, z, labels, reduction=reduction)
    np.testing.assert_allclose(loss, reduced(rows_of_cross_entropy(z, labels), reduction), rtol=1e-12, atol=1e-15)
    p_minus_y = scipy.special.softmax(z, -1) - (np.arange(classes) == labels[:, None])
    np.testing.assert_allclose(gradient, p_minus_y / (n if reduction == "mean" else 1), rtol=1e-11, atol=1e-15)


@BOTH
def test_classes_are_on_axis_one_as_in_pytorch_or_where_axis_says(backend_name):
    rng = np.random.default_rng(1)
    z, labels = rng.normal(size=(2, 5, 3, 4)), rng.integers(0, 5, (2, 3, 4))
    last = np.moveaxis(z, 1, -1)
    expected = rows_of_cross_entropy(last, labels)
    with backend(backend_name):
        np.testing.assert_allclose(outputs.cross_entropy(z, labels, reduction="none").numpy(), expected, rtol=1e-12)
        np.testing.assert_allclose(
            outputs.cross_entropy(last, labels, axis=-1, reduction="none").numpy(), expected, rtol=1e-12
        )
        np.testing.assert_allclose(outputs.cross_entropy(z, labels).item(), expected.mean(), rtol=1e-12)
        _, gradient = value_and_gradient(outputs.cross_entropy, z, labels, reduction="sum")
    expected = scipy.special.softmax(z, 1) - (np.arange(5)[:, None, None] == labels[:, None])
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-14)
    assert outputs.cross_entropy(z[0, :, 0, 0], 2).shape == ()


@BOTH
@REDUCTIONS
def test_labels_and_one_hot_probabilities_agree_with_weights_and_smoothing(reduction, backend_name):
    rng = np.random.default_rng(2)
    z, labels, weight = rng.normal(size=(6, 4)), rng.integers(0, 4, 6), rng.uniform(0.5, 2, 4)
    target = 0.8 * np.eye(4)[labels] + 0.2 / 4
    rows = -(target * weight * scipy.special.log_softmax(z, -1)).sum(-1)
    with backend(backend_name):
        by_label = outputs.cross_entropy(z, labels, weight, label_smoothing=0.2, reduction=reduction)
        by_probability = outputs.cross_entropy(z, np.eye(4)[labels], weight, label_smoothing=0.2, reduction=reduction)
    np.testing.assert_allclose(by_probability.numpy(), reduced(rows, reduction), rtol=1e-12)
    expected = rows.sum() / weight[labels].sum() if reduction == "mean" else reduced(rows, reduction)
    np.testing.assert_allclose(by_label.numpy(), expected, rtol=1e-12)


def test_the_weighted_mean_divides_by_the_weights_that_were_used():
    z, labels, weight = np.zeros((3, 2)), np.array([0, 0, 1]), np.array([1.0, 3.0])
    assert outputs.cross_entropy(z, labels, weight).item() == pytest.approx(math.log(2), rel=1e-15)
    assert outputs.cross_entropy(z, labels, weight, reduction="sum").item() == pytest.approx(5 * math.log(2), rel=1e-15)


@BOTH
def test_ignored_rows_count_for_nothing(backend_name):
    rng = np.random.default_rng(3)
    z, labels = rng.normal(size=(6, 3)), np.array([0, -1, 2, -1, 1, 1])
    z[1] = np.nan
    used = labels >= 0
    with backend(backend_name):
        for reduction in ("mean", "sum"):
            loss, gradient = value_and_gradient(outputs.cross_entropy, z, labels, ignore_index=-1, reduction=reduction)
            expected, kept = value_and_gradient(outputs.cross_entropy, z[used], labels[used], reduction=reduction)
            np.testing.assert_allclose(loss, expected, rtol=1e-14)
            np.testing.assert_allclose(gradient[used], kept, rtol=1e-14)
            assert not gradient[~used].any()
        loss, gradient = value_and_gradient(outputs.cross_entropy, z, labels, ignore_index=-1, reduction="none")
        assert loss[1] == 0 and not gradient[~used].any()
        loss, gradient = value_and_gradient(outputs.cross_entropy, z, np.full(6, -100))
        assert np.isnan(loss) and not gradient.any()
        assert outputs.cross_entropy(z, np.full(6, -100), reduction="sum").item() == 0


def test_cross_entropy_is_scikit_learns_log_loss():
    rng = np.random.default_rng(4)
    z, labels, weight = rng.normal(size=(200, 6)), np.arange(200) % 6, rng.uniform(0.1, 2, 6)
    p = scipy.special.softmax(z, -1)
    assert outputs.cross_entropy(z, labels).item() == pytest.approx(sklearn.metrics.log_loss(labels, p), rel=1e-12)
    expected = sklearn.metrics.log_loss(labels, p, sample_weight=weight[labels])
    assert outputs.cross_entropy(z, labels, weight).item() == pytest.approx(expected, rel=1e-12)


@BOTH
def test_cross_entropy_can_be_differentiated_twice(backend_name):
    z, weight = np.random.default_rng(5).normal(size=(3, 4)), [0.5, 1, 2, 3]
    direction = np.random.default_rng(6).normal(size=(3, 4))

    def slope(t, target, **options):
        t = Tensor(t, requires_grad=True) if not isinstance(t, Tensor) else t
        return (autograd.grad(lambda t: outputs.cross_entropy(t, target, weight, **options))(t) * direction).sum()

    with backend(backend_name):
        grad_check(lambda t: slope(t, [0, 3, 1]), z)
        grad_check(lambda t: slope(t, [0, -100, 1], label_smoothing=0.3), z)
        grad_check(lambda t: slope(t, np.full((3, 4), 0.25)), z)


def test_the_hessian_is_the_covariance_of_the_one_hot_label():
    z = np.random.default_rng(7).normal(size=4)
    p = scipy.special.softmax(z)
    rows = [
        autograd.grad(lambda t, i=i: autograd.grad(lambda t: outputs.cross_entropy(t, 1))(t)[i])(Tensor(z)).numpy()
        for i in range(4)
    ]
    np.testing.assert_allclose(rows, np.diag(p) - np.outer(p, p), rtol=1e-11, atol=1e-15)


@BOTH
def test_float32_row_of_fifty_thousand_classes(backend_name):
    rng = np.random.default_rng(8)
    z, labels = rng.normal(size=(4, 50_000)).astype("float32"), rng.integers(0, 50_000, 4)
    with backend(backend_name):
        loss, gradient = value_and_gradient(outputs.cross_entropy, z, labels, reduction="none")
    exact = rows_of_cross_entropy(z.astype("float64"), labels)
    np.testing.assert_allclose(loss, exact, rtol=1e-6)
    p = scipy.special.softmax(z.astype("float64"), -1) - (np.arange(50_000) == labels[:, None])
    np.testing.assert_allclose(gradient, p, rtol=2e-6, atol=1e-12)
    assert np.abs(gradient.sum(1, dtype="float64")).max() < 1e-5


def test_a_recorded_step_replays_with_other_numbers():
    z, labels = Tensor(np.array([[0.0, 1.0], [2.0, 0.0]], "float32"), requires_grad=True), np.array([0, 1])
    with recording() as launches:
        loss = outputs.cross_entropy(z, labels)
        loss.backward()
    gradient = z.grad.numpy()
    z.data[...], labels[...] = [[3, 0], [1, 1]], [1, 0]
    replay(launches)
    expected, slope = value_and_gradient(outputs.cross_entropy, z.data.copy(), labels)
    assert loss.item() == expected
    np.testing.assert_array_equal(gradient, slope)


@BOTH
def test_non_contiguous_and_narrow_integer_labels(backend_name):
    rng = np.random.default_rng(9)
    wide, labels = rng.normal(size=(8, 6)), rng.integers(0, 3, 8)
    with backend(backend_name):
        for z in (wide[:, ::2], np.asfortranarray(wide[:, :3]), np.broadcast_to(wide[:1, :3], (8, 3))):
            for y in (
                labels,
                labels.astype("int8"),
                labels.astype("uint64"),
                np.repeat(labels, 2)[::2],
                labels.tolist(),
            ):
                loss, gradient = value_and_gradient(outputs.cross_entropy, z, y)
                assert loss == pytest.approx(rows_of_cross_entropy(z, labels).mean(), rel=1e-13)
                assert gradient.shape == z.shape


# Properties


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.floats(0, 60), st.integers(0, 2**32 - 1))
def test_softmax_and_cross_entropy_invariants(n, classes, scale, seed):
    rng = np.random.default_rng(seed)
    z, labels = (scale * rng.normal(size=(n, classes))).astype("float32"), rng.integers(0, classes, n)
    p = autograd.softmax(z, -1).numpy()
    assert np.abs(p.astype("float64").sum(-1) - 1).max() <= 2 * np.finfo("float32").eps
    loss, gradient = value_and_gradient(outputs.cross_entropy, z, labels, reduction="none")
    assert (loss >= 0).all()
    np.testing.assert_allclose(gradient, p - (np.arange(classes) == labels[:, None]), rtol=1e-5, atol=3e-7)
    assert np.abs(gradient.astype("float64").sum(-1)).max() <= 1e-6
    shifted = outputs.cross_entropy((z * 16).round() / 16 + 1024, labels, reduction="none").numpy()  # exact in float32
    np.testing.assert_array_equal(
        shifted, outputs.cross_entropy((z * 16).round() / 16, labels, reduction="none").numpy()
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20), st.integers(0, 16))
def test_binary_cross_entropy_invariants(logits, y):
    z = np.array(logits, "float32")
    y = np.full_like(z, y / 16)  # 1 - y is exact
    loss, gradient = value_and_gradient(outputs.binary_cross_entropy_with_logits, z, y, reduction="sum")
    mirrored, opposite = value_and_gradient(outputs.binary_cross_entropy_with_logits, -z, 1 - y, reduction="sum")
    exact = np.logaddexp(0, -z.astype("float64")) * y + np.logaddexp(0, z.astype("float64")) * (1 - y.astype("float64"))
    np.testing.assert_allclose(loss, exact.sum(), rtol=2e-6)
    np.testing.assert_allclose(gradient, scipy.special.expit(z.astype("float64")) - y, rtol=1e-5, atol=2e-7)
    assert mirrored == pytest.approx(loss, rel=1e-5) and np.allclose(opposite, -gradient, atol=3e-7)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "poisson_nll_loss"]),
    st.sampled_from([(), (0,), (3,), (2, 0, 3), (2, 3, 4)]),
    st.sampled_from(["float32", "float64"]),
)
def test_backends_agree_on_every_shape(name, shape, dtype):
    rng = np.random.default_rng(10)
    z, y = rng.normal(size=shape).astype(dtype), rng.integers(0, 2, shape).astype(dtype)
    found = []
    for backend_name in ("numpy", "numba"):
        with backend(backend_name):
            found.append(value_and_gradient(getattr(outputs, name), z, y, reduction="none"))
    for a, b in zip(*found, strict=True):
        assert a.shape == shape and a.dtype == dtype
        np.testing.assert_allclose(
            a, b, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-6 if dtype == "float32" else 1e-13
        )


# The other losses

RNG = np.random.default_rng(11)
Z, Y = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3))
P, T = RNG.uniform(0.05, 0.95, (5, 3)), RNG.uniform(0.05, 0.95, (5, 3))
COUNTS = RNG.poisson(2.0, (5, 3)).astype(float)
SIGNS = np.where(RNG.uniform(size=(5, 3)) < 0.5, -1.0, 1.0)
AGAINST = {
    "mse_loss": (outputs.mse_loss, (Z, Y), (Z - Y) ** 2),
    "l1_loss": (outputs.l1_loss, (Z, Y), np.abs(Z - Y)),
    "huber_loss": (lambda z, y, **k: outputs.huber_loss(z, y, delta=0.7, **k), (Z, Y), scipy.special.huber(0.7, Z - Y)),
    "binary_cross_entropy": (
        outputs.binary_cross_entropy,
        (P, T),
        scipy.special.entr(T)
        + scipy.special.entr(1 - T)
        + scipy.special.rel_entr(T, P)
        + scipy.special.rel_entr(1 - T, 1 - P),
    ),
    "binary_cross_entropy_with_logits": (
        outputs.binary_cross_entropy_with_logits,
        (Z, T),
        -T * scipy.special.log_expit(Z) - (1 - T) * scipy.special.log_expit(-Z),
    ),
    "pos_weight": (
        lambda z, y, **k: outputs.binary_cross_entropy_with_logits(z, y, pos_weight=[1.0, 2.0, 0.5], **k),
        (Z, T),
        -np.array([1, 2, 0.5]) * T * scipy.special.log_expit(Z) - (1 - T) * scipy.special.log_expit(-Z),
    ),
    "kl_div": (outputs.kl_div, (np.log(P), T), scipy.special.rel_entr(T, P)),
    "kl_div_log": (
        lambda q, p, **k: outputs.kl_div(q, p, log_target=True, **k),
        (np.log(P), np.log(T)),
        scipy.special.rel_entr(T, P),
    ),
    "gaussian_nll_loss": (
        lambda m, v, **k: outputs.gaussian_nll_loss(m, Y, v, full=True, **k),
        (Z, P),
        -scipy.stats.norm.logpdf(Y, Z, np.sqrt(P)),
    ),
    "poisson_nll_loss": (
        lambda z, **k: outputs.poisson_nll_loss(z, COUNTS, **k),
        (Z,),
        -scipy.stats.poisson.logpmf(COUNTS, np.exp(Z)) - scipy.special.gammaln(COUNTS + 1),
    ),
    "poisson_rate": (
        lambda r, **k: outputs.poisson_nll_loss(r, COUNTS, log_input=False, **k),
        (P,),
        P - COUNTS * np.log(P + 1e-8),
    ),
    "hinge_loss": (lambda z, **k: outputs.hinge_loss(z, SIGNS, **k), (Z,), np.maximum(0, 1 - SIGNS * Z)),
}


@BOTH
@REDUCTIONS
@pytest.mark.parametrize("name", AGAINST)
def test_against_scipy(name, reduction, backend_name):
    loss, arguments, expected = AGAINST[name]
    with backend(backend_name):
        found = loss(*arguments, reduction=reduction)
    np.testing.assert_allclose(found.numpy(), reduced(expected, reduction), rtol=1e-10)


@BOTH
@pytest.mark.parametrize("name", AGAINST)
def test_gradients_by_finite_differences(name, backend_name):
    loss, arguments, _ = AGAINST[name]
    with backend(backend_name):
        assert grad_check(loss, *arguments)


def test_against_scikit_learn():
    z, y = RNG.normal(size=60), np.arange(60) % 2
    assert outputs.hinge_loss(z, 2 * y - 1).item() == pytest.approx(sklearn.metrics.hinge_loss(y, z), rel=1e-12)
    assert outputs.mse_loss(z, y).item() == pytest.approx(sklearn.metrics.mean_squared_error(y, z), rel=1e-12)
    assert outputs.l1_loss(z, y).item() == pytest.approx(sklearn.metrics.mean_absolute_error(y, z), rel=1e-12)
    expected = sklearn.metrics.log_loss(y, scipy.special.expit(z))
    assert outputs.binary_cross_entropy_with_logits(z, y).item() == pytest.approx(expected, rel=1e-12)
    rate, count = np.exp(z), RNG.poisson(2.0, 60)
    halves = (
        outputs.poisson_nll_loss(z, count).item()
        - outputs.poisson_nll_loss(np.log(count[count > 0].astype(float)), count[count > 0], reduction="sum").item()
        / 60
    )
    assert 2 * halves == pytest.approx(sklearn.metrics.mean_poisson_deviance(count, rate), rel=1e-9)


def test_poisson_full_is_close_to_the_likelihood():
    counts = np.arange(2.0, 50)
    found = outputs.poisson_nll_loss(np.zeros(48) + 1.5, counts, full=True, reduction="none").numpy()
    exact = -scipy.stats.poisson.logpmf(counts, math.exp(1.5))
    assert (np.abs(found - exact) <= 1 / (12 * counts)).all()  # Stirling's series: the next term bounds the error


@pytest.mark.parametrize("shape", [(5, 3), (5, 1), (5,)])
def test_variances_of_entries_and_of_rows(shape):
    var = RNG.uniform(0.5, 2, shape)
    spread = np.broadcast_to(var.reshape(5, -1), (5, 3))
    found = outputs.gaussian_nll_loss(Z, Y, var, full=True, reduction="none").numpy()
    np.testing.assert_allclose(found, -scipy.stats.norm.logpdf(Y, Z, np.sqrt(spread)), rtol=1e-12)
    assert grad_check(lambda v: outputs.gaussian_nll_loss(Z, Y, v), var)


def test_a_variance_of_zero_is_computed_as_eps_and_can_grow_again():
    v = Tensor(np.zeros(1), requires_grad=True)
    loss = outputs.gaussian_nll_loss(np.ones(1), np.zeros(1), v, eps=1e-2)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * (math.log(1e-2) + 100), rel=1e-12)
    assert v.grad.item() == pytest.approx(0.5 * (1 - 100) / 1e-2, rel=1e-12)


def test_mixture_density_against_scipy_and_its_gradient():
    rng = np.random.default_rng(12)
    logits, mean, log_std, y = (
        rng.normal(size=(4, 3)),
        rng.normal(size=(4, 3)),
        0.3 * rng.normal(size=(4, 3)),
        rng.normal(size=4),
    )
    density = (scipy.special.softmax(logits, -1) * scipy.stats.norm.pdf(y[:, None], mean, np.exp(log_std))).sum(-1)
    found = outputs.mixture_density_nll_loss(logits, mean, log_std, y, reduction="none").numpy()
    np.testing.assert_allclose(found, -np.log(density), rtol=1e-12)
    assert grad_check(outputs.mixture_density_nll_loss, logits, mean, log_std, y)
    mean, log_std, y = rng.normal(size=(4, 3, 2)), 0.3 * rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 2))
    density = (
        scipy.special.softmax(logits, -1) * scipy.stats.norm.pdf(y[:, None], mean, np.exp(log_std)).prod(-1)
    ).sum(-1)
    np.testing.assert_allclose(
        outputs.mixture_density_nll_loss(logits, mean, log_std, y).item(), -np.log(density).mean(), rtol=1e-12
    )
    far = outputs.mixture_density_nll_loss(
        np.zeros((1, 2), "float32"),
        np.zeros((1, 2), "float32"),
        np.full((1, 2), -3, "float32"),
        np.array([1e4], "float32"),
    )
    assert np.isfinite(far.item())  # the density itself underflows to 0, its logarithm must not


@BOTH
@pytest.mark.parametrize("options", [{}, {"ignore_index": 1}, {"weight": [0.5, 1.0, 2.0, 3.0]}])
def test_nll_of_log_softmax_is_cross_entropy(options, backend_name):
    rng = np.random.default_rng(13)
    z, labels = rng.normal(size=(6, 4, 2)), rng.integers(0, 4, (6, 2))
    for reduction in ("mean", "sum", "none"):
        with backend(backend_name):
            loss, slope = value_and_gradient(
                lambda t, r=reduction: outputs.nll_loss(autograd.log_softmax(t, 1), labels, reduction=r, **options), z
            )
            expected, gradient = value_and_gradient(outputs.cross_entropy, z, labels, reduction=reduction, **options)
        np.testing.assert_allclose(loss, expected, rtol=1e-12)
        np.testing.assert_allclose(slope, gradient, rtol=1e-10, atol=1e-14)


def test_cross_entropy_is_divergence_plus_entropy():
    q = scipy.special.log_softmax(Z, -1)
    p = T / T.sum(-1, keepdims=True)
    entropy = scipy.special.entr(p).sum(-1).mean()
    assert outputs.cross_entropy(Z, p).item() == pytest.approx(
        outputs.kl_div(q, p, reduction="batchmean").item() + entropy, rel=1e-13
    )


# Edges


@BOTH
def test_confident_logits_stay_finite(backend_name):
    with backend(backend_name):
        z = np.array([[1e38, -1e38, 0.0], [0.0, 1000.0, 0.0], [3e38, -3e38, 3e38]], "float32")
        loss, gradient = value_and_gradient(outputs.cross_entropy, z, [0, 0, 2], reduction="none")
        np.testing.assert_allclose(loss, [0, 1000, np.log(2)], rtol=2 * np.finfo("float32").eps)
        np.testing.assert_array_equal(gradient, [[0, 0, 0], [-1, 1, 0], [0.5, 0, -0.5]])
        z = np.array([1e38, -1e38, 100.0, -100.0, np.inf, -np.inf, np.inf], "float32")
        loss, gradient = value_and_gradient(
            outputs.binary_cross_entropy_with_logits, z, np.array([1, 0, 0, 0, 1, 0, 0]), reduction="none"
        )
        np.testing.assert_array_equal(loss[[0, 1, 2, 4, 5, 6]], [0, 0, 100, 0, 0, np.inf])
        assert loss[3] == pytest.approx(np.exp(-100), rel=1e-4)  # a subnormal number: the tail is not lost
        np.testing.assert_array_equal(gradient[[0, 1, 2, 4, 5, 6]], [0, 0, 1, 0, 0, 1])
        assert gradient[3] == pytest.approx(np.exp(-100), rel=1e-4)


@BOTH
def test_minus_infinity_masks_a_class(backend_name):
    with backend(backend_name):
        loss, gradient = value_and_gradient(outputs.cross_entropy, np.array([[0.0, -np.inf, 0.0]]), [0])
        assert loss == pytest.approx(math.log(2), rel=1e-15)
        np.testing.assert_allclose(gradient, [[-0.5, 0, 0.5]], rtol=1e-15)
        assert outputs.cross_entropy([[0.0, -np.inf]], [1]).item() == np.inf
        half = outputs.cross_entropy(np.array([[0.0, -np.inf, 0.0]]), np.array([[0.5, 0.0, 0.5]]))
        assert half.item() == pytest.approx(math.log(2), rel=1e-15)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("mse_loss", (np.empty((0, 3)),) * 2),
        ("l1_loss", (np.empty(0),) * 2),
        ("huber_loss", (np.empty(0),) * 2),
        ("binary_cross_entropy", (np.empty(0),) * 2),
        ("binary_cross_entropy_with_logits", (np.empty((2, 0)),) * 2),
        ("cross_entropy", (np.empty((0, 3)), np.empty(0, int))),
        ("cross_entropy", (np.empty((0, 3)), np.empty((0, 3)))),
        ("nll_loss", (np.empty((0, 3)), np.empty(0, int))),
        ("kl_div", (np.empty((0, 3)),) * 2),
        ("gaussian_nll_loss", (np.empty((0, 3)),) * 3),
        ("poisson_nll_loss", (np.empty(0),) * 2),
        ("hinge_loss", (np.empty(0),) * 2),
        ("mixture_density_nll_loss", (np.empty((0, 2)),) * 3 + (np.empty(0),)),
    ],
)
def test_empty_batches_have_nan_as_mean_and_zero_as_sum(name, arguments):
    loss = getattr(outputs, name)
    t = Tensor(arguments[0], requires_grad=True)
    for reduction in ("mean", "sum"):
        value = loss(t, *arguments[1:], reduction=reduction)
        value.backward()
        assert t.grad.shape == arguments[0].shape
        assert value.shape == () and (math.isnan(value.item()) if reduction == "mean" else value.item() == 0)
    assert loss(t, *arguments[1:], reduction="none").size == 0


def test_float32_stays_float32_and_float64_targets_widen():
    z = np.zeros((2, 3), "float32")
    for loss in (
        outputs.cross_entropy(z, [0, 1]),
        outputs.mse_loss(z, np.zeros((2, 3), int)),
        outputs.cross_entropy(z, z),
        outputs.binary_cross_entropy_with_logits(z, np.zeros((2, 3), bool), pos_weight=[1, 2, 3]),
        outputs.gaussian_nll_loss(z, z, 1.0),
        outputs.nll_loss(z, [0, 1]),
    ):
        assert loss.dtype == np.float32 and loss.shape == ()
    assert outputs.mse_loss(z, np.zeros((2, 3))).dtype == np.float64
    t = Tensor(z, requires_grad=True)
    outputs.cross_entropy(t, np.full((2, 3), 1 / 3)).backward()
    assert t.grad.dtype == np.float32


def test_gradients_flow_to_soft_targets():
    z = Tensor(RNG.normal(size=(3, 4)))
    assert grad_check(lambda y: outputs.cross_entropy(z, y), RNG.uniform(0.1, 0.9, (3, 4)))
    assert grad_check(lambda y: outputs.binary_cross_entropy_with_logits(z, y), RNG.uniform(0.1, 0.9, (3, 4)))


X10 = Tensor(np.zeros((2, 10), "float32"))
ONE = Tensor(np.array([0.5], "float32"))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (
            lambda: outputs.cross_entropy(X10, [3, 12]),
            ValueError,
            r"labels hold class 12, but logits have 10 columns \(labels must be 0\.\.9",
        ),
        (lambda: outputs.cross_entropy(X10, [3, -1]), ValueError, "labels hold class -1"),
        (lambda: outputs.cross_entropy(X10, [1.0, 2.0]), TypeError, "labels must be integer classes, got float32"),
        (lambda: outputs.cross_entropy(X10, [1, 2, 3]), ValueError, r"need labels of shape \(2,\), got \(3,\)"),
        (lambda: outputs.cross_entropy(X10, [[1], [2]]), ValueError, r"got \(2, 1\)"),
        (lambda: outputs.cross_entropy(X10, np.eye(10, dtype=int)[:2]), ValueError, "one-hot rows are probabilities"),
        (lambda: outputs.cross_entropy(X10, np.full((2, 10), 1.5)), ValueError, "between 0 and 1"),
        (lambda: outputs.cross_entropy(Tensor([[1, 2]]), [0]), TypeError, "int64"),
        (lambda: outputs.cross_entropy(Tensor(1.0), 0), ValueError, "axis of classes"),
        (lambda: outputs.cross_entropy(X10, [1, 2], axis=2), ValueError, "axis 2 is out of range"),
        (
            lambda: outputs.cross_entropy(X10, [1, 2], reduction="avg"),
            ValueError,
            "reduction must be 'mean', 'sum' or 'none', got 'avg'",
        ),
        (lambda: outputs.cross_entropy(X10, [1, 2], label_smoothing=1.5), ValueError, "label_smoothing"),
        (lambda: outputs.cross_entropy(X10, [1, 2], [1.0, 2.0]), ValueError, r"shape \(10,\), got \(2,\)"),
        (lambda: outputs.cross_entropy(X10, [1, 2], -np.ones(10)), ValueError, "must not be negative"),
        (lambda: outputs.nll_loss(X10, [1, 10]), ValueError, "labels hold class 10"),
        (
            lambda: outputs.mse_loss(Tensor([1.0, 2.0]), [[1.0], [2.0]]),
            ValueError,
            "every prediction with every target",
        ),
        (lambda: outputs.mse_loss(Tensor([1, 2]), [1, 2]), TypeError, "floating point"),
        (lambda: outputs.huber_loss(ONE, ONE, delta=0), ValueError, "delta must be positive"),
        (lambda: outputs.binary_cross_entropy_with_logits(Tensor([0.0]), [[0.0]]), ValueError, "must be equal"),
        (lambda: outputs.binary_cross_entropy_with_logits(Tensor([0.0]), [1.5]), ValueError, "between 0 and 1"),
        (
            lambda: outputs.binary_cross_entropy_with_logits(Tensor([0.0]), [1.0], reduction="total"),
            ValueError,
            "reduction",
        ),
        (
            lambda: outputs.binary_cross_entropy_with_logits(ONE, ONE, pos_weight=[1.0, 2.0]),
            ValueError,
            "does not broadcast",
        ),
        (
            lambda: outputs.binary_cross_entropy(Tensor([1.5]), [1.0]),
            ValueError,
            "probabilities must lie between 0 and 1",
        ),
        (lambda: outputs.kl_div(ONE, [-0.5]), ValueError, "must not be negative"),
        (lambda: outputs.kl_div(ONE, ONE, reduction="batch"), ValueError, "'batchmean', 'mean', 'sum' or 'none'"),
        (lambda: outputs.gaussian_nll_loss(ONE, ONE, [-1.0]), ValueError, "variances must not be negative"),
        (lambda: outputs.gaussian_nll_loss(ONE, ONE, [1.0, 2.0]), ValueError, "var has shape"),
        (lambda: outputs.gaussian_nll_loss(ONE, ONE, ONE, eps=0), ValueError, "eps must be positive"),
        (lambda: outputs.poisson_nll_loss(ONE, [-1.0]), ValueError, "counts must not be negative"),
        (lambda: outputs.poisson_nll_loss(-ONE, ONE, log_input=False), ValueError, "rates must not be negative"),
        (lambda: outputs.hinge_loss(ONE, [0.0]), ValueError, "targets must be -1 or 1, got 0"),
        (lambda: outputs.hinge_loss(ONE, ONE, margin=0), ValueError, "margin must be positive"),
        (lambda: outputs.mixture_density_nll_loss(X10, X10, X10, [1.0]), ValueError, "expected logits"),
    ],
)
def test_errors_teach(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter Output units, section " in str(caught.value)


# PyTorch's corner cases

CASES = [
    c
    for c in json.loads((ROOT / "tests" / "data" / "nasty.json").read_text())["cases"]
    if c["op"]
    in (
        "cross_entropy",
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy",
        "mse_loss",
        "kl_div",
        "softmax",
        "log_softmax",
        "logsumexp",
    )
]


def _numbers(data):
    return np.array([float(x) for x in np.array(data, dtype=object).reshape(-1)])


def _accepted(case, kind):
    "What may come out: PyTorch's numbers, or where it says so another library's."
    if kind == "output":
        lists = [case["output"]["data"], case.get("also_ok", {}).get("output")]
    else:
        lists = [case["grads"][kind]["data"], case.get("also_ok", {}).get("grads", {}).get(kind)]
    return [_numbers(data) for data in lists if data is not None]


def _assert_accepted(found, accepted, dtype, factor):
    rtol, atol = {"float64": (1e-12, 0), "float32": (1e-5, 1e-37), "float16": (2e-3, 1e-7)}[dtype]
    with np.errstate(over="ignore"):
        found = np.asarray(found).astype(dtype).astype("float64").reshape(-1)  # float16 is computed in float32
    rtol, atol = factor * rtol, atol if factor == 1 else 1e-3 if dtype == "float16" else 2e-7
    right = np.zeros(found.shape, bool)
    for numbers in accepted:
        right |= np.isclose(found, numbers, rtol=rtol, atol=atol, equal_nan=True)
    assert right.all(), (found, accepted)


@BOTH
@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_corner_cases_of_pytorch(case, backend_name):
    def array(name):
        given = case["inputs"][name]
        return _numbers(given["data"]).astype(given["dtype"]).reshape(given["shape"])

    options = dict(case["kwargs"])
    if case["op"] == "kl_div":
        options["reduction"] = "none"
    if "dim" in options:
        options["axis"] = options.pop("dim")
    op = getattr(outputs if case["op"] in outputs.__all__ else autograd, case["op"])
    extra = [array("_target")] if "_target" in case["inputs"] else []
    options |= {name[1:]: array(name) for name in case["inputs"] if name in ("_weight", "_pos_weight")}
    main = array("x" if "x" in case["inputs"] else "input")
    with backend(backend_name):
        if "error" in case and case["id"] not in ("log_softmax-int64", "softmax-int64", "ce-target-int32"):
            with pytest.raises((ValueError, TypeError), match=case["op"]):
                op(Tensor(main), *extra, **options)
            return
        if "error" in case:
            assert op(Tensor(main), *extra, **options).dtype == np.float32
            return
        t = Tensor(main, requires_grad=True)
        out = op(t, *extra, **options)
        assert list(out.shape) == case["output"]["shape"]
        _assert_accepted(out.numpy(), _accepted(case, "output"), case["output"]["dtype"], 1)
        out.backward(_numbers(case["cotangent"]).reshape(out.shape) if "cotangent" in case else np.ones(out.shape))
        name = "x" if "x" in case["inputs"] else "input"
        if name in case["grads"]:
            _assert_accepted(t.grad.numpy(), _accepted(case, name), case["output"]["dtype"], 10)


# From log-probabilities


@BOTH
@REDUCTIONS
def test_nll_loss_of_log_softmax_is_cross_entropy(backend_name, reduction):
    rng = np.random.default_rng(3)
    z, weight = rng.standard_normal((12, 4)), np.array([0.5, 1.0, 0.0, 2.0])
    labels = rng.integers(0, 4, 12)
    labels[[2, 7]] = -100
    with backend(backend_name):
        found = value_and_gradient(lambda t, *a, **k: outputs.nll_loss(autograd.log_softmax(t, 1), *a, **k), z, labels, weight,
                                   reduction=reduction)
        expected = value_and_gradient(outputs.cross_entropy, z, labels, weight, reduction=reduction)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@BOTH
def test_nll_loss_takes_one_number_per_row(backend_name):
    x = np.array([[-1.0, -2.0, -np.inf], [-3.0, -4.0, -5.0], [np.nan, -6.0, np.nan]])
    with backend(backend_name):
        value, slope = value_and_gradient(outputs.nll_loss, x, [0, 2, 1], reduction="sum")
        assert value == 1 + 5 + 6
        np.testing.assert_array_equal(slope, [[-1, 0, 0], [0, 0, -1], [0, -1, 0]])
        rows = outputs.nll_loss(x, [2, 0, -100], reduction="none").numpy()
        np.testing.assert_array_equal(rows, [np.inf, 3, 0])                    # an ignored row's NaN stays out
        assert np.isnan(outputs.nll_loss(x, [-100, -100, -100]).item())        # the mean of nothing
        assert np.isnan(outputs.nll_loss(np.empty((0, 3)), np.empty(0, int)).item())
        assert outputs.nll_loss(np.empty((0, 3)), np.empty(0, int), reduction="sum").item() == 0


@BOTH
@REDUCTIONS
def test_nll_loss_gradients_and_their_gradients(backend_name, reduction):
    x, weight = np.random.default_rng(4).standard_normal((2, 3, 4)), np.array([1.0, 0.5, 2.0])
    labels = np.array([[0, 1, 2, -100], [2, 2, 1, 0]])
    with backend(backend_name):
        assert grad_check(lambda t: outputs.nll_loss(t, labels, weight, reduction=reduction), x)
        assert grad_check(lambda t: autograd.grad(lambda u: (outputs.nll_loss(u**2, labels, weight, reduction=reduction)
                                                             ** 2).sum())(t), x)
        found = outputs.nll_loss(x, labels, weight, reduction="none").numpy()
    expected = -np.take_along_axis(x, np.maximum(labels, 0)[:, None], 1)[:, 0] * weight[np.maximum(labels, 0)]
    np.testing.assert_allclose(found, np.where(labels < 0, 0, expected), rtol=1e-15)


@BOTH
@pytest.mark.parametrize("label", [3, -1, 10**12])
def test_nll_loss_names_a_label_out_of_range(backend_name, label):
    with backend(backend_name), pytest.raises(ValueError, match=f"nll_loss: labels hold class {label}, but logits have 3"):
        outputs.nll_loss(np.zeros((2, 3)), [0, label])


@pytest.mark.parametrize("index", [0.5, -100.0, np.float32(1), None, "1", True, 2**63, [1]])
@pytest.mark.parametrize("loss", [outputs.cross_entropy, outputs.nll_loss])
def test_a_label_that_no_label_can_be_is_not_ignored_but_refused(loss, index):
    scores, labels = np.zeros((2, 3), np.float32), np.array([0, 1])
    with pytest.raises(TypeError, match=f"{loss.__name__}: ignore_index must be an integer, like a label, got .*Output units"):
        loss(scores, labels, ignore_index=index)
    with pytest.raises(TypeError, match="ignore_index"):        # of probabilities, too, where it would say nothing
        outputs.cross_entropy(scores, np.full((2, 3), 1 / 3, np.float32), ignore_index=index)


@pytest.mark.parametrize("index", [1, np.int32(1), np.uint8(1)])
def test_a_label_of_any_kind_of_integer_is_ignored(index):
    scores, labels = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([0, 1])
    for loss in (outputs.cross_entropy, outputs.nll_loss):
        expected = loss(scores[:1], labels[:1]).item()
        assert loss(scores, labels, ignore_index=index).item() == pytest.approx(expected, rel=1e-12)
