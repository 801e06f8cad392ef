"""Data that a plain step refuses is refused by a captured one: the same error, and nothing moved by the step that failed."""

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import autograd as ag
from deepnotes import kernels, layers, optimizers, outputs
from deepnotes.autograd import Tensor
from deepnotes.capture import capture

rng = np.random.default_rng(0)
HALVES = np.full((4, 3), 0.5, np.float32)
LABELS = np.array([0, 2, 1, 0])
SYMBOLS = np.array([[0, 1, 2], [2, 1, 0], [1, 1, 1], [0, 0, 2]])
WEIGHT = np.ones(3, np.float32)


def spoiled(array, value):
    "The same array with one wrong value, late in it."
    array = array.copy()
    array.reshape(-1)[-2] = value
    return array


def squeezed(x):
    return ag.sigmoid(x)


# name: what becomes of the logits (4, 3) and one more input; a good input, and what is refused
CASES = {
    "bce_logits": (outputs.binary_cross_entropy_with_logits, HALVES, [spoiled(HALVES, 3), spoiled(HALVES, -1e-3)]),
    "bce_target": (lambda x, t: outputs.binary_cross_entropy(squeezed(x), t), HALVES, [spoiled(HALVES, 3)]),
    "bce_probability": (lambda x, t: outputs.binary_cross_entropy(t, x * 0 + 0.5), HALVES, [spoiled(HALVES, 1.5)]),
    "bce_weight": (lambda x, w: outputs.binary_cross_entropy_with_logits(x, x * 0 + 0.5, w), HALVES, [spoiled(HALVES, -1)]),
    "bce_pos_weight": (lambda x, w: outputs.binary_cross_entropy_with_logits(x, x * 0 + 0.5, pos_weight=w), HALVES,
                       [spoiled(HALVES, -1)]),
    "nll_weight": (lambda x, w: outputs.nll_loss(ag.log_softmax(x), LABELS, w), WEIGHT, [spoiled(WEIGHT, -1)]),
    "soft_targets": (outputs.cross_entropy, HALVES, [spoiled(HALVES, -1), spoiled(HALVES, 2)]),
    "class_weight": (lambda x, w: outputs.cross_entropy(x, LABELS, w), WEIGHT, [spoiled(WEIGHT, -1)]),
    "labels": (outputs.cross_entropy, LABELS, [spoiled(LABELS, 3), spoiled(LABELS, -1)]),
    "nll": (lambda x, y: outputs.nll_loss(ag.log_softmax(x), y), LABELS, [spoiled(LABELS, 7), spoiled(LABELS, -3)]),
    "hinge": (outputs.hinge_loss, HALVES * 2, [spoiled(HALVES * 2, 5), spoiled(HALVES * 2, np.nan)]),
    "counts": (outputs.poisson_nll_loss, HALVES, [spoiled(HALVES, -4)]),
    "rates": (lambda x, r: outputs.poisson_nll_loss(r, x * 0 + 0.5, log_input=False), HALVES, [spoiled(HALVES, -4)]),
    "divergence": (lambda x, t: outputs.kl_div(ag.log_softmax(x), t), HALVES, [spoiled(HALVES, -0.5)]),
    "variance": (lambda x, v: outputs.gaussian_nll_loss(x, x * 0 + 0.5, v), HALVES, [spoiled(HALVES, -1)]),
    "take": (lambda x, i: ag.take(x, i, 1).sum(), SYMBOLS, [spoiled(SYMBOLS, 3), spoiled(SYMBOLS, -4)]),
    "take_along": (lambda x, i: ag.take_along_axis(x, i, 1).sum(), SYMBOLS, [spoiled(SYMBOLS, 12), spoiled(SYMBOLS, -4)]),
    "gather": (lambda x, i: ag.gather(x, 1, i).sum(), SYMBOLS, [spoiled(SYMBOLS, 3)]),
}


class Net:
    "A linear layer with dropout in front and momentum behind: weights, states and a stream of random numbers."

    def __init__(self, loss):
        self.linear, self.dropout = layers.Linear(3, 3, rng=0), layers.Dropout(0.5, rng=1)
        self.optimizer = optimizers.SGD(self.linear.parameters(), lr=0.1, momentum=0.9)
        self.loss = loss

    def step(self, x, other):
        loss = self.loss(self.linear(self.dropout(Tensor(x))), other)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def memory(self):
        states = [a for state in self.optimizer.state.values() for a in state.values()]
        return [a.copy() for a in [*[p.data for p in self.linear.parameters()], *states, self.dropout.state]]


def outcome(step, *inputs):
    try:
        return step(*inputs).data.tobytes()
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", CASES)
def test_what_a_plain_step_refuses_a_captured_step_refuses(name):
    loss, good, wrong = CASES[name]
    plain, fast, fused = Net(loss), Net(loss), Net(loss)
    steps = plain.step, capture(fast.step, fuse=False), capture(fused.step)
    x = rng.normal(size=(4, 3)).astype(np.float32)
    for _ in range(3):
        expected, got, _ = [outcome(step, x, good) for step in steps]
        assert got == expected
    if name != "take":                          # along its second axis `take` is numpy's, and stays so
        assert steps[1].captured, steps[1].reason
        assert steps[2].captured, steps[2].reason
    for bad in wrong:
        before = fused.memory()
        expected, got, merged = [outcome(step, x, bad) for step in steps]
        assert isinstance(expected, tuple), "the plain step must refuse this"
        assert got == expected
        assert merged == expected
        for a, b in zip(plain.memory(), fast.memory(), strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(before[:-1], fused.memory()[:-1], strict=True):
            np.testing.assert_array_equal(a, b)             # of the fused step's memory only the dropout's counter moves
        np.testing.assert_array_equal(fused.dropout.state[1], plain.dropout.state[1])
    assert outcome(steps[1], x, good) == outcome(steps[0], x, good)             # and goes on as if nothing had been


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("kernel, axis", [("take", 0), ("scatter_add", 0), ("take_along_axis", 1), ("put_along_axis_add", 1)])
def test_indices_that_only_a_kernel_sees_end_the_step_there(kernel, axis, fuse):
    counter, out = np.zeros(1, np.float32), np.zeros((4, 3), np.float32)

    def step(x, i):
        kernels.launch(getattr(kernels, kernel), out, x, i, axis)
        kernels.launch(kernels.add, counter, counter, 1.0)
        return Tensor(kernels.launch(kernels.multiply, np.empty((4, 3), np.float32), out, 2.0))

    x, good = np.ones((4, 3), np.float32), LABELS if axis == 0 else SYMBOLS
    fast = capture(step, fuse=fuse)
    for _ in range(4):
        fast(x, good)
    assert fast.captured, fast.reason
    assert counter == 4
    for value in (9, -9):
        before = out.copy()
        expected = outcome(step, x, spoiled(good, value))
        assert expected[0] is IndexError
        assert outcome(fast, x, spoiled(good, value)) == expected
        assert counter == 4                                     # what comes behind has not run
        if "add" in kernel:
            np.testing.assert_array_equal(out, before)          # and what adds has added nothing


def test_a_check_of_what_nobody_reads_is_not_left_out():
    def step(x, t):
        outputs.binary_cross_entropy_with_logits(Tensor(x), t)          # looked at, and dropped
        return (Tensor(x) * 2.0).sum()

    fast = capture(step)
    for _ in range(3):
        fast(HALVES, HALVES)
    assert fast.captured
    with pytest.raises(ValueError, match="targets must lie between 0 and 1"):
        fast(HALVES, spoiled(HALVES, 2))


def test_running_statistics_stand_where_the_plain_step_left_them():
    def net():
        model = layers.Sequential(layers.Linear(3, 3, rng=0), layers.BatchNorm1d(3))

        def step(x, t):
            return outputs.binary_cross_entropy_with_logits(ag.sigmoid(model(Tensor(x))) * 2.0, t)
        return model, step

    (one, plain), (two, step) = net(), net()
    fast = capture(step)
    x = rng.normal(size=(4, 3)).astype(np.float32)
    for _ in range(3):
        plain(x, HALVES), fast(x, HALVES)
    assert fast.captured
    assert outcome(fast, x, spoiled(HALVES, 3)) == outcome(plain, x, spoiled(HALVES, 3))
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


SYMBOL_ROWS = rng.integers(0, 10, (48, 3))
TABLE = {
    "a class that is none": ("cross_entropy", rng.normal(size=(48, 4)).astype(np.float32), rng.integers(0, 3, 48), None, 3),
    "a target above 1": (outputs.binary_cross_entropy_with_logits, rng.normal(size=(48, 4)).astype(np.float32),
                         rng.integers(0, 2, (48, 3)).astype(np.float32), None, 3),
    "a negative count": (outputs.poisson_nll_loss, rng.normal(size=(48, 4)).astype(np.float32),
                         rng.integers(0, 5, (48, 3)).astype(np.float32), None, -4),
    "a symbol beyond the table": ("cross_entropy", SYMBOL_ROWS, rng.integers(0, 3, 48), 12, None),
    "a symbol below it": ("cross_entropy", SYMBOL_ROWS, rng.integers(0, 3, 48), -1, None),
}


@pytest.mark.parametrize("name", TABLE)
def test_wrong_data_in_the_middle_of_an_epoch(name):
    loss, X, y, symbol, target = TABLE[name]
    wrong_X, wrong_y = X.copy(), y.copy()
    if symbol is not None:
        wrong_X[29, 1] = symbol
    else:
        wrong_y[29, ...] = target
    ends = []
    for captured in (False, True):
        first = layers.Linear(4, 3, rng=0) if symbol is None else layers.Sequential(
            layers.Embedding(10, 4, rng=0), layers.Flatten(), layers.Linear(12, 3, rng=1))
        trainer = dn.Trainer(first, loss=loss, optimizer=optimizers.Adam(first.parameters(), lr=0.01), capture=captured, seed=3)
        trainer.fit(X, y, epochs=1, batch_size=8)
        with pytest.raises((ValueError, IndexError)) as error:
            trainer.fit(wrong_X, wrong_y, epochs=2, batch_size=8)
        ends.append((type(error.value), str(error.value), trainer))
    assert ends[0][:2] == ends[1][:2]
    plain, fast = ends[0][2], ends[1][2]
    for a, b in zip(plain.model.state_dict().values(), fast.model.state_dict().values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert plain.history["loss"] == pytest.approx(fast.history["loss"])
