"""Initialization: moments of each rule, bounds, reproducibility, and errors."""
import math

import numpy as np
import pytest

from deepnotes import initialization as init

SHAPE = (600, 400)
# rule -> the standard deviation that its formula gives for SHAPE
RULES = {
    "normal": (lambda **kw: init.normal(SHAPE, std=0.3, **kw), 0.3),
    "xavier_normal": (lambda **kw: init.xavier_normal(SHAPE, **kw), math.sqrt(2 / 1000)),
    "xavier_uniform": (lambda **kw: init.xavier_uniform(SHAPE, gain=2.0, **kw), 2 * math.sqrt(2 / 1000)),
    "he_normal": (lambda **kw: init.he_normal(SHAPE, **kw), math.sqrt(2 / 600)),
    "he_uniform": (lambda **kw: init.he_uniform(SHAPE, **kw), math.sqrt(2 / 600)),
    "he_normal, fan_out": (lambda **kw: init.he_normal(SHAPE, mode="fan_out", **kw), math.sqrt(2 / 400)),
    "he_uniform, leaky": (lambda **kw: init.he_uniform(SHAPE, negative_slope=0.5, **kw), math.sqrt(2 / (1.25 * 600))),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments(rule, dtype):
    make, std = RULES[rule]
    w = make(rng=0, dtype=dtype)
    n = w.size
    assert w.shape == SHAPE and w.dtype == dtype
    # five standard errors: std/sqrt(n) for the mean, at most std/sqrt(2n) for the standard deviation
    assert abs(w.mean()) < 5 * std / math.sqrt(n)
    assert abs(w.std() - std) < 5 * std / math.sqrt(2 * n)
    if "uniform" in rule:
        assert abs(w).max() <= math.sqrt(3) * std * (1 + 1e-6)
        assert abs(w).max() > 0.999 * math.sqrt(3) * std


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
    np.testing.assert_array_equal(init.constant(4, 1.5, dtype="float64"), [1.5] * 4)
    assert init.zeros(3).dtype == np.float32


def test_signal_survives_thirty_relu_layers_with_he_and_halves_with_xavier():
    def growth(rule):
        rng = np.random.default_rng(0)
        h = rng.normal(size=(300, 256))
        before = np.mean(h**2)
        for _ in range(30):
            h = np.maximum(h @ rule((256, 256), rng=rng, dtype="float64"), 0)
        return (np.mean(h**2) / before) ** (1 / 30)

    assert abs(growth(init.he_normal) - 1) < 0.05
    assert abs(growth(init.xavier_normal) - 0.5) < 0.025


@pytest.mark.parametrize("call, error, words", [
    (lambda: init.he_normal((3,)), ValueError, "in_features, out_features"),
    (lambda: init.xavier_uniform((3, 4, 5)), ValueError, "in_features, out_features"),
    (lambda: init.xavier_normal((0, 4)), ValueError, "at least 1"),
    (lambda: init.he_uniform((3, 4), mode="fan_avg"), ValueError, "he_uniform: mode must be"),
    (lambda: init.normal((3, 4), std=-0.1), ValueError, "std must be"),
    (lambda: init.normal((3, 4), std=math.nan), ValueError, "std must be"),
    (lambda: init.zeros(3, dtype="int64"), TypeError, "zeros: dtype must be float32 or float64, got int64"),
    (lambda: init.he_normal((3, 4), dtype="float16"), TypeError, "float16"),
])
def test_errors_teach(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter Initialization" in str(caught.value)
