"""Forward and backward against PyTorch: `python benchmarks/bench_autograd.py --threads 1` (again with all cores)."""

import _harness

chosen = _harness.options(__doc__)

import subprocess  # noqa: E402
import sys  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from deepnotes import autograd as ag  # noqa: E402
from deepnotes import kernels  # noqa: E402
from deepnotes.autograd import Tensor  # noqa: E402

torch.set_num_threads(chosen.threads)
kernels.set_num_threads(chosen.threads)
rng = np.random.default_rng(0)
TARGETS = {"overhead": {"worst": 1.0}, "elementwise": {"geometric mean": 0.6, "worst": 1.1},
           "rows": {"geometric mean": 0.7}, "peak memory": {"worst": 1.1}}
UNARY = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sqrt", "square", "abs", "sin", "cos", "reciprocal"]
BINARY = ["add", "subtract", "multiply", "divide", "maximum"]


def positive(n):
    return np.abs(rng.standard_normal(n)).astype(np.float32) + 0.1


def step(function, leaves, seed):
    "One forward and one backward pass, gradients made anew"

    def call():
        for leaf in leaves:
            leaf.grad = None
        function(*leaves).backward(seed)

    return call


def pair(ours, theirs, arrays, seed=None):
    return {
        "deepnotes": step(
            ours, [Tensor(a, requires_grad=True) for a in arrays], None if seed is None else Tensor(seed)
        ),
        "torch": step(
            theirs, [torch.tensor(a, requires_grad=True) for a in arrays], None if seed is None else torch.tensor(seed)
        ),
    }


def small():
    arrays = [rng.standard_normal(4).astype(np.float32) for _ in range(3)]
    f = lambda a, b, c: ((a * b) + c).sum()  # noqa: E731
    yield "overhead", "((a*b)+c).sum(), 4 elements", pair(f, f, arrays)


def elementwise():
    for n in (1_000, 100_000, 10_000_000):
        group, x, y, g = f"elementwise forward + backward {n:.0e}", positive(n), positive(n), positive(n)
        for name in UNARY:
            yield group, name, pair(getattr(ag, name), getattr(torch, name), [x], g)
        for name in BINARY:
            yield group, name, pair(getattr(ag, name), getattr(torch, name), [x, y], g)


def rows():
    for n, m in ((128, 10), (128, 1000), (4096, 100)):
        x, g = rng.standard_normal((n, m)).astype(np.float32), positive(n * m).reshape(n, m)
        for name in ("softmax", "log_softmax"):
            ours, theirs = getattr(ag, name), getattr(torch, name)
            peers = pair(lambda x, f=ours: f(x, -1), lambda x, f=theirs: f(x, -1), [x], g)
            yield "rows forward + backward", f"{name} {n}x{m}", peers


def network():
    sizes, batch = [784, 256, 128, 10], 128
    weights = [(rng.standard_normal(s) / 28).astype(np.float32) for s in zip(sizes, sizes[1:], strict=False)]
    x = rng.standard_normal((batch, sizes[0])).astype(np.float32)

    def forward(relu, log_softmax, x):
        def f(*weights):
            h = x
            for w in weights[:-1]:
                h = relu(h @ w)
            return -log_softmax(h @ weights[-1], -1)[:, 0].mean()

        return f

    ours = forward(lambda h: ag.maximum(h, 0.0), ag.log_softmax, Tensor(x))
    theirs = forward(torch.relu, torch.log_softmax, torch.tensor(x))
    yield "network", "784-256-128-10, batch 128, forward + backward", pair(ours, theirs, weights)


MEMORY = """
import gc, sys
import numpy as np
peer, width, batch, depth = sys.argv[1], 512, 8192, 10
rng = np.random.default_rng(0)
weights = [rng.standard_normal((width, width), dtype=np.float32) / 32 for _ in range(depth)]
x = rng.standard_normal((batch, width), dtype=np.float32)
if peer == "torch":
    import torch
    torch.set_num_threads(1)
    make, relu = lambda a, g: torch.tensor(a).requires_grad_(g), torch.relu
else:
    from deepnotes import autograd as ag
    make, relu = lambda a, g: ag.tensor(a, requires_grad=g), lambda h: ag.maximum(h, 0.0)
def step(weights, x):
    h = x
    for w in weights:
        h = relu(h @ w)
    (h * h).mean().backward()
step([make(w[:8, :8], True) for w in weights], make(x[:4, :8], False))  # load and compile everything first
weights, x = [make(w, True) for w in weights], make(x, False)
gc.collect()
def status(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1]) / 1024
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # forget the peak so far
step(weights, x)
print(status("VmHWM") - before)
"""


def memory():
    "MB by which one step of a 10-layer network raises the process above what it held before (Linux)"
    if not sys.platform.startswith("linux"):
        return
    peaks = {}
    for peer in ("deepnotes", "torch"):
        run = subprocess.run([sys.executable, "-c", MEMORY, peer], capture_output=True, text=True, check=True)
        peaks[peer] = float(run.stdout)
    yield "peak memory", "10-layer MLP, forward + backward", "MB", peaks


def cases():
    for group in (small, elementwise, rows, network):
        yield from (case for case in group() if chosen.only in case[0] + case[1])


if __name__ == "__main__":
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    measured = memory() if chosen.only in ("", "memory") else ()
    _harness.run("autograd", cases(), chosen, versions, TARGETS, measured)
