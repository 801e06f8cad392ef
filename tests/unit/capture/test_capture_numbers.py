"""Numbers given to a captured step: inputs of its program where it computes with them, and never another step than the plain one."""

import gc
import math
import weakref

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import kernels, outputs
from deepnotes.capture import capture

pytestmark = pytest.mark.skipif(not kernels.can_compile(), reason="captured steps are compiled loops, which need numba")
X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
Y = np.array([0, 1, 2, 2, 1, 0])
RISING = [0.1 + 0.07 * k for k in range(24)]


def made(body):
    "A training step of a small network; `body(model, x, y, number)` is its loss."
    model = dn.MLP(4, [5], 3, rng=0)
    optimizer = dn.optimizers.Adam(model.parameters(), lr=0.05)

    def step(x, y, number):
        loss = body(model, x, y, number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def plain_loss(model, x, y, t):
    return outputs.cross_entropy(model(x), y) * t


def tempered(model, x, y, t):
    return outputs.cross_entropy(model(x) / t, y)


def mixed(model, x, y, t):
    return outputs.cross_entropy(model(x), y) * (1 - t) + (model[0].weight ** 2).sum() * (0.5 * t**2 - t / 7)


def reversed_operands(model, x, y, t):
    return (1.0 - outputs.cross_entropy(model(x), y)) / -t + t // 0.3 + abs(t) % 0.2 + (+t)


def leaky(model, x, y, t):
    return (dn.activations.leaky_relu(model(x), t).clip(-t, t) ** 2).mean()


def power(model, x, y, t):
    return (model(x).abs() + 0.5).pow(t).mean()


def branching(model, x, y, t):
    loss = outputs.cross_entropy(model(x), y)
    return loss * t if t < 0.8 else loss * 0.5 + t


def cut(model, x, y, t):
    return outputs.cross_entropy(model(x), y) * min(t, 0.9) * max(0.3, t)


def rounded(model, x, y, t):
    return outputs.cross_entropy(model(x), y) * (1 + int(t * 3)) * round(t, 1)


def caught(model, x, y, t):
    try:
        weight = 1 / (t - RISING[6])
    except ZeroDivisionError:
        weight = 3.0
    return outputs.cross_entropy(model(x), y) * weight


def through_math(model, x, y, t):
    return outputs.cross_entropy(model(x), y) * math.exp(-t)


def as_float(model, x, y, t):
    return outputs.cross_entropy(model(x), y) * float(t) * np.float32(t)


def typed(model, x, y, t):
    return outputs.cross_entropy(model(x), y) * (2.0 if type(t) is float else 3.0)


def texts(model, x, y, t):
    return outputs.cross_entropy(model(x), y) * {"0.1": 2.0}.get(f"{t:.1f}", 1.0)


def as_array(model, x, y, t):
    return outputs.cross_entropy(model(x), y) * dn.Tensor(t) * np.sqrt(t)


def with_integers(model, x, y, t):
    return outputs.cross_entropy(model(x), y) * (dn.Tensor(Y) * t).sum()


def compared(model, x, y, t):
    return (dn.autograd.where(model(x) > t, model(x), t) * t).mean()


BODIES = [plain_loss, tempered, mixed, reversed_operands, leaky, power, branching, cut, rounded, caught, through_math, as_float,
          typed, texts, as_array, with_integers, compared]
INPUTS = {plain_loss, tempered, mixed, branching, cut, compared}         # a few programs for all numbers


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_every_number_gives_what_the_plain_step_gives(body):
    plain, fast, merged = made(body), capture(made(body), fuse=False), capture(made(body))
    by_program = 0
    for number in RISING + RISING[::-1]:
        expected = plain(X, Y, number).numpy()
        np.testing.assert_array_equal(fast(X, Y, number).numpy(), expected)
        np.testing.assert_allclose(merged(X, Y, number).numpy(), expected, rtol=1e-4, atol=1e-6)
        by_program += fast.captured
    if body in INPUTS:
        assert by_program >= len(RISING) and fast.captured, fast.reason


@pytest.mark.parametrize("numbers", [range(1, 30), [np.float64(t) for t in RISING], [3, 0.5, 3, 0.25, 2, 0.125, 7, 0.75] * 3],
                         ids=["whole", "numpy", "of both kinds"])
@pytest.mark.parametrize("body", [plain_loss, mixed, branching], ids=lambda body: body.__name__)
def test_numbers_of_every_kind(body, numbers):
    plain, fast = made(body), capture(made(body), fuse=False)
    for number in numbers:
        np.testing.assert_array_equal(fast(X, Y, number).numpy(), plain(X, Y, number).numpy())


@pytest.mark.parametrize("odd", [0.0, -0.0, -1.0, math.inf, math.nan, 1e300, 5e-324, 2**70, True, np.float32(0.5)], ids=repr)
@pytest.mark.parametrize("body", [tempered, mixed, leaky], ids=lambda body: body.__name__)
def test_odd_numbers_among_usual_ones_are_what_plain_makes_of_them(body, odd):
    plain, fast = made(body), capture(made(body), fuse=False)
    for number in [0.5, 0.6, 0.7, odd, 0.8, odd, 0.9]:
        results = []
        for step in (plain, fast):
            try:
                results.append(step(X, Y, number).numpy())
            except Exception as error:
                results.append((type(error), str(error)))
        if isinstance(results[0], tuple):
            assert results[1] == results[0]
        else:
            np.testing.assert_array_equal(results[1], results[0])


def test_a_whole_number_may_be_a_place():
    scales = [1.0, 2.0, 2.0, 3.0, 4.0]

    def body(model, x, y, k):
        return outputs.cross_entropy(model(x), y) * scales[k % 5] + sum(range(k % 3))

    plain, fast = made(body), capture(made(body), fuse=False)
    for k in [*range(1, 20), 2, 2, 2]:
        np.testing.assert_array_equal(fast(X, Y, k).numpy(), plain(X, Y, k).numpy())


def test_an_error_of_the_number_comes_as_in_the_plain_step():
    fast = capture(made(lambda model, x, y, t: outputs.cross_entropy(model(x), y) * (1 / t)), fuse=False)
    for number in RISING[:6]:
        fast(X, Y, number)
    assert fast.captured
    with pytest.raises(ZeroDivisionError):
        fast(X, Y, 0.0)
    fast(X, Y, 0.3)
    assert fast.captured


def test_an_error_in_the_middle_of_a_step_is_undone_only_where_it_came_of_the_recording():
    def body(model, x, y, t):
        loss = outputs.cross_entropy(model(x), y)
        kernels.launch(kernels.multiply, model[0].weight._data, model[0].weight._data, 1 + t)
        return loss * float.__mul__(t, 2.0)         # takes nothing but a float

    plain, fast = made(body), capture(made(body), fuse=False)
    for number in RISING:
        np.testing.assert_array_equal(fast(X, Y, number).numpy(), plain(X, Y, number).numpy())
    assert any(family.hopeless for family in fast._families.values())


def test_what_is_kept_of_a_number_is_a_number():
    kept = {}

    def body(model, x, y, t):
        kept["last"], kept["half"] = t, t / 2
        return outputs.cross_entropy(model(x), y) * t

    fast = capture(made(body))
    for number in RISING[:12]:
        fast(X, Y, number)
        assert type(kept["last"]) is float and kept == {"last": number, "half": number / 2}
    assert not fast.captured

    fast = capture(lambda x, t: (x * t, t, [t * 2], {"t": t}))
    for number in RISING[:5]:
        _, same, (twice,), table = fast(dn.Tensor(X), number)
        assert [type(n) for n in (same, twice, table["t"])] == [float] * 3 and (same, twice) == (number, 2 * number)


def test_the_text_of_a_program_names_its_numbers():
    fast = capture(lambda x, lr, decay: x * (lr * (1 - decay)) + lr)
    for k in range(4):
        fast(dn.Tensor(X), 0.5 + k, 0.25)
    head = fast.source.split("\n\n\n")[0]
    assert head.startswith("def step(x, lr, decay):") and "(lr * (1 - decay))" in head and ", lr," in head


def test_programs_of_numbers_do_not_pile_up():
    "Nothing grows with the numbers: neither plans, nor what is known of them, nor machine code."
    from deepnotes.capture import fuse
    from deepnotes.compiler import cache

    def counts(step):
        gc.collect()                # machine code that earlier programs have left
        return (len(step._plans), len(step._families), len(step._numbers), sum(len(f.programs) for f in step._families.values()),
                len(fuse._loops_made), len(cache.native))

    for body in (tempered, branching, through_math, typed):
        fast = capture(made(body))
        for k in range(40):
            fast(X, Y, 0.1 + k / 40)
        before = counts(fast)
        for k in range(150):
            fast(X, Y, 0.1 + k / 150)
        assert counts(fast) == before and sum(before[:4]) < 40


def test_plans_of_shapes_that_do_not_come_again_are_freed():
    fast, plans = capture(lambda x, t: x * t), []
    for n in range(1, 60):
        for t in (0.5, 0.75, 0.875):
            fast(dn.Tensor(np.ones((n, 2), np.float32)), t)
        plans.append(weakref.ref(fast._last))
    gc.collect()
    assert sum(plan() is not None for plan in plans) <= 33 and len(fast._families) <= 32 and len(fast._numbers) <= 32
