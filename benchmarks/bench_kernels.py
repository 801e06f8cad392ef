"""Kernels against PyTorch: `python benchmarks/bench_kernels.py --threads 1` (and again with all cores)."""
import functools

import _harness

chosen = _harness.options(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from deepnotes import kernels as k  # noqa: E402

torch.set_num_threads(chosen.threads)
k.set_num_threads(chosen.threads)
rng = np.random.default_rng(0)
TARGETS = {"elementwise": {"geometric mean": 0.6, "worst": 1.1}, "rows": {"geometric mean": 0.7},
           "launch of 4 elements": {"worst": 1.0}, "matmul": {"worst": 1.05}}
SIZES = (1_000, 100_000, 10_000_000)
UNARY = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sqrt", "square", "absolute", "sin", "cos"]
BINARY = ["add", "subtract", "multiply", "divide", "maximum"]
SLOPES = {          # backward passes: the derivative, and PyTorch's backward kernel
    "tanh": (lambda x, y: 1 - y * y,
             lambda g, x, y, out: torch.ops.aten.tanh_backward.grad_input(g, y, grad_input=out)),
    "sigmoid": (lambda x, y: y * (1 - y),
                lambda g, x, y, out: torch.ops.aten.sigmoid_backward.grad_input(g, y, grad_input=out)),
}
GELU = k.elementwise(lambda x: 0.5 * x * (1 + k.erf(x * 0.7071067811865476)), "gelu")
GELU_BACKWARD = k.pullback(lambda x, y: 0.5 * (1 + k.erf(x * 0.7071067811865476))
                           + x * k.exp(-0.5 * x * x) * 0.3989422804014327, 1, "gelu_backward")
SILU = k.elementwise(lambda x: x * k.sigmoid(x), "silu")


def gelu_backward(g, x, y, out):
    return torch.ops.aten.gelu_backward.grad_input(g, x, grad_input=out)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def pair(kernel, function, out, *operands):
    "A launch, and PyTorch's call on the same memory."
    t_out, tensors = torch.from_numpy(out), [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in operands]
    return {"deepnotes": lambda: k.launch(kernel, out, *operands), "torch": lambda: function(*tensors, out=t_out)}


def elementwise():
    for n in SIZES:
        group, out = f"elementwise {n:.0e}", np.empty(n, np.float32)
        x, y = np.abs(normal(n)) + 0.1, np.abs(normal(n)) + 0.1
        for name in UNARY:
            yield group, name, pair(getattr(k, name), getattr(torch, name), out, x)
        for name in BINARY:
            yield group, name, pair(getattr(k, name), getattr(torch, name), out, x, y)
        yield group, "gelu", pair(GELU, torch.ops.aten.gelu.out, out, x)
        yield group, "silu", pair(SILU, torch.ops.aten.silu.out, out, x)
        for name, (slope, backward) in SLOPES.items():
            yield group, f"{name} backward", pair(k.pullback(slope, 1, f"{name}_backward"), backward, out, x, x, y)
        yield group, "gelu backward", pair(GELU_BACKWARD, gelu_backward, out, x, y, y)


def rows():
    for shape in ((128, 10), (128, 1000), (4096, 256)):
        x, g, out = normal(*shape), normal(*shape), np.empty(shape, np.float32)
        t_x, t_g, t_out = map(torch.from_numpy, (x, g, out))
        group = "rows"
        for name, kernel, t_backward in (("softmax", k.softmax, torch.ops.aten._softmax_backward_data.out),
                                         ("log_softmax", k.log_softmax, torch.ops.aten._log_softmax_backward_data.out)):
            y = k.launch(kernel, np.empty(shape, np.float32), x, -1)
            t_y, backward = torch.from_numpy(y), getattr(k, name + "_backward")
            forward = getattr(torch.ops.aten, "_" + name).out
            yield group, f"{name} {shape}", {
                "deepnotes": functools.partial(k.launch, kernel, out, x, -1),
                "torch": functools.partial(forward, t_x, -1, False, out=t_out)}
            target = {"grad_input" if name == "softmax" else "out": t_out}
            yield group, f"{name} backward {shape}", {
                "deepnotes": functools.partial(k.launch, backward, out, g, y, -1),
                "torch": functools.partial(t_backward, t_g, t_y, -1, torch.float32, **target)}


def sums():
    for shape, axis in (((1000,), None), ((10_000_000,), None), ((128, 256), 0), ((128, 256), 1), ((4096, 1000), 0),
                        ((4096, 1000), 1)):
        x = normal(*shape)
        out = np.empty(x.sum(axis).shape, np.float32)
        t_x, t_out = torch.from_numpy(x), torch.from_numpy(out)
        dims = list(range(x.ndim)) if axis is None else [axis]
        yield "sums", f"sum {shape} over {axis}", {"deepnotes": functools.partial(k.launch, k.sum, out, x, axis),
                                                   "torch": functools.partial(torch.sum, t_x, dims, out=t_out)}
    x, out = normal(128, 256), np.empty((128, 256), np.float32)
    t_x, t_out = torch.from_numpy(x), torch.from_numpy(out)
    yield "broadcast", "bias (128, 256) + (256,)", {"deepnotes": lambda: k.launch(k.add, out, x, x[0]),
                                                    "torch": lambda: torch.add(t_x, t_x[0], out=t_out)}
    yield "broadcast", "scalar (128, 256) * 2.0", {"deepnotes": lambda: k.launch(k.multiply, out, x, 2.0),
                                                   "torch": lambda: torch.mul(t_x, 2.0, out=t_out)}


def products():
    for m, n, p in ((128, 784, 256), (32, 64, 64)):
        a, b, out = normal(m, n), normal(n, p), np.empty((m, p), np.float32)
        yield "matmul", f"{m}x{n} @ {n}x{p}", {"deepnotes": functools.partial(k.launch, k.matmul, out, a, b),
                                              "np.dot": functools.partial(np.dot, a, b, out)}


def launches():
    x, y, out = normal(4), normal(4), np.empty(4, np.float32)
    yield "launch of 4 elements", "add", pair(k.add, torch.add, out, x, y)
    yield "launch of 4 elements", "tanh", pair(k.tanh, torch.tanh, out, x)


def cases():
    yield from launches()
    yield from products()
    yield from rows()
    yield from sums()
    yield from elementwise()


if __name__ == "__main__":
    versions = {"numpy": np.__version__, "torch": torch.__version__, "numba": k.show_config("dicts")["numba"]}
    _harness.run("kernels", cases(), chosen, versions, TARGETS)
