"""Training without capture: `python benchmarks/bench_training.py --threads 1` (and again with all cores)."""
import _harness

chosen = _harness.options(__doc__)

import subprocess  # noqa: E402
import sys  # noqa: E402
from importlib import metadata  # noqa: E402

import _peers  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from _peers import CLASSIFIER, NAMES  # noqa: E402

import deepnotes as dn  # noqa: E402
from deepnotes import kernels  # noqa: E402

torch.set_num_threads(chosen.threads)
kernels.set_num_threads(chosen.threads)
BATCHES = (1, 8, 32, 128, 1024)
TARGETS = {"eager step": {"worst": 0.8}, "epoch at batch 32": {"worst": 0.6}, "Adam step": {"worst": 0.5},
           "memory": {"value": 1.0}}


def steps():
    for batch in BATCHES:
        X, y = _peers.data(CLASSIFIER, batch)
        ours, theirs = _peers.deepnotes_step(CLASSIFIER), _peers.torch_step(CLASSIFIER)
        a, b, c = dn.Tensor(X), torch.from_numpy(X), torch.from_numpy(y)
        yield f"eager step of {NAMES[CLASSIFIER]}", f"batch {batch}", {
            "deepnotes": lambda ours=ours, a=a, y=y: ours(a, y),
            "torch": lambda theirs=theirs, b=b, c=c: theirs(b, c)}


def epochs():
    "One pass over 4,096 rows, not captured"
    X, y = _peers.data(CLASSIFIER, 4096)
    order = np.random.default_rng(0).permutation(len(X))
    makers = {"deepnotes": _peers.eager_epoch, "scikit-learn": _peers.sklearn_epoch, "torch": _peers.torch_epoch}
    runs = {name: make(CLASSIFIER, X, y, 32) for name, make in makers.items()}
    for run in runs.values():
        run(order)
    yield (f"epoch at batch 32 of {NAMES[CLASSIFIER]}", "4,096 rows",
           {name: lambda run=run: run(order) for name, run in runs.items()}, 9)


def updates():
    rng = np.random.default_rng(0)
    arrays = [a for layer in _peers.weights(CLASSIFIER) for a in layer]
    gradients = [rng.standard_normal(a.shape).astype(np.float32) for a in arrays]
    ours = [dn.autograd.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    for p, q, g in zip(ours, theirs, gradients, strict=True):
        p.grad, q.grad = dn.Tensor(g), torch.from_numpy(g)
    yield "Adam step", f"{sum(a.size for a in arrays):,} parameters", {
        "deepnotes": dn.optimizers.Adam(ours, lr=1e-3).step,
        "torch": torch.optim.Adam(theirs, lr=1e-3, fused=True).step}


MEMORY = """
import gc
import numpy as np
import deepnotes as dn
rng = np.random.default_rng(0)
X, y = rng.standard_normal((2048, 64), dtype=np.float32), rng.integers(0, 10, 2048)
model = dn.MLP(64, [128, 64], 10, rng=0)
trainer = dn.Trainer(model, loss="cross_entropy", optimizer=dn.optimizers.Adam(model.parameters()), seed=0)
def resident():
    gc.collect()
    return int(next(s for s in open("/proc/self/status") if s.startswith("VmRSS")).split()[1]) / 1024
trainer.fit(X, y, epochs=5, batch_size=32, progress=False)
before = resident()
trainer.fit(X, y, epochs=50, batch_size=32, progress=False)
print(resident() - before)
"""


def memory():
    "MB by which the process grows over fifty epochs, after five (Linux)"
    if sys.platform.startswith("linux"):
        run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
        yield "memory", "growth over 50 epochs", "MB", {"deepnotes": float(run.stdout)}


def cases():
    for group in (steps, epochs, updates):
        yield from group()


if __name__ == "__main__":
    versions = {name: metadata.version(name) for name in ("numpy", "torch", "scikit-learn")}
    _harness.run("training", cases(), chosen, versions, TARGETS, memory() if chosen.only in ("", "memory") else ())
