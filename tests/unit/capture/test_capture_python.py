"""Steps in which the user's own Python does more than launches: captured or not, the same is left behind."""

import collections
import gc
import itertools

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import kernels, layers
from deepnotes.capture import capture

pytestmark = pytest.mark.skipif(not kernels.can_compile(), reason="captured steps are compiled loops, which need numba")


class Holder:
    last, name = None, ""
    __slots__ = ("slot", "__dict__")


TRACES = {
    "a list": (list, lambda o, z: o.append(z)),
    "a list, added to": (list, lambda o, z: o.__iadd__([z])),
    "a long list": (lambda: [0] * 5000, lambda o, z: o.__setitem__(77, o[77] + 1)),
    "a copy": (list, lambda o, z: o.append(z.data.copy())),
    "a number": (list, lambda o, z: o.append(float(np.asarray(z.data)))),
    "a set": (set, lambda o, z: o.add(len(o))),
    "a deque": (collections.deque, lambda o, z: o.append(1)),
    "a dictionary": (dict, lambda o, z: o.update(last=z)),
    "a nested one": (lambda: {"a": [{}]}, lambda o, z: o["a"][0].update({len(o["a"][0]): 1})),
    "an attribute": (Holder, lambda o, z: setattr(o, "last", z)),
    "a slot": (Holder, lambda o, z: setattr(o, "slot", z)),
    "a text": (Holder, lambda o, z: setattr(o, "name", o.name + "a")),
    "bytes": (bytearray, lambda o, z: o.extend(b"a")),
    "a class": (lambda: type("Own", (), {"last": None, "__module__": __name__}), lambda o, z: setattr(o, "last", z)),
    "an iterator": (lambda: iter(range(99)), lambda o, z: next(o)),
    "a counter": (itertools.count, lambda o, z: next(o)),
    "a generator": (lambda: (k for k in range(99)), lambda o, z: next(o)),
    "random numbers": (lambda: np.random.default_rng(0), lambda o, z: o.random() < 2),
    "a file": (lambda: __import__("io").StringIO(), lambda o, z: o.write("a")),
}


def left(o):
    "What an object holds, such that two of them compare."
    if isinstance(o, np.random.Generator):
        return o.random()
    if hasattr(o, "getvalue"):
        return o.getvalue()
    if isinstance(o, Holder | type):
        return str(o.last), o.name if isinstance(o, Holder) else "", str(getattr(o, "slot", None))
    return next(o) if hasattr(o, "__next__") else str(o)


@pytest.mark.parametrize("name", TRACES)
def test_what_python_code_leaves_behind_is_the_same_and_the_reason_says_what(name):
    make, act = TRACES[name]

    def made():
        o = make()

        def step(x):
            z = dn.Tensor(x).sum() * 2.0
            act(o, z)
            return z
        return o, step

    (o, step), (other, same) = made(), made()
    fast, x = capture(same), np.arange(6, dtype=np.float32)
    for _ in range(7):
        assert step(x).item() == fast(x).item()
    assert left(o) == left(other)
    assert not fast.captured and fast.reason.startswith("the step ") and fast.reason.count(".") < 8


@pytest.mark.parametrize("line", ["print(z)", "time.perf_counter()", "logging.info('z')", "random.random()", "os.getpid()"])
def test_what_reaches_beyond_the_process_is_named_with_its_line(line, tmp_path, capsys):
    space = {"__name__": "program"}
    exec("import time, logging, random, os\nimport deepnotes as dn\n"
         f"def step(x):\n    z = dn.Tensor(x).sum()\n    {line}\n    return z", space)
    fast = capture(space["step"])
    for _ in range(5):
        fast(np.ones(3, np.float32))
    assert not fast.captured and "in Python" in fast.reason and "replaying would not do" in fast.reason
    assert line != "print(z)" or capsys.readouterr().out.count("\n") == 5


def test_lists_of_its_own_and_hooks_that_only_compute_are_captured():
    w = layers.Parameter(np.ones((3, 3), np.float32))
    w.register_hook(lambda g: g * 0.5)

    def step(x):
        parts = []
        for k in range(3):
            parts.append(dn.Tensor(x)[:, k:k + 1])
        h = dn.autograd.concatenate(parts, 1) @ w
        sizes = {name: len(x) for name in ("a", "b")}
        loss = (h * h).mean() * float(sum(sizes.values()))
        w.grad = None
        loss.backward()
        return loss, w.grad

    fast, x = capture(step, fuse=False), np.arange(12, dtype=np.float32).reshape(4, 3)
    for k in range(5):
        for a, b in zip(step(x * k), fast(x * k), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    assert fast.captured, fast.reason


def fitted(kind, captured, batch_size=32):
    "A short training with a layer of the user's own."
    log, ticks = [], itertools.count(1) if kind == "iterator" else None

    class Own(layers.Module):
        n = 0

        def forward(self, h):
            if kind == "counter":
                self.n += 1
                return h * (1.0 / self.n)
            if kind == "list":
                log.append(h.shape)
            if kind == "list in small batches" and h.shape[0] < batch_size:
                log.append(h.shape)
            if kind == "iterator":
                self.n = next(ticks)
            return h * 0.5

    rng = np.random.default_rng(0)
    x = rng.normal(size=(70, 4)).astype(np.float32)
    model = layers.Sequential(layers.Linear(4, 2, rng=0), Own())
    if kind == "hook":
        model[0].register_forward_hook(lambda module, args, out: log.append(out.shape))
    if kind == "hook of a gradient":
        model[0].weight.register_hook(lambda g: log.append(g.shape))
    trainer = dn.Trainer(model, capture=captured)
    trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=3, batch_size=batch_size, progress=False)
    return trainer.history["loss"], model[1].n, log, trainer._step.reason


@pytest.mark.parametrize("kind", ["counter", "list", "list in small batches", "iterator", "hook", "hook of a gradient", "nothing"])
def test_fit_calls_the_users_code_as_often_as_without_capture(kind):
    plain, fast = fitted(kind, False), fitted(kind, True)
    np.testing.assert_allclose(fast[0], plain[0], rtol=1e-5)
    assert fast[1:3] == plain[1:3]
    assert (fast[3] is None) == (kind == "nothing"), fast[3]


def test_a_step_that_is_recorded_anew_all_the_time_stays_plain_and_says_why():
    scale = [1.0]
    fast, x = capture(lambda x: dn.Tensor(x).sum() * scale[0]), np.ones(3, np.float32)
    for k in range(40):
        scale[0] = float(k // 3)
        assert fast(x).item() == 3 * scale[0]
    assert not fast.captured and "`scale` was the last" in fast.reason


def test_numbers_that_a_step_is_given_do_not_pile_up():
    fast, x = capture(lambda x, s: dn.Tensor(x).sum() * s), np.ones(3, np.float32)
    for k in range(180):
        for _ in range(3):
            assert fast(x, float(k)).item() == 3 * k
    assert not fast.captured and "(179.0)" in fast.reason and "array of one element" in fast.reason
    assert fast(x, 2.0).item() == 6 and fast.captured                   # the first ones keep their programs
    assert len(fast._plans) == 8
    for k in range(180):
        assert fast(x, np.full(1, k, np.float32)).item() == 3 * k
    assert fast.captured


def test_a_method_of_the_object_that_holds_its_captured_step_is_captured():
    class Training:
        def __init__(self):
            self.model = layers.Linear(4, 1, rng=0)
            self.fast = capture(self.step)

        def step(self, x):
            return (self.model(dn.Tensor(x)) ** 2).mean()

    training, x = Training(), np.ones((3, 4), np.float32)
    for _ in range(6):
        assert training.fast(x).item() == training.step(x).item()
    assert training.fast.captured, training.fast.reason


def test_a_profiler_that_listens_goes_on_listening():
    import cProfile
    profile, fast = cProfile.Profile(), capture(lambda x: dn.Tensor(x).sum())
    profile.enable()
    for _ in range(4):
        fast(np.ones(3, np.float32))
    profile.disable()
    assert fast.captured and any("__call__" in str(entry.code) or "_advance" in str(entry.code) for entry in profile.getstats())


def test_what_runs_at_a_garbage_collection_is_no_part_of_the_step():
    seen = []
    gc.callbacks.append(lambda phase, info: seen.append(phase))
    before = gc.get_threshold()
    gc.set_threshold(1)                                     # a collection at nearly every object that is made
    try:
        step = capture(lambda x: (x * 2.0).sum())
        for _ in range(4):
            step(dn.Tensor(np.ones((3, 2), np.float32)))
    finally:
        gc.set_threshold(*before)
        gc.callbacks.pop()
    assert step.captured, step.reason
    assert seen and gc.isenabled()
