"""Kernels against PyTorch: `python benchmarks/bench_kernels.py --threads 1` (and again with all cores)."""
import _harness

chosen = _harness.options(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from deepnotes import kernels as k  # noqa: E402

torch.set_num_threads(chosen.threads)
k.set_num_threads(chosen.threads)
rng = np.random.default_rng(0)
SIZES = (1_000, 100_000, 10_000_000)
UNARY = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sqrt", "square", "absolute", "sin", "cos"]
BINARY = ["add", "subtract", "multiply", "divide", "maximum"]
SLOPES = {          # backward passes: the derivative, and PyTorch's backward kernel
    "tanh": (lambda x, y: 1 - y * y, torch.ops.aten.tanh_backward),
    "sigmoid": (lambda x, y: y * (1 - y), torch.ops.aten.sigmoid_backward),
}
GELU = k.elementwise(lambda x: 0.5 * x * (1 + k.erf(x * 0.7071067811865476)), "gelu")
GELU_BACKWARD = k.pullback(lambda x, y: 0.5 * (1 + k.erf(x * 0.7071067811865476))
                           + x * k.exp(-0.5 * x * x) * 0.3989422804014327, 1, "gelu_backward")
SILU = k.elementwise(lambda x: x * k.sigmoid(x), "silu")


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def pair(kernel, function, out, *operands):
    "A launch, and PyTorch's call on the same memory."
    t_out, tensors = torch.from_numpy(out), [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in operands]
    return {"deepnotes": lambda: k.launch(kernel, out, *operands), "torch": lambda: function(*tensors, out=t_out)}


def elementwise():
    for n in SIZES:
        group, x, y, out = f"elementwise {n:.0e}", np.abs(normal(n)) + 0.1, np.abs(normal(n)) + 0.1, np.empty(n, np.float32)
        for name in UNARY:
            yield group, name, pair(getattr(k, name), getattr(torch, name), out, x)
        for name in BINARY:
            yield group, name, pair(getattr(k, name), getattr(torch, name), out, x, y)
        t_x, t_y, t_out = map(torch.from_numpy, (x, y, out))
        yield group, "gelu", {"deepnotes": lambda: k.launch(GELU, out, x),
                              "torch": lambda: torch.ops.aten.gelu.out(t_x, out=t_out)}
        yield group, "silu", {"deepnotes": lambda: k.launch(SILU, out, x),
                              "torch": lambda: torch.ops.aten.silu.out(t_x, out=t_out)}
        for name, (slope, backward) in SLOPES.items():
            kernel = k.pullback(slope, 1, f"{name}_backward")
            yield group, f"{name} backward", {
                "deepnotes": lambda kernel=kernel: k.launch(kernel, out, x, x, y),
                "torch": lambda backward=backward: backward.grad_input(t_x, t_y, grad_input=t_out)}
        yield group, "gelu backward", {
            "deepnotes": lambda: k.launch(GELU_BACKWARD, out, x, y, y),
            "torch": lambda: torch.ops.aten.gelu_backward.grad_input(t_x, t_y, grad_input=t_out)}


def rows():
    for shape in ((128, 10), (128, 1000), (4096, 256)):
        x, g, out = normal(*shape), normal(*shape), np.empty(shape, np.float32)
        t_x, t_g, t_out = map(torch.from_numpy, (x, g, out))
        group = "rows"
        for name, kernel, t_forward, t_backward in (
                ("softmax", k.softmax, F.softmax, torch.ops.aten._softmax_backward_data.out),
                ("log_softmax", k.log_softmax, F.log_softmax, torch.ops.aten._log_softmax_backward_data.out)):
            y = k.launch(kernel, np.empty(shape, np.float32), x, -1)
            t_y, backward = torch.from_numpy(y), getattr(k, name + "_backward")
            forward = getattr(torch.ops.aten, "_" + name).out
            yield group, f"{name} {shape}", {"deepnotes": lambda kernel=kernel: k.launch(kernel, out, x, -1),
                                             "torch": lambda forward=forward: forward(t_x, -1, False, out=t_out)}
            if name == "softmax":
                torch_backward = lambda b=t_backward, t_y=t_y: b(t_g, t_y, -1, torch.float32, grad_input=t_out)  # noqa: E731
            else:
                torch_backward = lambda b=t_backward, t_y=t_y: b(t_g, t_y, -1, torch.float32, out=t_out)         # noqa: E731
            yield group, f"{name} backward {shape}", {
                "deepnotes": lambda backward=backward, y=y: k.launch(backward, out, g, y, -1), "torch": torch_backward}


def sums():
    for shape, axis in (((1000,), None), ((10_000_000,), None), ((128, 256), 0), ((128, 256), 1), ((4096, 1000), 0),
                        ((4096, 1000), 1)):
        x = normal(*shape)
        out = np.empty(x.sum(axis).shape, np.float32)
        t_x, t_out = torch.from_numpy(x), torch.from_numpy(out)
        dims = list(range(x.ndim)) if axis is None else [axis]
        yield "sums", f"sum {shape} over {axis}", {"deepnotes": lambda: k.launch(k.sum, out, x, axis),
                                                   "torch": lambda: torch.sum(t_x, dims, out=t_out)}
    x, out = normal(128, 256), np.empty((128, 256), np.float32)
    t_x, t_out = torch.from_numpy(x), torch.from_numpy(out)
    yield "broadcast", "bias (128, 256) + (256,)", {"deepnotes": lambda: k.launch(k.add, out, x, x[0]),
                                                    "torch": lambda: torch.add(t_x, t_x[0], out=t_out)}
    yield "broadcast", "scalar (128, 256) * 2.0", {"deepnotes": lambda: k.launch(k.multiply, out, x, 2.0),
                                                   "torch": lambda: torch.mul(t_x, 2.0, out=t_out)}


def products():
    for m, n, p in ((128, 784, 256), (32, 64, 64)):
        a, b, out = normal(m, n), normal(n, p), np.empty((m, p), np.float32)
        yield "matmul", f"{m}x{n} @ {n}x{p}", {"deepnotes": lambda: k.launch(k.matmul, out, a, b),
                                              "np.dot": lambda: np.dot(a, b, out)}


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
    _harness.run("kernels", cases(), chosen, {"numpy": np.__version__, "torch": torch.__version__,
                                              "numba": k.show_config("dicts")["numba"]})
