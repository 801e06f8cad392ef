"""Whole epochs, captured: `python benchmarks/bench_capture.py --threads 1` (and again with all cores).

Every peer trains the same network on the same 16,384 rows in the same order; an epoch is one call. What the first call
costs (compiling, recording, tracing) is reported apart and not part of the medians.
"""
import os

import _harness

chosen = _harness.options(__doc__.splitlines()[0])
if hasattr(os, "sched_setaffinity"):                        # XLA takes its threads from the cores it may run on
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:chosen.threads])

import ctypes  # noqa: E402
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
SHARES = {8: 0.75, 32: 0.88, 128: 0.93, 1024: 0.85}
UP_TO_128 = tuple(f"batch {batch}" for batch in BATCHES[:-1])
TARGETS = {("epoch", "jax"): {"worst": 0.95}, ("epoch", "torch", UP_TO_128): {"worst": 0.45},
           ("epoch", "torch", ("batch 1024",)): {"worst": 0.5},
           **{("matrix products", None, (f"share of the epoch at batch {batch}",)): {"least": least} for batch, least in SHARES.items()},
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


def median(call, rounds):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def alternating(one, other, rounds):
    "Medians of two calls that take turns, and the median of their ratio; where others are at work, the shortest and their ratio"
    if _harness.BUSY:
        seconds, ratios = _harness.compare({"one": one, "other": other}, rounds, once=True)
        return *seconds.values(), ratios["other"]
    pairs = [(median(one, 1), median(other, 1)) for _ in range(rounds)]
    return (*[statistics.median(t) for t in zip(*pairs, strict=True)], statistics.median(a / b for a, b in pairs))


def share():
    """What part of an epoch its matrix products take when they run alone, each a call from machine code to the BLAS as in the epoch.

    The limit: what part it would be if besides them nothing were done but to read and write weights and both moments once, as
    Adam must. At small batches that pass over memory takes as long as the arithmetic.
    """
    from deepnotes.capture.program import Program
    from deepnotes.compiler import blas
    product = blas.product(np.float32)
    X, y = _peers.data(CLASSIFIER, ROWS)
    order = np.random.default_rng(0).permutation(ROWS)
    kept = np.ones(3 * sum(w.size + b.size for w, b in _peers.weights(CLASSIFIER)), np.float32)
    for batch in SHARES:
        epoch = _peers.captured_epoch(CLASSIFIER, X, y, batch)
        factors = [(left, right) for _, left, right in step_products(CLASSIFIER, batch)]
        one = Program([(product, [np.empty((len(left), right.shape[1]), np.float32), left, right], 0) for left, right in factors])
        epoch(order), one.run(ROWS // batch)
        alone, whole, part = alternating(functools.partial(one.run, ROWS // batch), functools.partial(epoch, order), min(chosen.rounds, 21))
        _, once, _ = alternating(one.run, functools.partial(np.negative, kept, kept), 101)
        yield "matrix products", f"share of the epoch at batch {batch}", "of the time", {
            "deepnotes": part, "limit": alone / (alone + once * (ROWS // batch))}


def step_products(sizes, batch):
    "The matrix products of one step with their names: forward, for the weights' gradients, and what passes a gradient down"
    rng = np.random.default_rng(0)
    for n, m in zip(sizes, sizes[1:], strict=False):
        x, w, g = (rng.standard_normal(shape, dtype=np.float32) for shape in ((batch, n), (n, m), (batch, m)))
        yield f"forward, {batch} × {n} × {m}", x, w
        yield f"weights, {n} × {batch} × {m}", x.T, g
        if n != sizes[0]:                                   # nobody asks for the gradient of the input
            yield f"down, {batch} × {m} × {n}", g, w.T


def peak_loop(chains=12):
    "A function of a count that does so many rounds of multiply-adds in registers, and the flops of a round"
    from llvmlite import binding
    binding.initialize_native_target(), binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features()
    width = 16 if features.get("avx512f") else 8
    kind, lines = f"<{width} x float>", []
    for c in range(chains):
        lines.append(f"  %a{c} = phi {kind} [ zeroinitializer, %start ], [ %b{c}, %loop ]")
    lines += [f"  %b{c} = call {kind} @llvm.fma.v{width}f32({kind} %a{c}, {kind} %f, {kind} %f)" for c in range(chains)]
    sums = [f"  %s0 = fadd {kind} %b0, %b1"]
    sums += [f"  %s{c - 1} = fadd {kind} %s{c - 2}, %b{c}" for c in range(2, chains)]
    text = "\n".join([
        f"declare {kind} @llvm.fma.v{width}f32({kind}, {kind}, {kind})", "define float @peak(i64 %n, float %x) {", "start:",
        f"  %one = insertelement {kind} poison, float %x, i32 0",
        f"  %f = shufflevector {kind} %one, {kind} poison, <{width} x i32> zeroinitializer", "  br label %loop", "loop:",
        "  %i = phi i64 [ 0, %start ], [ %i1, %loop ]", *lines, "  %i1 = add i64 %i, 1", "  %more = icmp slt i64 %i1, %n",
        "  br i1 %more, label %loop, label %done", "done:", *sums,
        f"  %r = extractelement {kind} %s{chains - 2}, i32 0", "  ret float %r", "}"])
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features.flatten(), opt=2)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(text), machine)
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_float)(engine.get_function_address("peak"))
    call.engine = engine                                    # the machine code lives as long as its engine
    return call, 2 * width * chains


def rates():
    """GFLOP/s of the products of a step, each in numpy's BLAS and in PyTorch's, and beside them, in the same turns, whole steps
    and multiply-adds that never leave the registers. What is asked is what the machine can do: each is the best of its rounds."""
    spin, flops = peak_loop()
    for batch in (128, 1024):
        X, y = _peers.data(CLASSIFIER, 2 * batch)
        order = np.random.default_rng(0).permutation(2 * batch)
        whole = {"deepnotes": _peers.captured_epoch(CLASSIFIER, X, y, batch), "torch": _peers.torch_epoch(CLASSIFIER, X, y, batch)}
        calls, work = {"peak": functools.partial(spin, 200_000, 0.5)}, {}
        calls |= {name: functools.partial(epoch, order) for name, epoch in whole.items()}
        for name, a, b in step_products(CLASSIFIER, batch):
            work[name] = 2 * a.shape[0] * a.shape[1] * b.shape[1]
            calls["numpy", name] = functools.partial(np.dot, a, b, np.empty((len(a), b.shape[1]), np.float32))
            calls["torch", name] = functools.partial(torch.mm, torch.from_numpy(a), torch.from_numpy(b),
                                                     out=torch.empty(len(a), b.shape[1]))
        best = dict.fromkeys(calls, float("inf"))
        for _ in range(3 * chosen.rounds):
            best = {key: min(best[key], median(call, 1)) for key, call in calls.items()}
        alone = {peer: sum(best[peer, name] for name in work) for peer in ("numpy", "torch")}
        group = f"products of a step, batch {batch}"
        for name, count in work.items():
            yield group, name, "GFLOP/s", {peer: count / best[peer, name] / 1e9 for peer in alone}
        yield group, "all of them", "GFLOP/s", {peer: sum(work.values()) / seconds / 1e9 for peer, seconds in alone.items()}
        yield f"peak of a core, batch {batch}", "multiply-adds in registers", "GFLOP/s", {
            "peak": 200_000 * flops / best["peak"] / 1e9}
        yield f"undisturbed step, batch {batch}", NAMES[CLASSIFIER], "s", {
            **{name: best[name] / 2 for name in whole}, "products in numpy": alone["numpy"], "products in torch": alone["torch"]}


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
from deepnotes import Tensor
from deepnotes.capture import capture
X, y = _peers.data(_peers.CLASSIFIER, 256)
step = _peers.deepnotes_step((784, 256, 128, 64, 10))
start = time.perf_counter()
step(Tensor(X[:32]), y[:32])
middle = time.perf_counter()
captured = capture(step)
captured.run((X, y), np.arange(256), 32)
print(middle - start, time.perf_counter() - middle, captured.reason or "")
"""


def fresh(folder):
    "Seconds in a new process for a first eager step, and then from `capture(step)` to the end of a short epoch"
    path = os.pathsep.join([os.path.dirname(os.path.abspath(__file__)), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", FRESH], check=True, capture_output=True, text=True,
                          env={**os.environ, "DEEPNOTES_CACHE_DIR": folder, "PYTHONPATH": path})
    eager, captured = map(float, done.stdout.split()[:2])
    return eager, captured


def starts():
    found = {"empty": [], "warm": []}
    for _ in range(min(3, chosen.rounds)):
        with tempfile.TemporaryDirectory() as folder:
            found["empty"].append(fresh(folder))
            found["warm"] += [fresh(folder) for _ in range(2)]
    for state, seconds in found.items():
        eager, captured = map(statistics.median, zip(*seconds, strict=True))
        yield f"capture, {state} cache", "784-256-128-64-10, after a first step", "s", {"deepnotes": captured}
        yield f"first eager step, {state} cache", "784-256-128-64-10", "s", {"deepnotes": eager}


def measured():
    yield from first_calls
    if importlib.util.find_spec("deepnotes.capture") is not None:
        for part, name in ((share, "matrix products"), (rates, "products of a step"), (scaled, "step against"), (starts, "capture, ")):
            if not chosen.only or chosen.only in name:
                yield from part()


if __name__ == "__main__":
    versions = {name: metadata.version(name) for name in ("numpy", "numba", "torch", "scikit-learn")}
    if importlib.util.find_spec("jax") is not None:
        versions["jax"] = metadata.version("jax")
    versions["not measured"] = notes                            # filled while the cases run
    _harness.run("capture", epochs(), chosen, versions, TARGETS, measured())
