"""Convolution and pooling against PyTorch, forward and backward: `python benchmarks/bench_convolution.py --threads 1` (or more)."""

import _harness

chosen = _harness.options(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from deepnotes import convolution, kernels  # noqa: E402
from deepnotes.autograd import Tensor, no_grad  # noqa: E402

torch.set_num_threads(chosen.threads)
kernels.set_num_threads(chosen.threads)
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def step(layer, leaves, g):
    "One forward and one backward pass, the gradients made anew."

    def call():
        for leaf in leaves:
            leaf.grad = None
        layer(*leaves).backward(g)

    return call


def forward(layer, leaves, without_gradients):
    def call():
        with without_gradients():
            layer(*leaves)

    return call


def cases():
    for size, channels, features in ((8, 1, 16), (8, 16, 32), (28, 1, 16), (28, 16, 32)):
        for batch in (32, 256):
            arrays = normal(batch, channels, size, size), normal(3, 3, channels, features) / 9, normal(features)
            needed = channels > 1, True, True           # the first layer of a network needs no gradient of its images
            turned = arrays[0], np.ascontiguousarray(arrays[1].transpose(3, 2, 0, 1)), arrays[2]
            ours = [Tensor(a, requires_grad=needs) for a, needs in zip(arrays, needed, strict=True)]
            theirs = [torch.tensor(a, requires_grad=needs) for a, needs in zip(turned, needed, strict=True)]
            g, name = normal(batch, features, size, size), f"{channels} to {features}, {size} x {size}, batch {batch}"
            mine, peer = (lambda x, w, b: convolution.conv2d(x, w, b, padding=1)), (lambda x, w, b: F.conv2d(x, w, b, padding=1))
            yield "forward", name, {"deepnotes": forward(mine, ours, no_grad), "torch": forward(peer, theirs, torch.no_grad)}
            yield "forward and backward", name, {"deepnotes": step(mine, ours, g), "torch": step(peer, theirs, torch.tensor(g))}
    pool = convolution.MaxPool2d(2)
    for size in (8, 28):
        x, g = normal(256, 16, size, size), normal(256, 16, size // 2, size // 2)
        yield "largest of 2 x 2", f"16, {size} x {size}, batch 256", {
            "deepnotes": step(pool, [Tensor(x, requires_grad=True)], g),
            "torch": step(lambda x: F.max_pool2d(x, 2), [torch.tensor(x, requires_grad=True)], torch.tensor(g))}


if __name__ == "__main__":
    _harness.run("convolution", cases(), chosen, {"torch": torch.__version__, "numpy": np.__version__})
