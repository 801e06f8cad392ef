"""Smooth absolute error, hinge of an embedding, margin of several classes: PyTorch's answers, and what is refused.

`data/make_losses.py` made the answers.
"""

import numpy as np
import pytest
from conftest import ROOT

from deepnotes import MLP, Trainer, kernels, outputs
from deepnotes.autograd import Tensor, grad, grad_check

TORCH = np.load(ROOT / "tests" / "data" / "losses.npz")
X = TORCH["x"]
SETTINGS = {"wide": {"smooth_l1_loss": {"beta": 1.7}, "hinge_embedding_loss": {"margin": 2.5}}, "zero": {"smooth_l1_loss": {"beta": 0.0}},
            "square": {"multi_margin_loss": {"p": 2, "margin": 0.5}}, "weighted": {"multi_margin_loss": {"weight": TORCH["weight"]}}}
TARGETS = {"smooth_l1_loss": "y", "hinge_embedding_loss": "signs", "multi_margin_loss": "labels"}
CASES = sorted({key.removesuffix("/slope").rpartition("/")[0] for key in TORCH.files if "loss" in key})


def made(case):
    name, _, kind = case.partition("/")
    settings = SETTINGS[kind][name] if kind else {}
    return lambda x, **more: getattr(outputs, name)(x, TORCH[TARGETS[name]], **settings, **more)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_pytorchs(case, reduction, backend):
    loss = made(case)
    with kernels.backend(backend):
        for dtype, close in (("float64", 1e-12), ("float32", 2e-6)):
            x = Tensor(X.astype(dtype), requires_grad=True)
            value = loss(x, reduction=reduction)
            value.sum().backward()
            np.testing.assert_allclose(value.numpy(), TORCH[f"{case}/{reduction}"], rtol=close, atol=close)
            np.testing.assert_allclose(x.grad.numpy(), TORCH[f"{case}/{reduction}/slope"], rtol=close, atol=close)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_gradients_by_finite_differences(case, backend):
    with kernels.backend(backend):
        assert grad_check(made(case), X)
        assert grad_check(grad(lambda x: (made(case)(x, reduction="none") ** 2).sum()), X)


def test_smooth_absolute_error_is_differentiable_in_its_target():
    assert grad_check(lambda x, y: outputs.smooth_l1_loss(x, y, beta=0.7), X, TORCH["y"])


@pytest.mark.parametrize("reduction, expected", [("mean", np.nan), ("sum", 0.0)])
def test_empty_batches(reduction, expected):
    none, shape = np.empty((0, 3)), (0, 3)
    for value in (outputs.smooth_l1_loss(none, none, reduction=reduction), outputs.hinge_embedding_loss(none, none, reduction=reduction),
                  outputs.multi_margin_loss(np.empty(shape), np.empty(0, int), reduction=reduction)):
        np.testing.assert_equal(value.item(), expected)


@pytest.mark.parametrize("loss, y", [(outputs.smooth_l1_loss, "y"), (outputs.hinge_embedding_loss, "signs"),
                                     (outputs.multi_margin_loss, "labels")])
def test_rows_have_weights(loss, y):
    "A row of weight 2 counts as two."
    trainer, twice = (Trainer(MLP(4, [], 4, rng=0), loss, capture=False) for _ in range(2))
    weight = np.array([1, 2, 1, 0, 1, 1, 1])
    rows = np.repeat(np.arange(7), weight)
    a = trainer.evaluate(X, TORCH[y], sample_weight=weight)["loss"]
    assert a == pytest.approx(twice.evaluate(X[rows], TORCH[y][rows])["loss"], rel=1e-5)


@pytest.mark.parametrize("call, error, said", [
    (lambda: outputs.smooth_l1_loss(X, TORCH["y"], beta=-1.0), ValueError, "beta must be finite and not negative, got -1"),
    (lambda: outputs.smooth_l1_loss(X, X[:, 0]), ValueError, "they must be equal"),
    (lambda: outputs.smooth_l1_loss(X, X, reduction="avg"), ValueError, "reduction must be"),
    (lambda: outputs.hinge_embedding_loss(X, np.zeros_like(X)), ValueError, "targets must be -1 or 1, got 0"),
    (lambda: outputs.hinge_embedding_loss(X, X, margin=0), ValueError, "margin must be positive"),
    (lambda: outputs.multi_margin_loss(X, [0] * 6), ValueError, r"need labels of shape \(7,\), got \(6,\)"),
    (lambda: outputs.multi_margin_loss(X, [0.5] * 7), TypeError, "labels must be integer classes"),
    (lambda: outputs.multi_margin_loss(X, [4] * 7), ValueError, r"labels must be 0\.\.3, got 4 to 4"),
    (lambda: outputs.multi_margin_loss(X, [0] * 7, p=3), ValueError, "p must be 1 or 2"),
    (lambda: outputs.multi_margin_loss(X[0], 0), ValueError, r"input must have shape \(n, classes\)"),
    (lambda: outputs.multi_margin_loss(X, [0] * 7, weight=[1.0]), ValueError, "one number per class"),
])
def test_what_is_refused(call, error, said):
    with pytest.raises(error, match=said):
        call()
