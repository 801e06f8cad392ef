"""Activations, forward and backward, against PyTorch: `python benchmarks/bench_activations.py --threads 1`."""

import _harness

chosen = _harness.options(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from deepnotes import activations, kernels  # noqa: E402
from deepnotes.autograd import Tensor  # noqa: E402

torch.set_num_threads(chosen.threads)
kernels.set_num_threads(chosen.threads)
SAME = ["sigmoid", "tanh", "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus", "logsigmoid",
        "softsign", "hardsigmoid", "hardswish", "hardtanh", "tanhshrink", "softshrink", "hardshrink"]
PAIRS = {name: (getattr(activations, name), getattr(torch if name in ("sigmoid", "tanh") else F, name)) for name in SAME}
PAIRS["gelu_tanh"] = (lambda x: activations.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"))
PAIRS["threshold"] = (lambda x: activations.threshold(x, 1.0, 0.0), lambda x: F.threshold(x, 1.0, 0.0))
PAIRS["glu"] = (activations.glu, F.glu)
PAIRS["softmax"] = (activations.softmax, lambda x: F.softmax(x, -1))
PAIRS["log_softmax"] = (activations.log_softmax, lambda x: F.log_softmax(x, -1))
SLOPE = np.full(1, 0.25, np.float32)
OURS_SLOPE, THEIR_SLOPE = Tensor(SLOPE, requires_grad=True), torch.tensor(SLOPE, requires_grad=True)
PAIRS["prelu"] = (lambda x: activations.prelu(x, OURS_SLOPE), lambda x: F.prelu(x, THEIR_SLOPE))


def both_ways(function, x, gradient):
    def call():
        x.grad = None
        function(x).backward(gradient)
    return call


def cases():
    rng = np.random.default_rng(0)
    for shape in ((32, 64), (128, 784), (1024, 4096)):
        x = rng.standard_normal(shape).astype(np.float32)
        for name, (ours, theirs) in PAIRS.items():
            g = rng.standard_normal((shape[0], shape[1] // 2) if name == "glu" else shape).astype(np.float32)
            yield f"{shape[0]} x {shape[1]}", name, {
                "deepnotes": both_ways(ours, Tensor(x, requires_grad=True), Tensor(g)),
                "torch": both_ways(theirs, torch.tensor(x, requires_grad=True), torch.tensor(g))}


if __name__ == "__main__":
    rows = _harness.run("activations", cases(), chosen, {"numpy": np.__version__, "torch": torch.__version__})
    print(f"all: geometric mean {_harness.geometric_mean(row['ratios']['torch'] for row in rows):.2f}")
