"""A captured step: the same numbers as the plain one, recorded anew when something changes, refused when it must be."""

import functools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import kernels, layers, optimizers, outputs
from deepnotes.capture import capture, reach

pytestmark = pytest.mark.skipif(not kernels.can_compile(), reason="captured steps are compiled loops, which need numba")
ACTIVATIONS = ["relu", "tanh", "sigmoid", "gelu", "silu", "elu", "softplus", "leaky_relu"]
OPTIMIZERS = [
    lambda p: optimizers.SGD(p, lr=0.05),
    lambda p: optimizers.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    lambda p: optimizers.Adagrad(p, lr=0.05),
    lambda p: optimizers.RMSprop(p, lr=0.01, momentum=0.5),
    lambda p: optimizers.Adam(p, lr=0.01),
    lambda p: optimizers.AdamW(p, lr=0.01, amsgrad=True),
]
CROSS_ENTROPY = outputs.cross_entropy, lambda rng, n, k: rng.integers(0, k, n)
LOSSES = [
    CROSS_ENTROPY,
    (outputs.mse_loss, lambda rng, n, k: rng.standard_normal((n, k))),
    (outputs.huber_loss, lambda rng, n, k: rng.standard_normal((n, k))),
    (outputs.binary_cross_entropy_with_logits, lambda rng, n, k: rng.integers(0, 2, (n, k)).astype(float)),
]


def training_step(model, optimizer, loss=outputs.cross_entropy, clip=None):
    def step(x, y):
        value = loss(model(dn.Tensor(x)), y)
        optimizer.zero_grad()
        value.backward()
        if clip is not None:
            optimizers.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return value

    return step


def pair(make, fuse=False):
    "The same step twice: plain, and captured; with the models behind them."
    plain, other = make(), make()
    return plain[1], capture(other[1], fuse=fuse), plain[0], other[0]


def assert_same_state(a, b, tolerance=0.0):
    for (name, x), (_, y) in zip(sorted(a.state_dict().items()), sorted(b.state_dict().items()), strict=True):
        if tolerance:
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * max(1e-30, np.abs(x).max()), err_msg=name)
        else:
            np.testing.assert_array_equal(x, y, err_msg=name)


def random_case(seed):
    "An architecture, loss, optimizer and data drawn from a seed."
    rng = np.random.default_rng(seed)
    dtype = rng.choice([np.float32, np.float64])
    widths = [int(n) for n in rng.integers(1, 40, rng.integers(2, 5))]
    activation, loss, optimizer = (choices[rng.integers(len(choices))] for choices in (ACTIVATIONS, LOSSES, OPTIMIZERS))
    widths[-1] += loss is CROSS_ENTROPY
    batch = int(rng.choice([1, 2, 7, 33]))
    extra = {"norm": [None, "batch", "layer", "rms"][rng.integers(4 if batch > 1 else 1)]}
    extra["dropout"] = float(rng.choice([0.0, 0.3]))
    clip = rng.choice([None, 0.5])

    def make():
        model = dn.MLP(widths[0], widths[1:-1], widths[-1], activation=activation, rng=seed, dtype=dtype, **extra)
        return model, training_step(model, optimizer(model.parameters()), loss[0], clip)

    n = 5 * batch
    y = loss[1](rng, n, widths[-1])
    x = rng.standard_normal((n, widths[0])).astype(dtype)
    return make, x, y if y.dtype.kind == "i" else y.astype(dtype), batch


@pytest.mark.parametrize("seed", range(36))
def test_captured_and_plain_steps_agree_bit_for_bit(seed):
    make, x, y, batch = random_case(seed)
    step, fast, model, twin = pair(make)
    for k in range(5):
        rows = slice(k * batch, (k + 1) * batch)
        np.testing.assert_array_equal(step(x[rows], y[rows]).data, fast(x[rows], y[rows]).data)
    assert fast.captured, fast.reason
    assert_same_state(model, twin)


@pytest.mark.parametrize("seed", range(100, 112))
def test_fused_steps_stay_within_a_few_roundings(seed):
    make, x, y, batch = random_case(seed)
    step, fast, *_ = pair(make, fuse=True)
    eps = np.finfo(x.dtype).eps
    for k in range(5):
        rows = slice(k * batch, (k + 1) * batch)
        np.testing.assert_allclose(step(x[rows], y[rows]).data, fast(x[rows], y[rows]).data, rtol=2000 * eps, atol=2000 * eps)
    assert fast.captured, fast.reason


def small(seed=0, **options):
    model = dn.MLP(6, [5], 3, rng=seed, **options)
    return model, training_step(model, optimizers.Adam(model.parameters(), lr=0.01))


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 6)).astype(np.float32), rng.integers(0, 3, n)


def epoch(step, x, y, order, batch):
    return [step(x[order[i:i + batch]], y[order[i:i + batch]]).item() for i in range(0, len(order), batch)]


@pytest.mark.parametrize("fuse", [False, True])
def test_run_is_the_loop_over_batches_with_a_smaller_last_one(fuse):
    step, fast, model, twin = pair(small, fuse)
    x, y = data(50)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(50)
        expected, (losses,) = epoch(step, x, y, order, 8), fast.run((x, y), order, 8)
        assert losses.shape == (7,)
        np.testing.assert_allclose(losses, expected, rtol=1e-4 if fuse else 0)
    assert_same_state(model, twin, 1e-3 if fuse else 0.0)


def test_run_can_stop_and_go_on_and_fill_arrays_that_are_given():
    step, fast, model, twin = pair(small)
    x, y = data(64)
    order, losses = np.arange(64), np.zeros(8, np.float32)
    fast.run((x, y), order, 8, start=0, steps=3, out=[losses[:3]])
    fast.run((x, y), order, 8, start=3, out=[losses[3:]])
    np.testing.assert_array_equal(losses, epoch(step, x, y, order, 8))
    assert_same_state(model, twin)
    with pytest.raises(ValueError, match="8 batches of 8"):
        fast.run((x, y), order, 8, start=7, steps=2)
    with pytest.raises(IndexError, match="row 64"):
        fast.run((x, y), order + 1, 8)


def test_feeds_are_schedules():
    def make():
        model = dn.MLP(6, [5], 3, rng=0)
        optimizer = optimizers.SGD(model.parameters(), lr=1.0)
        step = training_step(model, optimizer)
        return (model, optimizer), step

    (model, optimizer), step = make()
    (twin, other), same = make()
    fast, (x, y) = capture(same, fuse=False), data(80)
    rates = np.linspace(0.2, 0.01, 10)
    expected = []
    for k, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        expected.append(step(x[8 * k:8 * k + 8], y[8 * k:8 * k + 8]).item())
    (losses,) = fast.run((x, y), np.arange(80), 8, feeds=[(other.param_groups[0].array("lr"), rates)])
    np.testing.assert_array_equal(losses, expected)
    assert_same_state(model, twin)
    assert other.param_groups[0]["lr"] == rates[-1]


def test_a_learning_rate_set_between_calls_is_used():
    (model, step), (x, y) = small(), data(8)
    fast = capture(step)
    for _ in range(3):
        fast(x, y)
    optimizer = step.__closure__[[*step.__code__.co_freevars].index("optimizer")].cell_contents
    optimizer.param_groups[0]["lr"] = 0.0
    before = model.state_dict()
    fast(x, y)
    assert fast.captured
    assert all((before[name] == value).all() for name, value in model.state_dict().items())


def test_dropout_goes_on_in_the_same_stream():
    def make():
        model = dn.MLP(6, [40], 3, dropout=0.5, rng=0)
        return model, training_step(model, optimizers.SGD(model.parameters(), lr=0.01))

    step, fast, model, twin = pair(make)
    x, y = data(8)
    values = [(step(x, y).item(), fast(x, y).item()) for _ in range(6)]
    assert fast.captured
    assert all(a == b for a, b in values) and len({a for a, _ in values}) == 6
    assert_same_state(model, twin)                    # the random state is a buffer


def test_shapes_have_programs_of_their_own():
    step, fast, model, twin = pair(small)
    x, y = data(20)
    for n in (20, 7, 20, 7, 20, 7, 13, 20, 7):
        assert step(x[:n], y[:n]).item() == fast(x[:n], y[:n]).item()
    assert fast.captured
    assert_same_state(model, twin)


def test_a_new_parameter_array_is_noticed():
    step, fast, model, twin = pair(small)
    x, y = data(8)
    for _ in range(3):
        step(x, y), fast(x, y)
    for m in (model, twin):
        m.parameters()[0].data = np.full((6, 5), 0.25, np.float32)
    for _ in range(4):
        assert step(x, y).item() == fast(x, y).item()
    assert_same_state(model, twin)


def test_a_new_layer_and_a_new_mode_are_noticed():
    def make():
        model = dn.MLP(6, [9], 3, dropout=0.5, rng=0)
        return model, training_step(model, optimizers.SGD(model.parameters(), lr=0.1))

    step, fast, model, twin = pair(make)
    x, y = data(8)
    for change in (lambda m: None, lambda m: m.eval(), lambda m: m.train(),
                   lambda m: setattr(m, "0", layers.Linear(6, 9, rng=5))):
        change(model), change(twin)
        for _ in range(4):
            assert step(x, y).item() == fast(x, y).item()
        assert fast.captured
    assert_same_state(model, twin)


def refusal(step, *inputs):
    "Run a step five times; the reason why it was not captured."
    fast = capture(step)
    for _ in range(5):
        fast(*inputs)
    assert not fast.captured
    return fast.reason


def test_each_refusal_is_one_sentence_that_says_what_and_where():
    model, plain = small()
    (x, y), count, scale = data(4), [0], np.ones(1)

    def branches(x, y):
        loss = plain(x, y)
        return loss * 2 if loss.item() > 0 else loss

    assert "asks for a number in Python (.item() in " in refusal(branches, x, y)
    assert "in branches, line" in refusal(branches, x, y) and "if loss.item() > 0" in refusal(branches, x, y)

    def condition(x, y):
        loss = plain(x, y)
        return loss * 2 if loss > 0 else loss

    assert "a condition in" in refusal(condition, x, y)

    def python_noise(x, y):
        return plain(x + np.random.default_rng(0).normal(size=x.shape).astype(np.float32), y)

    assert "outside launches" in refusal(python_noise, x, y)
    assert "np.add in python_noise, line" in refusal(python_noise, x, y)
    assert "made itself, outside launches" in refusal(lambda x: (dn.Tensor(x) * np.ones(x.shape)).sum(), x)

    def counts(x, y):
        count[0] += 1
        return plain(x, y) * count[0]

    assert re.search("`multiply` took the number [0-9] in one step and [0-9] in the next", refusal(counts, x, y))

    def alternates(x, y):
        count[0] += 1
        return plain(x, y) if count[0] % 2 else plain(x, y) * 2

    assert "not the same" in refusal(alternates, x, y)
    assert "runs in numpy" in refusal(lambda x: dn.autograd.cumsum(dn.Tensor(x), 0).sum(), x)
    assert "returned float" in refusal(lambda x: 1.5, x)
    with kernels.backend("numpy"):
        assert "numpy backend" in refusal(plain, x, y)
    assert scale == 1


@pytest.mark.parametrize("step", [
    lambda x, y: dn.Tensor(x).sum() * (2 if x.mean() > 0 else 1),
    lambda x, y: dn.Tensor(x).sum() * (2 if x[0, 0] > 0 else 1),
    lambda x, y: dn.Tensor(x).sum() / float((y > 0).sum() + 1),
    lambda x, y: dn.Tensor(x)[int(y[0])].sum(),
    lambda x, y: dn.Tensor(x).sum() * (2 if 3 in y else 1),
    lambda x, y: dn.Tensor(x).sum() * sum(y.tolist()),
    lambda x, y: dn.Tensor(x).sum() * max(y),
    lambda x, y: dn.Tensor(x).sum() * np.argmax(y),
    lambda x, y: dn.Tensor(x).sum() * (2 if dn.Tensor(x).data.max() > 0 else 1),
    lambda x, y: dn.Tensor(x).sum() * (2 if dn.Tensor(x).numpy().max() > 0 else 1),
    lambda x, y: dn.Tensor(x).sum() * (2 if np.asarray(dn.Tensor(x)).max() > 0 else 1)])
def test_numpy_that_looks_into_the_mini_batch_is_noticed_where_two_batches_agree(step):
    x, y = np.ones((4, 3), np.float32), np.array([0, 1, 2, 3])
    fast = capture(step)
    for sign in (1, 1, 1, -1):
        y = y if sign > 0 else 2 - y.clip(0, 2)
        assert step(sign * x, y).item() == fast(sign * x, y).item()
    assert not fast.captured and ("numpy works on an array" in fast.reason or "np.asarray" in fast.reason)


def test_shapes_and_views_may_be_looked_at():
    def step(x, y):
        assert x.shape[0] == len(y) and x.dtype == np.float32 and x.ndim == 2
        z = dn.Tensor(x.reshape(2, 2, -1)[:, 0]) * (1 / x.shape[1]) + dn.Tensor(x[::2])
        return z.sum() + np.zeros_like(x).shape[0] * dn.Tensor(x).mean()

    fast, (x, y) = capture(step), data(4)
    for k in range(4):
        assert step(x * k, y).item() == fast(x * k, y).item()
    assert fast.captured, fast.reason


def test_an_assert_under_pytest_does_not_reach_the_test_session(monkeypatch):
    import _pytest.assertion.util  # where pytest keeps what it shows a failing comparison with
    session = {k: [k] for k in range(60_000)}
    monkeypatch.setattr(_pytest.assertion.util, "_reprcompare", lambda *parts: repr(session))

    def step(x, y):
        assert x.shape[0] == len(y)
        return (dn.Tensor(x) * dn.Tensor(y)).sum()

    fast, (x, y) = capture(step), data(4)
    for k in range(4):
        assert step(x, y[:, None] * k).item() == fast(x, y[:, None] * k).item()
    assert fast.captured, fast.reason


@pytest.mark.parametrize("kind", ["data", "numpy", "an array from outside", "an average beside", "a list"])
def test_steps_that_numpy_finishes_are_not_replayed(kind):
    def make():
        model, log, average = dn.MLP(6, [5], 3, rng=0), [], np.zeros((6, 5), np.float32)
        weight = model.parameters()[0].data

        def step(x, y):
            z = model(dn.Tensor(x))
            loss = outputs.cross_entropy(z, y)
            model.zero_grad()
            loss.backward()
            for p in model.parameters():
                if kind == "data":
                    p.data -= 0.1 * p.grad.data
                elif kind == "numpy":
                    p.numpy()[...] -= 0.1 * p.grad.numpy()
            if kind == "an array from outside":
                np.multiply(weight, 0.9, out=weight)
            elif kind == "an average beside":
                np.multiply(average, 0.9, out=average)
                np.add(average, 1, out=average)
            elif kind == "a list":
                log.append(float(np.mean(z.numpy().argmax(1) == y)))
            return loss

        step.average, step.log = average, log
        return model, step

    (model, step), (twin, other), (x, y) = make(), make(), data(8)
    fast = capture(other, fuse=False)
    for _ in range(7):
        assert step(x, y).item() == fast(x, y).item()
    assert not fast.captured and "outside launches" in fast.reason
    assert_same_state(model, twin)
    np.testing.assert_array_equal(step.average, other.average)
    assert step.log == other.log


def test_memory_that_launches_and_numpy_write_is_named_and_the_trial_leaves_no_trace():
    def make():
        model = dn.MLP(6, [5], 3, rng=0)
        weight, step = model.parameters()[0].data, training_step(model, optimizers.SGD(model.parameters(), lr=0.1))

        def decays(x, y):
            np.multiply(weight, 0.9, out=weight)
            return step(x, y)

        return model, decays

    step, fast, model, twin = pair(make)
    x, y = data(8)
    for _ in range(6):
        assert step(x, y).item() == fast(x, y).item()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            np.testing.assert_array_equal(p.grad.data, q.grad.data)
    assert_same_state(model, twin)
    assert "the step changes `weight` of shape (6, 5) outside launches" in fast.reason


class Settings:
    scale = 2.0
    __slots__ = ("slot", "__dict__")

    def __init__(self):
        self.slot, self.numbers, self.array = 2.0, [2.0], np.array([2.0, 1.0])

    @property
    def first(self):
        return self.numbers[0]


def by_default(x, settings=None, numbers=(2.0,)):
    return dn.Tensor(x).sum() * numbers[0]


def by_name(x, *, numbers=(2.0,)):
    return dn.Tensor(x).sum() * numbers[0]


def places():
    "Steps that multiply by a number which Python finds somewhere, and how to make it 3."
    s, cls = Settings(), type("Own", (Settings,), {})
    own, module, table = cls(), types.ModuleType("of_the_test"), {"deep": [{"k": 2.0}]}
    module.k, functions = 2.0, [lambda t: t * 2.0]

    def closure():
        k = 2.0

        def step(x):
            return dn.Tensor(x).sum() * (lambda: k)()

        def change():
            nonlocal k
            k = 3.0
        return step, change

    one, two, three = [2.0], [2.0], [2.0]
    default = types.FunctionType(by_default.__code__, globals(), "default", (None, one))
    named = types.FunctionType(by_name.__code__, globals(), "named")
    named.__kwdefaults__ = {"numbers": two}
    return {
        "a slot": (lambda x: dn.Tensor(x).sum() * s.slot, lambda: setattr(s, "slot", 3.0)),
        "an element of a list": (lambda x: dn.Tensor(x).sum() * s.numbers[0], lambda: s.numbers.__setitem__(0, 3.0)),
        "a property": (lambda x: dn.Tensor(x).sum() * s.first, lambda: s.numbers.__setitem__(0, 3.0)),
        "a class": (lambda x: dn.Tensor(x).sum() * own.scale, lambda: setattr(cls, "scale", 3.0)),
        "a class above": (lambda x: dn.Tensor(x).sum() * own.scale, lambda: setattr(Settings, "scale", 3.0)),
        "a module": (lambda x: dn.Tensor(x).sum() * module.k, lambda: setattr(module, "k", 3.0)),
        "a nested table": (lambda x: dn.Tensor(x).sum() * table["deep"][0]["k"],
                           lambda: table["deep"][0].__setitem__("k", 3.0)),
        "a small array": (lambda x: dn.Tensor(x).sum() * float(s.array[0]), lambda: s.array.__setitem__(0, 3.0)),
        "a function in a list": (lambda x: functions[0](dn.Tensor(x).sum()),
                                 lambda: functions.__setitem__(0, lambda t: t * 3.0)),
        "a default": (default, lambda: one.__setitem__(0, 3.0)),
        "a default by name": (named, lambda: two.__setitem__(0, 3.0)),
        "a partial": (functools.partial(by_default, numbers=three), lambda: three.__setitem__(0, 3.0)),
        "a closure": closure(),
    }


@pytest.mark.parametrize("name", places())
def test_a_number_that_is_changed_between_calls_is_noticed_wherever_python_keeps_it(name, monkeypatch):
    monkeypatch.setattr(Settings, "scale", 2.0)
    step, change = places()[name]
    fast, x = capture(step), np.arange(6, dtype=np.float32)
    assert [fast(x).item() for _ in range(3)] == [30.0] * 3 and fast.captured, fast.reason
    change()
    assert [fast(x).item() for _ in range(3)] == [45.0] * 3 and fast.captured, fast.reason


def test_numbers_texts_and_arrays_of_no_axes_may_be_given_to_a_step():
    def step(x, s, mode="sum"):
        return getattr(dn.Tensor(x), mode)() * s

    fast, x = capture(step), np.arange(6, dtype=np.float32)
    for s in (2.0, np.array(2.0), np.float32(2.0), 2):
        values = [fast(x, s, "sum").item() for _ in range(3)]
        assert values == [30.0] * 3 and fast.captured
        assert fast(x, s + 1, "sum").item() == 45.0 and not fast.captured
        assert fast(x, s, "max").item() == 10.0 and not fast.captured
    for k in range(100):
        assert fast(x, float(k)).item() == 15.0 * k
    assert len(fast._plans) <= 32
    with pytest.raises(TypeError, match="arrays, Tensors and numbers, got dict"):
        fast({"x": x}, 2.0)


def test_a_frozen_layer_is_noticed():
    step, fast, model, twin = pair(small)
    x, y = data(8)
    for frozen in (False, True, False):
        for m in (model, twin):
            m.parameters()[0].requires_grad = not frozen
        for _ in range(4):
            assert step(x, y).item() == fast(x, y).item()
        assert fast.captured
    assert_same_state(model, twin)


def test_run_says_what_is_wrong_with_its_arguments():
    _, step = small()
    fast, (x, y), order = capture(step), data(40), np.arange(40)
    for out in ([np.zeros(3, np.float32)], [np.zeros((), np.float32)], np.zeros(5, np.float32), [[0.0] * 5]):
        with pytest.raises(ValueError, match="room for 5 steps"):
            fast.run((x, y), order, 8, out=out)
    for out in ([], [np.zeros(5, np.float32)] * 2):
        with pytest.raises(ValueError, match="the step returns 1 arrays, but out holds"):
            fast.run((x, y), order, 8, out=out)
    for wrong in (np.ones(40, bool), np.linspace(0, 5, 8), order.reshape(5, 8), 40):
        with pytest.raises(TypeError, match="order must be the numbers of rows"):
            fast.run((x, y), wrong, 8)
    for batch_size in (0, -1, 2.5, True, None):
        with pytest.raises(ValueError, match="batch_size must be a whole number of rows, at least 1"):
            fast.run((x, y), order, batch_size)
    for arrays in (x, dn.Tensor(x), (), (x, 3)):
        with pytest.raises(TypeError, match="such as"):
            fast.run(arrays, order, 8)
    with pytest.raises(ValueError, match="the arrays hold 40, 30 rows"):
        fast.run((x, y[:30]), order, 8)
    for feed in ((np.zeros(2), [1] * 5), (np.zeros(1), [1, 2]), (0.1, [1] * 5)):
        with pytest.raises(ValueError, match="a feed needs a one-element array and 5 values"):
            fast.run((x, y), order, 8, feeds=[feed])
    for wrong in (3, None, "step"):
        with pytest.raises(TypeError, match="capture: expected a function"):
            capture(wrong)
    assert fast.run((x, y), [], 8) == []


def test_a_refused_step_still_computes():
    step, fast, model, twin = pair(small)
    inner, (x, y) = fast.step, data(8)

    def peeking(x, y):
        loss = inner(x, y)
        loss.item()
        return loss

    fast = capture(peeking)
    for _ in range(4):
        assert step(x, y).item() == fast(x, y).item()
    (losses,) = fast.run((x, y), np.arange(8), 4)
    np.testing.assert_array_equal(losses, epoch(step, x, y, np.arange(8), 4))
    assert not fast.captured
    assert_same_state(model, twin)


def test_a_step_that_counts_in_python_is_refused():
    class Counter:
        steps = 0

    counter, (_, plain), (x, y) = Counter(), small(), data(4)

    def step(x, y):
        counter.steps += 1
        return plain(x, y)

    counter.steps = 0
    assert "changes 'steps' in Python, from 3 to 4" in refusal(step, x, y)


def test_bad_labels_raise_the_same_error():
    _, step = small()
    fast, (x, y) = capture(step), data(8)
    for _ in range(3):
        fast(x, y)
    y[3] = 3
    with pytest.raises(ValueError, match="labels hold class 3"):
        fast(x, y)
    with pytest.raises(ValueError, match="labels hold class 3"):
        fast.run((x, y), np.arange(8), 8)


def test_outputs_are_copies_and_keep_their_form():
    def step(x):
        total = dn.Tensor(x).sum()
        return total, dn.Tensor(x) * 2

    fast = capture(step)
    results = [fast(np.full((2, 2), float(k))) for k in range(4)]
    assert fast.captured
    for k, (total, double) in enumerate(results):
        assert total.item() == 4 * k and (double.data == 2 * k).all()
    totals, doubles = fast.run([np.arange(12.0).reshape(6, 2)], np.arange(6), 2)
    np.testing.assert_array_equal(totals, [6, 22, 38])
    np.testing.assert_array_equal(doubles, 2 * np.arange(12.0).reshape(3, 2, 2))


def test_scatter_gather_and_strided_views():
    rng = np.random.default_rng(0)
    table = dn.Tensor(rng.standard_normal((10, 4)).astype(np.float32), requires_grad=True)

    def step(index, w):
        rows = dn.autograd.take(table, index, 0)
        mixed = (rows.T @ dn.Tensor(w)).T[:, ::2] * rows[:, 1:3]
        loss = (mixed * mixed).sum()
        table.grad = None
        loss.backward()
        return loss, table.grad

    fast = capture(step, fuse=False)
    for _ in range(5):
        index, w = rng.integers(0, 10, 6), rng.standard_normal((6, 6)).astype(np.float32)
        expected, got = step(index, w), fast(index, w)
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    assert fast.captured, fast.reason


def test_source_reads_like_the_step():
    _, step = small()
    fast, (x, y) = capture(step, fuse=False), data(8)
    with pytest.raises(RuntimeError, match="no step has run yet"):
        _ = fast.source
    for _ in range(2):
        fast(x, y)
    text = fast.source
    assert text.startswith("def step(x, y):\n")
    for line in ("matmul(matmul1, x, model_0_weight)", "cross_entropy(", "adam(model_0_weight", "return cross_entropy1"):
        assert line in text
    compile(text, "source", "exec")


def test_random_numbers_and_running_statistics_are_state():
    def make():
        model = dn.MLP(6, [8], 3, norm="batch", dropout=0.2, rng=3)
        return model, training_step(model, optimizers.RMSprop(model.parameters(), lr=0.01))

    step, fast, model, twin = pair(make)
    x, y = data(48)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(48)
        np.testing.assert_array_equal(fast.run((x, y), order, 8)[0], epoch(step, x, y, order, 8))
    assert_same_state(model, twin)


def test_threads_may_share_a_captured_step():
    _, step = small()
    fast, (x, y) = capture(step), data(8)
    for _ in range(2):
        fast(x, y)
    failures = []

    def work():
        try:
            for _ in range(200):
                assert np.isfinite(fast(x, y).item())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_progress_is_reported_within_an_epoch():
    _, step = small()
    fast, (x, y) = capture(step), data(64)
    seen = []
    fast.run((x, y), np.tile(np.arange(64), 200), 2, progress=seen.append)
    assert seen[-1] == 6400 and seen == sorted(set(seen)) and len(seen) > 4


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)      # a parent may have told it to ignore Ctrl-C
import numpy as np
import deepnotes as dn
from deepnotes import optimizers, outputs
from deepnotes.capture import capture
model = dn.MLP(6, [5, 4], 3, rng=0)
optimizer = optimizers.Adam(model.parameters())
def step(x, y):
    loss = outputs.cross_entropy(model(dn.Tensor(x)), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
fast = capture(step)
rng = np.random.default_rng(0)
x, y = rng.standard_normal((4096, 6)).astype(np.float32), rng.integers(0, 3, 4096)
"""


def run_script(text, folder, **options):
    environment = {**os.environ, "DEEPNOTES_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(SCRIPT) + textwrap.dedent(text)], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


RUNS_ONCE = """
    losses = fast.run((x, y), np.arange(4096), 32)[0]
    print(fast.captured, "numba" in sys.modules, losses[-1])
    """


@pytest.fixture(scope="module")
def first_process(tmp_path_factory):
    """A folder with the machine code of a process that compiled everything, and what that process said."""
    folder = tmp_path_factory.mktemp("machine code")
    return folder, run_script(RUNS_ONCE, folder).communicate()[0].split()


@pytest.mark.slow("the fixture's process compiles a whole step, as a first one does")
def test_the_next_process_needs_no_compiler(first_process):
    folder, first = first_process
    second = run_script(RUNS_ONCE, folder).communicate()[0].split()
    assert first[:2] == ["True", "True"] and second[:2] == ["True", "False"]
    assert first[2] == second[2]


@pytest.mark.slow("waits for a process that compiles a whole step, if it is the first to ask")
def test_ctrl_c_ends_a_long_run(first_process):
    text = """
    fast.run((x, y), np.arange(4096), 32)
    order = np.tile(np.arange(4096), 20000)
    print("ready", flush=True)
    try:
        fast.run((x, y), order, 1)
    except KeyboardInterrupt:
        before = [p.data.copy() for p in model.parameters()]
        print("stopped", np.isfinite(fast(x[:1], y[:1]).item()), flush=True)
    """
    process = run_script(text, first_process[0])
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert out == "stopped True\n", error


def test_without_a_blas_to_call_the_step_runs_in_python(monkeypatch):
    monkeypatch.setattr(kernels.matmul, "compiled", kernels.matmul.reference)
    _, step = small()
    assert "`matmul` runs in numpy" in refusal(step, *data(8))


def test_one_example_at_a_time_needs_no_gradient_of_the_weights():
    model, step = small()
    fast, (x, y) = capture(step), data(1)
    for _ in range(2):
        fast(x, y)
    assert "outer_adam(model_0_weight, x" in fast.source and "relu_backward" in fast.source
    assert model.parameters()[0].grad is None           # not a stale one


def test_a_gradient_that_the_step_returns_is_kept():
    model, plain = small()

    def step(x, y):
        loss = plain(x, y)
        return loss, model.parameters()[0].grad

    def same(x, y):
        loss = other_plain(x, y)
        return loss, other.parameters()[0].grad

    other, other_plain = small()
    fast = capture(step)
    for k in range(5):
        x, y = data(3, seed=k)
        (a, g), (b, h) = fast(x, y), same(x, y)
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5)
        np.testing.assert_allclose(g.data, h.data, rtol=1e-4, atol=1e-6)
    assert fast.captured


def test_rewriting_leaves_out_joins_and_shares():
    from deepnotes.capture import arena, fuse
    from deepnotes.capture.effects import owner

    x, w, result = np.ones((64, 32), np.float32), np.ones((32, 32), np.float32), np.empty((), np.float32)
    with kernels.recording() as launches:
        h = x
        for _ in range(6):
            z = kernels.launch(kernels.matmul, np.empty((64, 32), np.float32), h, w)
            kernels.launch(kernels.add, np.empty_like(z), z, 1.0)                       # nobody reads it
            h = kernels.launch(kernels.tanh, np.empty_like(z), kernels.launch(kernels.multiply, z, z, 0.1))
        kernels.launch(kernels.sum, result, h)
    lasting = {id(a) for a in (x, w, result)}
    last = lambda a: id(owner(a)) in lasting  # noqa: E731
    assert len(launches) == 25 and len(fuse.alive(launches, last)) == 19
    groups = fuse.grouped(fuse.alive(launches, last))
    assert [len(group.launches) for group in groups] == [1, 2] * 6 + [1]
    before, after = arena.shared(groups, last)
    assert before == 12 * x.nbytes and after == 2 * x.nbytes


@pytest.mark.parametrize("seed", range(3))
def test_powers_maxima_and_both_kinds_of_clipping_are_captured(seed):
    def make():
        model = layers.Sequential(layers.Maxout(6, 5, 3, rng=seed), layers.Linear(5, 2, rng=seed))
        optimizer = optimizers.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            out = model(dn.Tensor(x))
            loss = (out**2).mean() + (out**4).mean() - 0.1 * out.min() + 0.01 * ((out**2) ** 1.5).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizers.clip_grad_norm_(model.parameters(), 1.0, norm_type=float("inf"))
            optimizers.clip_grad_value_(model.parameters(), 0.5)
            optimizer.step()
            return loss

        return model, step

    step, fast, model, twin = pair(make)
    for k in range(5):
        x, y = data(8, seed=k)
        assert step(x, y).item() == fast(x, y).item()
    assert fast.captured, fast.reason
    assert_same_state(model, twin)


def square_of_softmax(z, y):
    return (dn.activations.softmax(z) ** 2).mean()


CLASS_WEIGHT = np.array([0.5, 1.0, 2.0], np.float32)
EVERY_LOSS = {
    "mse_loss": (outputs.mse_loss, "numbers"),
    "l1_loss": (outputs.l1_loss, "numbers"),
    "huber_loss": (outputs.huber_loss, "numbers"),
    "hinge_loss": (outputs.hinge_loss, "signs"),
    "poisson_nll_loss": (outputs.poisson_nll_loss, "counts"),
    "gaussian_nll_loss": (lambda z, y: outputs.gaussian_nll_loss(z, y, dn.activations.softplus(z) + 0.1), "numbers"),
    "mixture_density_nll_loss": (lambda z, y: outputs.mixture_density_nll_loss(z, 2 * z, 0.1 * z, y[:, 0]), "numbers"),
    "binary_cross_entropy": (lambda z, y: outputs.binary_cross_entropy(dn.activations.sigmoid(z), y), "bits"),
    "binary_cross_entropy_with_logits": (
        lambda z, y: outputs.binary_cross_entropy_with_logits(z, y, pos_weight=CLASS_WEIGHT), "bits"),
    "cross_entropy": (
        lambda z, y: outputs.cross_entropy(z, y, weight=CLASS_WEIGHT, label_smoothing=0.1, ignore_index=1), "labels"),
    "cross_entropy of probabilities": (outputs.cross_entropy, "rows"),
    "nll_loss": (lambda z, y: outputs.nll_loss(dn.activations.log_softmax(z), y), "labels"),
    "nll_loss, weighted": (
        lambda z, y: outputs.nll_loss(dn.activations.log_softmax(z), y, weight=CLASS_WEIGHT, ignore_index=1), "labels"),
    "kl_div": (lambda z, y: outputs.kl_div(dn.activations.log_softmax(z), y, reduction="batchmean"), "rows"),
    "smooth_l1_loss": (lambda z, y: outputs.smooth_l1_loss(z, y, beta=0.5), "numbers"),
    "hinge_embedding_loss": (outputs.hinge_embedding_loss, "signs"),
    "multi_margin_loss": (lambda z, y: outputs.multi_margin_loss(z, y, p=2, weight=CLASS_WEIGHT), "labels"),
    "a square by itself": (square_of_softmax, "numbers"),
}


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_every_loss_is_captured(name):
    loss, kind = EVERY_LOSS[name]
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((40, 3))
    rows = np.exp(numbers) / np.exp(numbers).sum(1, keepdims=True)
    y = {"numbers": numbers, "signs": np.sign(numbers), "bits": numbers > 0, "counts": rng.poisson(2, (40, 3)),
         "rows": rows, "labels": rng.integers(0, 3, 40)}[kind]
    y = y if kind == "labels" else y.astype(np.float32)
    x = rng.standard_normal((40, 6)).astype(np.float32)

    def make():
        model = dn.MLP(6, [5], 3, rng=0)
        return model, training_step(model, optimizers.SGD(model.parameters(), lr=0.1), loss)

    step, fast, model, twin = pair(make)
    for first in range(0, 40, 8):
        batch = x[first:first + 8], y[first:first + 8]
        assert step(*batch).item() == fast(*batch).item()
    assert fast.captured, fast.reason
    assert_same_state(model, twin)


def test_a_captured_nll_loss_names_the_label_that_is_out_of_range():
    model = dn.MLP(6, [5], 3, rng=0)
    step = training_step(model, optimizers.SGD(model.parameters(), lr=0.1),
                         lambda z, y: outputs.nll_loss(dn.activations.log_softmax(z), y))
    fast, (x, y) = capture(step), data(8)
    for _ in range(3):
        fast(x, y)
    assert fast.captured
    with pytest.raises(ValueError, match="nll_loss: labels hold class 3, but logits have 3 columns"):
        fast(x, np.where(np.arange(8) == 5, 3, y))


def _training_step():
    model = dn.MLP(4, [6], 3, rng=0)
    optimizer = dn.optimizers.SGD(model.parameters(), lr=0.1)
    settings = {"scale": 1.0}

    def step(x, y):
        loss = dn.outputs.cross_entropy(model(x) * settings["scale"], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, settings


def test_a_step_is_walked_once_while_nothing_is_replaced(monkeypatch):
    walks, init = [], reach.Watch.__init__
    monkeypatch.setattr(reach.Watch, "__init__", lambda self, step: (walks.append(step), init(self, step))[1])
    step, settings = _training_step()
    x, y = np.ones((5, 4), np.float32), np.array([0, 1, 2, 0, 1])
    fast = capture(step)
    for n in (5, 4, 3):
        for _ in range(3):
            fast(x[:n], y[:n])
        assert fast.captured
    assert len(walks) <= 2                      # the first step of all may make what later ones find
    settings["scale"] = 2.0
    for _ in range(3):
        fast(x, y)
    assert fast.captured and len(walks) <= 3


@pytest.mark.parametrize("change", ["value", "new name", "cell", "default", "attribute", "class"])
def test_what_changes_between_calls_is_seen_whatever_was_known_before(change):
    class Holder:
        factor = 1.0

    holder, factor, table = Holder(), 1.0, {"a": 1.0}

    def scaled(x, extra=1.0):
        return x * extra

    def step(x):
        return scaled(x) * factor * table["a"] * (table.get("b") or 1.0) * holder.factor

    fast, x = capture(step), dn.Tensor(np.ones(4, np.float32))
    for _ in range(3):
        fast(x)
    assert fast.captured, fast.reason
    if change == "value":
        table["a"] = 2.0
    elif change == "new name":
        table["b"] = 2.0
    elif change == "cell":
        factor = 2.0
    elif change == "default":
        scaled.__defaults__ = (2.0,)
    elif change == "attribute":
        holder.factor = 2.0
    else:
        Holder.factor = 2.0
    for _ in range(4):
        np.testing.assert_array_equal(fast(x).numpy(), 2.0)


def test_loops_of_one_text_are_made_once():
    from deepnotes.capture import fuse

    step, settings = _training_step()
    x, y = np.ones((5, 4), np.float32), np.array([0, 1, 2, 0, 1])
    fast = capture(step)
    for _ in range(3):
        fast(x, y)
    made = len(fuse._loops_made)
    for scale in range(2, 30):
        settings["scale"] = float(scale)
        for _ in range(3):
            fast(x, y)
    assert len(fuse._loops_made) == made
