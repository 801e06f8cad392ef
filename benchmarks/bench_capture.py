"""Whole epochs, captured: `python benchmarks/bench_capture.py --threads 1` (and again with all cores).

Every peer trains the same network on the same 16,384 rows in the same order; an epoch is one call. What the first call
costs (compiling, recording, tracing) is reported apart and not part of the medians.
"""
import os

import _harness

chosen = _harness.options(__doc__.splitlines()[0])
if hasattr(os, "sched_setaffinity"):                        # XLA takes its threads from the cores it may run on
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:chosen.threads])

import functools  # noqa: E402
import importlib.util  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from importlib import metadata  # noqa: E402

import _peers  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from _peers import CLASSIFIER, NAMES, NARROW  # noqa: E402

from deepnotes import kernels  # noqa: E402

torch.set_num_threads(chosen.threads)
kernels.set_num_threads(chosen.threads)
ROWS, BATCHES = 16_384, (1, 8, 32, 128, 1024)
ROUNDS = {1: 3, 8: 5, 32: 9, 128: 15, 1024: 21}
UP_TO_128 = tuple(f"batch {batch}" for batch in BATCHES[:-1])
TARGETS = {("epoch", "jax"): {"worst": 0.95}, ("epoch", "torch", UP_TO_128): {"worst": 0.45},
           ("epoch", "torch", ("batch 1024",)): {"worst": 0.5}, "matrix products": {"least": 0.85},
           "capture, empty cache": {"value": 3.0}, "capture, warm cache": {"value": 0.4}}
first_calls, notes = [], {}


def available(makers):
    "The peers that are installed and work here; the others are noted with the reason."
    found = {}
    for name, (module, make) in makers.items():
        if importlib.util.find_spec(module) is None:
            notes[f"no {name}"] = f"{module} is not installed"
        else:
            found[name] = make
    return found


def epochs():
    makers = available({
        "deepnotes": ("deepnotes.capture", _peers.captured_epoch), "jax": ("jax", _peers.jax_epoch),
        "torch": ("torch", _peers.torch_epoch), "deepnotes eager": ("deepnotes", _peers.eager_epoch),
        "torch.compile": ("torch", lambda *arguments: _peers.torch_epoch(*arguments, compiled=True)),
        "scikit-learn": ("sklearn", _peers.sklearn_epoch)})
    for sizes in (CLASSIFIER, NARROW):
        X, y = _peers.data(sizes, ROWS)
        order = np.random.default_rng(0).permutation(ROWS)
        for batch in reversed(BATCHES):
            group, case, runs, seconds, first_loss = f"epoch of {NAMES[sizes]}", f"batch {batch}", {}, {}, None
            if chosen.only and chosen.only not in f"{group} {case}":
                continue
            for name, make in makers.items():
                if name == "scikit-learn" and batch < 32:               # minutes
                    continue
                start = time.perf_counter()
                try:
                    run = make(sizes, X, y, batch)
                    losses = run(order)
                except Exception as error:                              # torch.compile needs a C++ compiler
                    notes[f"no {name}"] = f"{type(error).__name__} at {case}: {str(error).splitlines()[0][:120]}"
                    continue
                seconds[name] = time.perf_counter() - start
                assert np.isfinite(losses).all(), f"{name}, {case}: {losses}"
                if name != "scikit-learn":                              # which draws its own weights and order
                    first_loss = first_loss or float(losses[0])
                    assert abs(losses[0] / first_loss - 1) < 1e-4, f"{name}, {case}: {losses[0]}, not {first_loss}"
                if getattr(getattr(run, "captured", None), "reason", None):
                    notes[f"{name} {case}"] = run.captured.reason
                runs[name] = functools.partial(run, order)
            first_calls.append((f"first epoch of {NAMES[sizes]}", case, "s", seconds))
            yield group, case, runs, ROUNDS[batch]


def products(sizes, batch):
    "A function that does all matrix products of one step into given outputs, and nothing else"
    rng = np.random.default_rng(0)
    a = [rng.standard_normal((batch, n), dtype=np.float32) for n in sizes]
    w = [rng.standard_normal(shape, dtype=np.float32) for shape in zip(sizes, sizes[1:], strict=False)]
    gradients = [np.empty_like(x) for x in w]

    def run():
        for i in range(len(w)):
            np.dot(a[i], w[i], a[i + 1])
        for i in reversed(range(len(w))):
            np.dot(a[i].T, a[i + 1], gradients[i])
            if i:
                np.dot(a[i + 1], w[i].T, a[i])
        a[0][0, 0] = 1.0

    return run


def median(call, rounds):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def alternating(one, other, rounds):
    "Medians of two calls that take turns, and the median of their ratio"
    pairs = [(median(one, 1), median(other, 1)) for _ in range(rounds)]
    return (*[statistics.median(t) for t in zip(*pairs, strict=True)], statistics.median(a / b for a, b in pairs))


def share():
    "What part of an epoch at batch 1024 its matrix products take when they run alone"
    X, y = _peers.data(CLASSIFIER, ROWS)
    order = np.random.default_rng(0).permutation(ROWS)
    epoch, one = _peers.captured_epoch(CLASSIFIER, X, y, 1024), products(CLASSIFIER, 1024)
    epoch(order), one()
    with np.errstate(all="ignore"):
        *_, part = alternating(lambda: [one() for _ in range(ROWS // 1024)], functools.partial(epoch, order),
                               min(chosen.rounds, 21))
    yield "matrix products", "share of the epoch at batch 1024", "of the time", {"deepnotes": part}


def scaling():
    "Seconds per step over two decades of batch sizes, and of parameters"
    for batch in (8, 16, 32, 64, 128, 256, 512, 1024):
        yield "step against batch", f"{NAMES[CLASSIFIER]}, batch {batch}", CLASSIFIER, batch
    for width in (24, 48, 96, 192, 384, 768):
        sizes = (width, width, width, width, 10)
        count = sum(n * m + m for n, m in zip(sizes, sizes[1:], strict=False))
        yield "step against parameters", f"{count} parameters, batch 128", sizes, 128


def scaled():
    for group, case, sizes, batch in scaling():
        rows = max(32 * batch, 2048)
        X, y = _peers.data(sizes, rows)
        order = np.random.default_rng(0).permutation(rows)
        epoch = _peers.captured_epoch(sizes, X, y, batch)
        epoch(order)
        seconds = median(functools.partial(epoch, order), min(chosen.rounds, 15))
        yield group, case, "s", {"deepnotes": seconds / (rows // batch)}


FRESH = """
import time
import numpy as np
import _peers
from deepnotes.capture import capture
X, y = _peers.data(_peers.CLASSIFIER, 256)
step = _peers.deepnotes_step((784, 256, 128, 64, 10))
start = time.perf_counter()
captured = capture(step)
captured.run((X, y), np.arange(256), 32)
print(time.perf_counter() - start, captured.reason or "")
"""


def fresh(folder):
    "Seconds from `capture(step)` to the end of a first short epoch, in a process of its own"
    path = os.pathsep.join([os.path.dirname(os.path.abspath(__file__)), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", FRESH], check=True, capture_output=True, text=True,
                          env={**os.environ, "DEEPNOTES_CACHE_DIR": folder, "PYTHONPATH": path})
    return float(done.stdout.split()[0])


def starts():
    cold, warm = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(fresh(folder))
            warm += [fresh(folder) for _ in range(2)]
    yield "capture, empty cache", "784-256-128-64-10", "s", {"deepnotes": statistics.median(cold)}
    yield "capture, warm cache", "784-256-128-64-10", "s", {"deepnotes": statistics.median(warm)}


def measured():
    yield from first_calls
    if importlib.util.find_spec("deepnotes.capture") is not None:
        for part, name in ((share, "matrix products"), (scaled, "step against"), (starts, "capture, ")):
            if not chosen.only or chosen.only in name:
                yield from part()


if __name__ == "__main__":
    versions = {name: metadata.version(name) for name in ("numpy", "numba", "torch", "scikit-learn")}
    if importlib.util.find_spec("jax") is not None:
        versions["jax"] = metadata.version("jax")
    versions["not measured"] = notes                            # filled while the cases run
    _harness.run("capture", epochs(), chosen, versions, TARGETS, measured())
