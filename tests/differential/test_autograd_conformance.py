"""Corner cases with PyTorch's outputs and gradients, exact values where those differ, and what else is acceptable."""

import json
import math

import numpy as np
import pytest
from conftest import ROOT

from deepnotes import autograd as ag
from deepnotes import kernels
from deepnotes.autograd import Tensor

CASES = json.loads((ROOT / "tests" / "data" / "nasty.json").read_text())["cases"]
TOLERANCE = {
    "float64": (1e-9, 1e-300),
    "float32": (1e-5, 1e-37),
    "float16": (2e-3, 1e-7),
    "int64": (0, 0),
    "bool": (0, 0),
}
EPS = {"float64": 2.3e-16, "float32": 1.2e-7, "float16": 1e-3}  # absolute tolerance of gradients


def twice(x):
    y = ag.exp(x).sum()
    y.backward()
    y.backward()


OPS = {  # name in the file: our operation, given the case's keyword arguments
    "sigmoid": lambda kw: ag.sigmoid,
    "tanh": lambda kw: ag.tanh,
    "sqrt": lambda kw: ag.sqrt,
    "log": lambda kw: ag.log,
    "exp": lambda kw: ag.exp,
    "reciprocal": lambda kw: ag.reciprocal,
    "abs": lambda kw: ag.abs,
    "sum": lambda kw: ag.sum,
    "prod": lambda kw: ag.prod,
    "mean": lambda kw: ag.mean,
    "matmul": lambda kw: ag.matmul,
    "add": lambda kw: ag.add,
    "sub": lambda kw: ag.subtract,
    "div": lambda kw: ag.divide,
    "maximum": lambda kw: ag.maximum,
    "log_softmax": lambda kw: ag.log_softmax,
    "softmax": lambda kw: ag.softmax,
    "logsumexp": lambda kw: lambda x: ag.logsumexp(x, -1),
    "mul": lambda kw: lambda a, b: a * b,
    "linear": lambda kw: lambda x, w, b: x @ w.T + b,
    "pow": lambda kw: lambda x, e=None: x ** (kw["exponent"] if e is None else e),
    "cumsum": lambda kw: lambda x: ag.cumsum(x, 0),
    "where": lambda kw: lambda x: ag.where(x > 0, ag.sqrt(x), 0.0),
    "var": lambda kw: lambda x: ag.var(x, **kw),
    "std": lambda kw: lambda x: ag.std(x, **kw),
    "amax": lambda kw: lambda x: ag.max(x, kw["dim"]),
    "clamp": lambda kw: lambda x: ag.clip(x, **kw),
    # PyTorch's max over a dim also returns the index and sends the gradient there; ours is amax, and this is that max
    "max": lambda kw: lambda x: ag.gather(x, -1, x.argmax(-1, keepdims=True)).squeeze(-1) if kw else x.max(),
    "index_select": lambda kw: lambda x: ag.take(x, [0, 0, 2]),
    "leaf": lambda kw: lambda x: Tensor(np.zeros(1, "int64"), requires_grad=True),
    "graph": lambda kw: twice,
}
MAY_RAISE = {"log_softmax-int64", "softmax-int64"}


def numbers(data):
    return [float(x) for x in np.array(data, dtype=object).reshape(-1)] if isinstance(data, list) else [float(data)]


def array(spec):
    a = np.array(numbers(spec["data"]) if spec["data"] != [] else [], dtype=spec["dtype"]).reshape(spec["shape"])
    layout = spec.get("layout", "")
    if layout.startswith("Fortran"):
        return np.asfortranarray(a)
    if layout.startswith("every second"):
        wide = np.zeros(2 * a.size, a.dtype)
        wide[1::2] = a
        return wide[1::2]
    return np.broadcast_to(a[:, :1], a.shape) if layout.startswith("stride-0") else a


def close(x, accepted, rtol, atol):
    return any(
        y is not None
        and (
            math.isnan(x)
            and math.isnan(y)
            or x == y
            or math.isfinite(x)
            and math.isfinite(y)
            and abs(x - y) <= atol + rtol * abs(y)
        )
        for y in accepted
    )


def compare(what, ours, torch, exact, jax, also, rtol, atol):
    assert list(np.shape(ours)) == torch["shape"], what
    wanted = numbers(torch["data"]) if torch["data"] != [] else []
    columns = [wanted]
    for other in (exact, jax, also):
        columns.append(
            [None if v is None else float(v) for v in np.array(other, dtype=object).reshape(-1)]
            if other not in (None, [])
            else [None] * len(wanted)
        )
    for i, (x, *accepted) in enumerate(zip(np.asarray(ours, "float64").reshape(-1).tolist(), *columns, strict=True)):
        assert close(x, accepted, rtol, atol), f"{what}[{i}]: got {x}, accepted {accepted}"


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("case", [c for c in CASES if c["op"] in OPS], ids=lambda c: c["id"])
def test_corner_case(case, backend):
    op = OPS[case["op"]](case["kwargs"])
    inputs = {name: array(spec) for name, spec in case["inputs"].items()}
    leaves = {name: Tensor(a, requires_grad=a.dtype.kind == "f") for name, a in inputs.items()}
    with kernels.backend(backend), np.errstate(all="ignore"):
        if "error" in case:
            with pytest.raises((RuntimeError, TypeError, ValueError)):
                op(*leaves.values())
            return
        y = op(*leaves.values())
        if y.requires_grad:
            cotangent = (
                np.array(numbers(case["cotangent"])).reshape(y.shape) if "cotangent" in case else np.ones(y.shape)
            )
            y.backward(cotangent.astype(y.dtype))
    dtype, also = case["output"]["dtype"], case.get("also_ok", {})
    rtol, atol = TOLERANCE[dtype]
    with np.errstate(over="ignore"):
        ours = y.numpy().astype(dtype)  # float16 cases are computed in float32 here and rounded to compare
    compare("value", ours, case["output"], case.get("exact"), case.get("jax"), also.get("output"), rtol, atol)
    for name, wanted in case.get("grads", {}).items():
        t = leaves[name]
        compare(
            f"grad {name}",
            t.grad.numpy(),
            wanted,
            case.get("exact_grad"),
            case.get("jax_grad"),
            also.get("grads", {}).get(name),
            10 * rtol,
            EPS[dtype],
        )
