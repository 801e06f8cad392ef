"""What scipy computes for the library, where there is none: graded with mpmath."""

import builtins

import mpmath
import numpy as np
import pytest

from deepnotes import initialization, kernels


@pytest.fixture(autouse=True)
def no_scipy(monkeypatch):
    ours = builtins.__import__

    def refuse(name, *args, **options):
        if name.partition(".")[0] == "scipy":
            raise ImportError("no scipy here")
        return ours(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_and_its_inverse(dtype):
    rounding = float(np.finfo(dtype).eps)
    with kernels.backend("numpy"), mpmath.workdps(40):
        x = np.array([-6, -2.5, -0.3, -1e-9, 0, 1e-30, 0.02, 0.7, 1.9, 3], dtype)
        y = kernels.launch(kernels.erf, np.empty_like(x), x)
        for at, found in zip(x, y, strict=True):
            assert abs(found - mpmath.erf(float(at))) <= 4 * rounding * abs(mpmath.erf(float(at)))
        x = np.array([-0.999999, -0.9, -0.3, 0, 1e-30, 1e-9, 0.02, 0.4999, 0.5, 0.7, 0.99, 1 - 2 * rounding], dtype)
        y = kernels.launch(kernels.erfinv, np.empty_like(x), x)
        for at, found in zip(x, y, strict=True):
            exact = mpmath.erfinv(mpmath.mpf(float(at)))
            assert abs(found - exact) <= 4 * rounding * abs(exact), at
        edge = kernels.launch(kernels.erfinv, np.empty(4, dtype), np.array([-1, 1, 1.5, np.nan], dtype))
    assert edge[0] == -np.inf and edge[1] == np.inf and np.isnan(edge[2:]).all()


def test_truncated_normal_keeps_its_moments_and_ends():
    w = initialization.truncated_normal((40_000,), std=1.0, a=-2.0, b=2.0, rng=0, dtype="float64")
    assert w.min() >= -2 and w.max() <= 2
    assert abs(w.std() - 0.8796) < 4 * 0.88 / np.sqrt(2 * len(w)) and abs(w.mean()) < 4 * 0.88 / np.sqrt(len(w))
    below, quantile = initialization._normal()
    for x in (-8.0, -1.0, 0.0, 0.5, 3.0):
        assert abs(below(x) - mpmath.ncdf(x)) <= 4e-16 * mpmath.ncdf(x) * (1 + x * x)
    assert quantile(np.array([0.0, 0.5, 1.0])).tolist() == [-np.inf, 0.0, np.inf]
    assert abs(quantile(0.975) - 1.959963984540054) < 1e-14
