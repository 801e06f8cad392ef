"""Guards and boundaries that one changed operator would take away, each with a test that notices."""
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from deepnotes import autograd as ag
from deepnotes import kernels, outputs
from deepnotes.autograd import Tensor, record
from deepnotes.capture import capture
from deepnotes.capture.fuse import Group, outer_updates
from deepnotes.kernels import launch, threads
from deepnotes.layers import MLP, RMSNorm
from deepnotes.optimizers import SGD
from deepnotes.training import Loader, Trainer


def test_retained_gradients_of_two_passes_add_up():
    x = Tensor(np.ones(3), requires_grad=True)
    h = x * 2
    h.retain_grad()
    h.sum().backward(retain_graph=True)
    (h * 3).sum().backward()
    np.testing.assert_array_equal(h.grad.data, [4, 4, 4])


def test_a_graph_that_needs_a_gradient_notices_that_another_was_added_to_it():
    x, w = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
    (x * 2).sum().backward()
    y = (x.grad * w).sum()                                              # its derivative by w is x.grad as it is now
    (x * 5).sum().backward()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


@pytest.mark.parametrize("count, correction", [(0.0, 0.0), (1.0, 0.0), (2.0, 2 * np.log(2) - 2 + 0.5 * np.log(4 * np.pi))])
def test_the_correction_for_large_counts_begins_above_one(count, correction):
    loss = outputs.poisson_nll_loss(Tensor([0.5]), Tensor([count]), full=True).item()
    np.testing.assert_allclose(loss, np.exp(0.5) - 0.5 * count + correction, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_default_eps_of_rms_norm_is_that_of_the_dtype(dtype):
    eps = np.finfo(dtype).eps
    x = np.full((1, 4), np.sqrt(eps), dtype)                            # whose mean square is eps too
    out = RMSNorm(4, dtype=dtype)(Tensor(x)).data
    np.testing.assert_allclose(out, np.full((1, 4), np.sqrt(0.5)), rtol=1e-5)


def test_views_of_one_array_that_begin_elsewhere_are_other_steps():
    row, place = np.arange(12.0), {"start": 0}

    def step(x):
        return Tensor(launch(kernels.add, np.empty(2), x.data, row[place["start"]:place["start"] + 2]))

    captured, x = capture(step), Tensor(np.zeros(2))
    for start in range(0, 10, 2):
        place["start"] = start
        np.testing.assert_array_equal(captured(x).data, row[start:start + 2])
        assert not captured.captured
    assert "not the same" in captured.reason


def test_the_second_derivative_of_a_standard_deviation_of_zero_is_zero():
    x = Tensor(np.full(4, 3.0), requires_grad=True)
    ag.std(x).backward(create_graph=True)
    first = x.grad
    np.testing.assert_array_equal(first.data, np.zeros(4))
    x.grad = None
    (first * np.arange(4.0)).sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.zeros(4))


@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_gradients_of_the_side_not_taken_are_what_where_says(backend):
    "The two formulas that `where` warns of have a nan for a gradient, and the two cures that it names have the right one."
    warned, other, cure_of_root, cure = re.findall(r"``(.+?)``", " ".join(ag.where.__doc__.split()))
    names = {name: getattr(ag, name) for name in ("where", "exp", "sqrt", "minimum")}

    def gradient(formula, at):
        x = Tensor(np.array([at], "f4"), requires_grad=True)
        y = eval(formula, names, {"x": x})
        y.sum().backward()
        assert np.isfinite(y.data).all()
        return x.grad.item()

    with kernels.backend(backend):
        assert np.isnan(gradient(warned, 100)) and np.isnan(gradient(other, 0)) and np.isnan(gradient("sqrt((x * x).sum())", 0))
        assert gradient(cure, 100) == 1 and gradient(cure_of_root, 0) == 0 and gradient(cure_of_root, 4) == 0.25
        np.testing.assert_allclose([gradient(cure, -1), gradient(warned, -1)], np.exp(-1.0), rtol=1e-6)


@pytest.mark.parametrize("out, operands, expected", [
    ("f4", ["f8", "f8"], "f4"), ("?", ["i8", "f4"], "f4"), ("?", ["f8", "f4"], "f8"), ("?", ["?", "i2"], "i2"), ("?", ["?", "?"], "?"),
    ("i8", ["f4"], "f4")])
def test_a_comparison_computes_in_the_dtype_of_the_first_floats_then_of_the_first_integers(out, operands, expected):
    operands = [2.5, *(np.zeros(2, kind) for kind in operands)]
    assert kernels.compute_dtype(np.zeros(2, out), operands) == np.dtype(expected)


def test_a_loop_is_shared_from_its_fourth_run_on_if_it_has_enough_to_do(monkeypatch):
    alone, shared = [], []

    class Pool:
        def run(self, loop, n, chunk, args, whole, cores):
            shared.append((n, chunk, cores))
            return True

    monkeypatch.setattr(threads, "_pool", Pool())
    monkeypatch.setattr(threads, "_pace", {})
    monkeypatch.setattr(threads, "_num_threads", 2)
    monkeypatch.setattr(threads, "WORTH", 0.0)
    x, n = np.zeros(2 * threads.GRAIN), 2 * threads.GRAIN
    for _ in range(5):
        threads.split(lambda x: None if x is None else alone.append(x.size), n, n, (x,))     # each a loop of its own
    assert alone == [n] * 5 and not shared
    alone.clear()

    def loop(x):
        alone.append(x.size)

    for _ in range(5):
        threads.split(loop, n, n, (x,))
    assert alone == [n] * 3 and shared == [(n, n // 4, 2)] * 2
    monkeypatch.setattr(threads, "WORTH", np.inf)                       # too little to do
    threads.split(loop, n, n, (x,))
    monkeypatch.setattr(threads, "WORTH", 0.0)
    monkeypatch.setattr(threads, "_num_threads", 1)                     # nobody to share with
    threads.split(loop, n, n, (x,))
    assert alone == [n] * 5 and len(shared) == 2


@pytest.mark.parametrize("written_again", [False, True])
def test_a_gradient_that_is_written_twice_joins_no_update(written_again):
    column, row, g, p, velocity = (np.ones(shape, "f4") for shape in [(5, 1), (1, 4), (5, 4), (5, 4), (5, 4)])
    product = kernels.Launch(kernels.matmul, g, (column, row))
    again = [kernels.Launch(kernels.copy, g, (np.zeros((5, 4), "f4"),))] * written_again
    update = kernels.Launch(kernels.sgd, p, (g, velocity, np.zeros(6)))
    groups = [Group(launch) for launch in [product, *again, update]]
    joined = outer_updates(groups, lambda array: False)
    assert [group.launches for group in joined] == ([[product], again, [update]] if written_again else [[product, update]])


def test_numbers_of_python_become_float32_unless_somebody_asks_for_more():
    for numbers in ([Decimal("0.5"), 1], [Fraction(1, 2), Fraction(1, 1)]):
        assert (Tensor(numbers).dtype, Tensor(numbers, dtype="float64").dtype) == (np.float32, np.float64)
        assert Tensor(numbers).tolist() == [0.5, 1]


def test_an_operation_with_too_few_rules_is_refused_where_they_are_needed():
    a, b = Tensor([1.0], requires_grad=True), Tensor([2.0], requires_grad=True)
    out = record("lopsided", a.numpy() * b.numpy(), (a, b), (lambda g: g,))
    with pytest.raises(ValueError, match="shorter"):
        out.backward()


def test_the_accuracy_of_several_yes_or_no_answers_counts_each():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 4)).astype("float32"), (rng.random((10, 3)) < 0.5).astype("float32")
    with kernels.backend("numpy"):
        model = MLP(4, [5], 3)
        right = ((model(X).numpy() > 0) == (y > 0.5)).mean()
        batches = [(X[k:k + 4], y[k:k + 4]) for k in range(0, 10, 4)]
        for loader in (Loader(X, y, batch_size=4), Loader(batches)):
            trainer = Trainer(model, loss="binary_cross_entropy_with_logits", optimizer=SGD(model.parameters(), lr=0.0), capture=False)
            trainer.fit(loader, epochs=1)
            assert trainer.history["accuracy"] == [pytest.approx(right)]
