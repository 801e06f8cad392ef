"""Losses against PyTorch, forward and backward: `python benchmarks/bench_outputs.py --threads 1` (or more)."""

import _harness

chosen = _harness.options(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from deepnotes import kernels, outputs  # noqa: E402
from deepnotes.autograd import Tensor  # noqa: E402

torch.set_num_threads(chosen.threads)
kernels.set_num_threads(chosen.threads)
rng = np.random.default_rng(0)


def step(loss, leaf):
    "One forward and one backward pass, the gradient made anew"

    def call():
        leaf.grad = None
        loss(leaf).backward()

    return call


def pair(name, x, *others, **options):
    theirs = [torch.tensor(a) for a in others]
    return {
        "deepnotes": step(lambda z: getattr(outputs, name)(z, *others, **options), Tensor(x, requires_grad=True)),
        "torch": step(lambda z: getattr(F, name)(z, *theirs, **options), torch.tensor(x, requires_grad=True)),
    }


def cases():
    for n, classes in ((1024, 10), (1024, 1000), (64, 50_000)):
        z, labels = rng.standard_normal((n, classes)).astype(np.float32), rng.integers(0, classes, n)
        yield "cross_entropy", f"{n} x {classes}", pair("cross_entropy", z, labels)
        yield "cross_entropy, smoothed", f"{n} x {classes}", pair("cross_entropy", z, labels, label_smoothing=0.1)
    for n in (1_000, 1_000_000):
        z, y = rng.standard_normal(n).astype(np.float32), rng.uniform(size=n).astype(np.float32)
        for name in ("mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "poisson_nll_loss"):
            yield f"elementwise {n:.0e}", name, pair(name, z, y)


if __name__ == "__main__":
    _harness.run("outputs", cases(), chosen, {"torch": torch.__version__, "numpy": np.__version__})
