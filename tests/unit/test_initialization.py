"""Initialization: moments, fans, orthogonality, gains, LSUV on all kinds of models, reproducibility, and errors."""

import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnotes import initialization as init
from deepnotes import kernels
from deepnotes.autograd import Tensor, is_grad_enabled
from deepnotes.layers import MLP, Linear, Module, ReLU, Sequential

SHAPE = (600, 400)
# rule -> how to call it, and the standard deviation that its formula gives for SHAPE
RULES = {
    "normal": (lambda **kw: init.normal(SHAPE, std=0.3, **kw), 0.3),
    "uniform": (lambda **kw: init.uniform(SHAPE, -0.3, 0.3, **kw), 0.3 / math.sqrt(3)),
    "truncated_normal": (lambda **kw: init.truncated_normal(SHAPE, std=0.5, a=-1.0, b=1.0, **kw), 0.5 * 0.8796256610),
    "lecun_normal": (lambda **kw: init.lecun_normal(SHAPE, gain=2.0, **kw), 2 * math.sqrt(1 / 600)),
    "lecun_uniform": (lambda **kw: init.lecun_uniform(SHAPE, **kw), math.sqrt(1 / 600)),
    "xavier_normal": (lambda **kw: init.xavier_normal(SHAPE, **kw), math.sqrt(2 / 1000)),
    "xavier_uniform": (lambda **kw: init.xavier_uniform(SHAPE, gain=2.0, **kw), 2 * math.sqrt(2 / 1000)),
    "he_normal": (lambda **kw: init.he_normal(SHAPE, **kw), math.sqrt(2 / 600)),
    "he_uniform": (lambda **kw: init.he_uniform(SHAPE, **kw), math.sqrt(2 / 600)),
    "he_normal, fan_out": (lambda **kw: init.he_normal(SHAPE, mode="fan_out", **kw), math.sqrt(2 / 400)),
    "he_normal, fan_avg": (lambda **kw: init.he_normal(SHAPE, mode="fan_avg", **kw), math.sqrt(2 / 500)),
    "he_uniform, leaky": (lambda **kw: init.he_uniform(SHAPE, negative_slope=0.5, **kw), math.sqrt(2 / (1.25 * 600))),
    "variance_scaling, cut": (
        lambda **kw: init.variance_scaling(SHAPE, 3.0, "fan_out", "truncated_normal", **kw), math.sqrt(3 / 400)),
    "orthogonal": (lambda **kw: init.orthogonal(SHAPE, gain=2.0, **kw), 2 * math.sqrt(1 / 600)),
}
BOUNDS = {"uniform": math.sqrt(3), "truncated": 2 / 0.8796256610, "cut": 2 / 0.8796256610}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments(rule, dtype):
    make, std = RULES[rule]
    w = make(rng=0, dtype=dtype)
    n = w.size
    assert w.shape == SHAPE and w.dtype == dtype and w.flags.c_contiguous
    # five standard errors: std/sqrt(n) for the mean, at most std/sqrt(2n) for the standard deviation
    assert abs(w.mean()) < 5 * std / math.sqrt(n)
    assert abs(w.std() - std) < 5 * std / math.sqrt(2 * n)
    for kind, bound in BOUNDS.items():
        if kind in rule:
            assert abs(w).max() <= bound * std * (1 + 1e-6)
            assert abs(w).max() > 0.99 * bound * std


@pytest.mark.parametrize("rule", RULES)
def test_randomness_comes_from_rng_alone(rule):
    make, _ = RULES[rule]
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    first = make(rng=7)
    np.testing.assert_array_equal(first, make(rng=np.random.default_rng(7)))
    assert not np.array_equal(first, make(rng=8))
    assert not np.array_equal(make(), make())
    rng = np.random.default_rng(7)
    assert not np.array_equal(make(rng=rng), make(rng=rng))         # a Generator goes on, a seed starts again
    np.testing.assert_array_equal(make(rng=7, dtype="float64").astype("float32"), first)


def test_constants():
    np.testing.assert_array_equal(init.zeros((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(init.ones((2, 1)), [[1.0], [1.0]])
    np.testing.assert_array_equal(init.constant(4, 1.5, dtype="float64"), [1.5] * 4)
    assert init.zeros(3).dtype == init.ones(3).dtype == np.float32


@pytest.mark.parametrize("shape", [0, (0,), (3, 0), (0, 4), (2, 0, 3), ()])
def test_rules_without_fans_take_any_shape_empty_ones_too(shape):
    for make in (init.zeros, init.ones, init.normal, init.uniform, init.truncated_normal):
        assert make(shape, rng=0).shape == (shape if isinstance(shape, tuple) else (shape,))
    assert init.constant(shape, 2.0).size == np.prod(shape)


@given(st.lists(st.integers(1, 7), max_size=3), st.integers(1, 50), st.integers(1, 50))
def test_fans_of_a_kernel_are_those_of_the_matrix_at_each_place(kernel, n, m):
    places = math.prod(kernel)
    assert init.fan_in_fan_out((*kernel, n, m)) == (places * n, places * m)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 10.0), st.sampled_from(["fan_in", "fan_out", "fan_avg"]),
       st.sampled_from(["normal", "uniform", "truncated_normal"]), st.integers(0, 10**6))
def test_scaling_is_linear_in_the_standard_deviation(n, m, scale, mode, distribution, seed):
    "From the same seed, four times the variance is exactly twice the weights."
    args = dict(mode=mode, distribution=distribution, rng=seed, dtype="float64")
    w = init.variance_scaling((n, m), scale, **args)
    np.testing.assert_allclose(init.variance_scaling((n, m), 4 * scale, **args), 2 * w, rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.1, 3.0), st.integers(0, 10**6))
def test_orthogonal_has_equal_singular_values(n, m, factor, seed):
    w = init.orthogonal((n, m), factor, rng=seed, dtype="float64")
    np.testing.assert_allclose(np.linalg.svd(w, compute_uv=False), factor, rtol=1e-12)


def test_orthogonal_is_uniform_over_rotations():
    """Without the correction of signs, numpy's QR makes the trace of Q far from the mean 0 and variance 1 of Haar measure."""
    rng = np.random.default_rng(0)
    traces = np.array([np.trace(init.orthogonal((6, 6), rng=rng, dtype="float64")) for _ in range(4000)])
    assert abs(traces.mean()) < 5 / math.sqrt(4000)
    assert abs(traces.var() - 1) < 5 * math.sqrt(2 / 4000)          # a normal variable's variance, within five errors


def test_orthogonal_kernel_is_orthogonal_as_a_matrix():
    w = init.orthogonal((3, 3, 4, 8), rng=0, dtype="float64").reshape(36, 8)
    np.testing.assert_allclose(w.T @ w, np.eye(8), atol=1e-12)


def test_identity_and_dirac_pass_their_input_on():
    x = np.random.default_rng(0).normal(size=(7, 4))
    np.testing.assert_array_equal(x @ init.identity((4, 4), dtype="float64"), x)
    np.testing.assert_array_equal(x @ init.identity((4, 6), 2.0, dtype="float64"), np.pad(2 * x, ((0, 0), (0, 2))))
    np.testing.assert_array_equal(x @ init.identity((4, 3), dtype="float64"), x[:, :3])
    w = init.dirac((3, 4, 4), dtype="float64")
    padded = np.pad(x, ((1, 1), (0, 0)))
    np.testing.assert_array_equal(sum(padded[k:k + 7] @ w[k] for k in range(3)), x)
    w = init.dirac((3, 5, 2, 2), 0.5)
    assert w.sum() == 1.0 and w[1, 2, 0, 0] == w[1, 2, 1, 1] == 0.5 and w.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 10), st.floats(0.0, 1.0), st.integers(0, 10**6))
def test_sparse_leaves_each_unit_the_same_number_of_weights(n, m, sparsity, seed):
    w = init.sparse((n, m), sparsity, std=1.0, rng=seed)
    np.testing.assert_array_equal((w == 0).sum(axis=0), math.ceil(sparsity * n))


def test_sparse_chooses_places_evenly():
    w = init.sparse((10, 20_000), 0.7, std=2.0, rng=0)
    counts = (w != 0).sum(axis=1)
    assert abs(counts - 6000).max() < 5 * math.sqrt(20_000 * 0.3 * 0.7)
    assert abs(w[w != 0].std() - 2) < 5 * 2 / math.sqrt(2 * 60_000)


@pytest.mark.parametrize("a, b", [(-2.0, 2.0), (0.5, 1.0), (6.0, 7.0), (-7.0, -6.0), (12.0, 100.0), (-1e9, 0.0)])
def test_truncated_normal_has_the_moments_of_the_conditioned_density(a, b):
    from scipy.stats import truncnorm

    w = init.truncated_normal(100_000, a=a, b=b, rng=0, dtype="float64")
    mean, var = truncnorm.stats(a, b)
    assert a <= w.min() and w.max() <= b
    assert abs(w.mean() - mean) < 5 * math.sqrt(var / 1e5)


def test_known_gains():
    np.testing.assert_allclose(init.gain("linear"), 1.0, rtol=1e-12)
    np.testing.assert_allclose(init.gain("relu"), math.sqrt(2), rtol=1e-12)
    np.testing.assert_allclose(init.gain("leaky_relu", negative_slope=0.2), math.sqrt(2 / 1.04), rtol=1e-12)
    np.testing.assert_allclose(init.gain("selu"), 1.0, rtol=1e-12)             # what the constants of SELU solve
    np.testing.assert_allclose(init.gain("tanh"), 1.592537, rtol=1e-6)
    assert init.KNOWN_GAINS["tanh"] == 5 / 3 and init.KNOWN_GAINS["selu"] == 0.75


@pytest.mark.parametrize("f, moment", [
    (np.abs, 1.0), (np.square, 3.0), (lambda z: z**3, 15.0), (np.cos, (1 + math.exp(-2)) / 2),
    (np.exp, math.exp(2)), (lambda z: z > 0.3, 0.5 * math.erfc(0.3 / math.sqrt(2))),
    (lambda z: np.minimum(np.maximum(z, 0), 6), None),
])
def test_gain_of_functions_with_known_moments(f, moment):
    if moment is None:                                                         # by scipy's quadrature, piece by piece
        from scipy.integrate import quad

        moment = sum(quad(lambda z: f(z)**2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), *ends)[0]
                     for ends in ((0, 6), (6, 20)))
    assert init.gain(f) == pytest.approx(moment**-0.5, rel=1e-9)


def test_gain_is_the_mean_square_that_draws_show():
    z = np.random.default_rng(0).normal(size=10**6)
    for name, f in init._FORMULAS.items():
        t = Tensor(z, requires_grad=True)
        with kernels.backend("numpy"):
            y = np.square(f(z))
            f(t).sum().backward()
        assert abs(init.gain(name)**-2 - y.mean()) < 5 * y.std() / 1000, name
        dy = np.square(t.grad.data)
        assert abs(init.gain(name, "backward")**-2 - dy.mean()) < 5 * dy.std() / 1000 + 1e-12, name


def test_gain_takes_functions_and_modules_of_the_library():
    from deepnotes import activations

    assert init.gain(activations.relu) == init.gain(ReLU()) == pytest.approx(math.sqrt(2))
    assert init.gain(activations.tanh, "backward") == pytest.approx(init.gain("tanh", "backward"))
    assert init.gain(activations.leaky_relu, negative_slope=0.3) == pytest.approx(math.sqrt(2 / 1.09))


class Residual(Module):
    "A model whose layers do not stand in a row, that shares one and calls them in another order than it holds them."

    def __init__(self):
        self.last, self.shared, self.first = Linear(12, 3, rng=0), Linear(12, 12, rng=1), Linear(5, 12, rng=2)
        self.blocks = Sequential(Linear(12, 12, rng=3), ReLU())

    def forward(self, x):
        h = self.first(x)
        h = h + self.blocks(h)
        return self.last(self.shared(self.shared(h)))


def variances(model, x, layers):
    "Variance of each layer's first output, by wrapping calls from outside."
    outputs = {}
    for layer in layers:
        def forward(x, layer=layer):
            y = type(layer).forward(layer, x)
            outputs.setdefault(id(layer), y.data)
            return y
        layer.forward = forward
    model(x)
    for layer in layers:
        del layer.forward
    return [outputs[id(layer)].var() for layer in layers]


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "softplus"])
def test_lsuv_gives_each_layer_unit_variance(activation):
    x = np.random.default_rng(0).normal(3.0, 5.0, size=(64, 10)).astype(np.float32)
    model = MLP(10, [30] * 12, 4, activation=activation, weight_init=init.normal, rng=0)
    got = init.lsuv(model, x, rng=0)
    layers = [m for m in model.children() if hasattr(m, "weight")]
    assert len(got) == 13 and abs(got - 1).max() <= 0.01
    np.testing.assert_allclose(variances(model, Tensor(x), layers), got, rtol=1e-4)
    w = layers[3].weight.data
    s = np.linalg.svd(w, compute_uv=False)
    np.testing.assert_allclose(s, s[0], rtol=1e-4)                  # still a multiple of an orthogonal matrix


def test_lsuv_follows_the_model_not_the_order_of_its_attributes():
    model, x = Residual(), np.random.default_rng(0).normal(size=(50, 5))
    model.eval().train()
    model.shared.eval()
    got = init.lsuv(model, x, rng=0)
    layers = [model.first, model.blocks[0], model.shared, model.last]
    np.testing.assert_allclose(variances(model, Tensor(x.astype("float32")), layers), got, rtol=1e-4)
    assert model.training and not model.shared.training             # each module is left in its own mode
    assert not any("forward" in vars(layer) for layer in layers)    # and without the wrappers
    assert is_grad_enabled() and all(p.requires_grad for p in model.parameters())


def test_lsuv_on_a_plain_function_of_plain_arrays():
    class Layer:
        def __init__(self, n, m):
            self.weight = np.random.default_rng(n).normal(size=(n, m))

        def forward(self, x):
            return np.tanh(x) @ self.weight

    a, b = Layer(4, 9), Layer(9, 2)
    kept = a.weight
    got = init.lsuv(lambda x: b.forward(a.forward(x)), np.random.default_rng(0).normal(size=(30, 4)), layers=[b, a],
                    weight_init=None)
    assert a.weight is kept and abs(got - 1).max() <= 0.01


def test_lsuv_keeps_weights_if_asked_and_only_scales_them():
    model = MLP(6, [8], 2, rng=0)
    before = model.state_dict()
    init.lsuv(model, np.random.default_rng(0).normal(size=(40, 6)), weight_init=None)
    for name, value in model.state_dict().items():
        if "weight" in name:
            ratio = value / before[name]
            np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
            assert abs(ratio[0, 0] - 1) > 1e-3


def test_lsuv_makes_a_graph_that_holds_old_weights_refuse():
    model, x = MLP(3, [4], 1, rng=0), np.ones((2, 3), np.float32)
    loss = (model(Tensor(x, requires_grad=True)) ** 2).sum()
    init.lsuv(model, np.random.default_rng(0).normal(size=(9, 3)))
    with pytest.raises(RuntimeError):
        loss.backward()


def test_lsuv_leaves_no_wrapper_behind_when_the_model_fails():
    model = MLP(3, [4], 1, rng=0)
    with pytest.raises(ValueError, match="Linear"):
        init.lsuv(model, np.ones((2, 5)))
    assert "forward" not in vars(model[0]) and is_grad_enabled()


def test_lsuv_warns_when_a_bias_is_in_the_way():
    model = Sequential(Linear(3, 4, bias_init=lambda shape, rng, dtype: np.arange(4.0, dtype=dtype) * 10, rng=0))
    with pytest.warns(RuntimeWarning, match="large bias"):
        init.lsuv(model, np.random.default_rng(0).normal(size=(20, 3)), max_iter=3)


def test_output_bias_predicts_frequencies():
    y = np.repeat([0, 1, 2], [70, 20, 10])
    b = init.output_bias(y, dtype="float64")
    np.testing.assert_allclose(np.exp(b), [0.7, 0.2, 0.1], rtol=1e-12)
    np.testing.assert_allclose(init.output_bias(np.arange(10)), -math.log(10) * np.ones(10), rtol=1e-6)
    np.testing.assert_allclose(np.exp(init.output_bias([0, 1], n_classes=4, smoothing=1.0)), np.array([2, 2, 1, 1]) / 6,
                               rtol=1e-6)
    np.testing.assert_allclose(init.output_bias([0, 0, 0, 1], "sigmoid"), [math.log(1 / 3)], rtol=1e-6)
    np.testing.assert_allclose(init.output_bias(np.array([[1, 0], [1, 1], [0, 1], [1, 1]]), "sigmoid"),
                               [math.log(3)] * 2, rtol=1e-6)
    np.testing.assert_allclose(init.output_bias(np.ones((3, 1)), "sigmoid", smoothing=1.0), [math.log(4)], rtol=1e-6)


NOISE = np.random.default_rng(0)
EMPTY = Sequential(ReLU())
UNUSED = Linear(3, 3, rng=0)
CALLS = [
    (lambda: init.he_normal((3,)), ValueError, "in_features, out_features"),
    (lambda: init.lecun_normal(3), ValueError, "For a bias use zeros"),
    (lambda: init.xavier_normal((0, 4)), ValueError, "at least 1"),
    (lambda: init.orthogonal((4, 0)), ValueError, "at least 1"),
    (lambda: init.he_uniform((3, 4), mode="fan_max"), ValueError, "he_uniform: mode must be 'fan_in', 'fan_out' or"),
    (lambda: init.variance_scaling((3, 4), distribution="cauchy"), ValueError, "distribution must be"),
    (lambda: init.variance_scaling((3, 4), -1.0), ValueError, "scale must be finite and at least 0, got -1.0"),
    (lambda: init.lecun_uniform((3, 4), gain=math.inf), ValueError, "lecun_uniform: gain must be finite"),
    (lambda: init.he_normal((3, 4), negative_slope=math.nan), ValueError, "negative_slope must be finite"),
    (lambda: init.normal((3, 4), std=-0.1), ValueError, "std must be"),
    (lambda: init.normal((3, 4), std=math.nan), ValueError, "std must be"),
    (lambda: init.normal((3, -4)), ValueError, "normal: shape must be"),
    (lambda: init.zeros((3, 2.5)), ValueError, "zeros: shape must be"),
    (lambda: init.uniform(3, 2.0, 1.0), ValueError, "a must not exceed b"),
    (lambda: init.truncated_normal(3, a=1.0, b=1.0), ValueError, "a less than b"),
    (lambda: init.truncated_normal(3, std=0.0), ValueError, "std must be more than 0"),
    (lambda: init.truncated_normal(3, a=50.0, b=60.0), ValueError, "no probability left"),
    (lambda: init.zeros(3, dtype="int64"), TypeError, "zeros: dtype must be float32 or float64, got int64"),
    (lambda: init.he_normal((3, 4), dtype="float16"), TypeError, "float16"),
    (lambda: init.he_normal((3, 4), rng=-1), TypeError, "he_normal: rng must be"),
    (lambda: init.normal(3, rng="seed"), TypeError, "rng must be"),
    (lambda: init.identity((2, 3, 4)), ValueError, "use dirac"),
    (lambda: init.dirac((3, 4)), ValueError, "use identity"),
    (lambda: init.sparse((3, 4), 1.5), ValueError, "sparsity from 0 to 1"),
    (lambda: init.gain("swoosh"), ValueError, "must be callable or one of linear"),
    (lambda: init.gain("relu", mode="sideways"), ValueError, "mode must be"),
    (lambda: init.gain(np.zeros_like), ValueError, "is 0"),
    (lambda: init.gain(lambda z: np.exp(z * z)), ValueError, "finite"),
    (lambda: init.gain(lambda z: NOISE.normal(size=z.shape)), ValueError, "settled"),
    (lambda: init.gain(lambda z: 3.0, "backward"), TypeError, "function of a Tensor"),
    (lambda: init.gain(lambda z: z.detach(), "backward"), ValueError, "is 0"),
    (lambda: init.lsuv(EMPTY, np.ones((2, 3))), ValueError, "found no layer"),
    (lambda: init.lsuv(EMPTY, np.ones((2, 3)), layers=[EMPTY]), TypeError, "`weight` of two or more axes"),
    (lambda: init.lsuv(EMPTY, np.ones((2, 3)), layers=[UNUSED]), ValueError, "did not run the layer"),
    (lambda: init.lsuv(UNUSED, np.zeros((2, 3))), ValueError, "variance 0"),
    (lambda: init.output_bias([0, 0, 2]), ValueError, r"entries \[1\] have frequency 0"),
    (lambda: init.output_bias([0.5, 1.0]), ValueError, "integer classes"),
    (lambda: init.output_bias([0, 3], n_classes=3), ValueError, "holds class 3"),
    (lambda: init.output_bias([0, 2], "sigmoid"), ValueError, "zeros and ones"),
    (lambda: init.output_bias([1, 1], "sigmoid"), ValueError, "smoothing=1"),
    (lambda: init.output_bias([0, 1], "relu"), ValueError, "output must be"),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_errors_teach(number):
    call, error, words = CALLS[number]
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter Initialization" in str(caught.value)


def test_every_public_function_says_where_it_is_explained():
    for name in init.__all__:
        thing = getattr(init, name)
        if callable(thing):
            doc = inspect.getdoc(thing)
            assert doc.rstrip().splitlines()[-1].startswith("Chapter: Initialization, section "), name
            for parameter in inspect.signature(thing).parameters:
                assert parameter in doc, (name, parameter)
