"""PyTorch's values and gradients of the functions of `autograd` beside the chapter's: `names.npz`.

Run with an interpreter that has torch (2.13 made the file): python tests/data/make_names.py
Each case is a name in the tables below; inputs are drawn here from fixed seeds, in float64, and stored with the results. The
gradient is that of the sum of the result times fixed weights.
"""
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

F64 = "float64"
ANY, POSITIVE, INSIDE, ABOVE = (-3, 3), (0.1, 5), (-0.95, 0.95), (1.05, 6)
ONE = {  # name: (PyTorch's function, where its inputs lie)
    "tan": (torch.tan, (-1.4, 1.4)), "arcsin": (torch.asin, INSIDE), "arccos": (torch.acos, INSIDE), "arctan": (torch.atan, ANY),
    "sinh": (torch.sinh, ANY), "cosh": (torch.cosh, ANY), "arcsinh": (torch.asinh, ANY), "arccosh": (torch.acosh, ABOVE),
    "arctanh": (torch.atanh, INSIDE), "log2": (torch.log2, POSITIVE), "log10": (torch.log10, POSITIVE), "exp2": (torch.exp2, ANY),
    "rsqrt": (torch.rsqrt, POSITIVE), "ceil": (torch.ceil, ANY), "trunc": (torch.trunc, ANY), "round": (torch.round, ANY),
    "round_2": (lambda x: torch.round(x, decimals=2), ANY), "frac": (torch.frac, ANY), "relu": (torch.relu, ANY),
    "flatten_1": (lambda x: x.flatten(1), ANY), "repeat_2_1_3": (lambda x: x[0].repeat(2, 1, 3), ANY),
    "tile_2": (lambda x: x.tile((2,)), ANY), "repeat_interleave": (lambda x: x.repeat_interleave(2, dim=1), ANY),
    "roll": (lambda x: x.roll((1, -2), (0, 2)), ANY), "roll_flat": (lambda x: x.roll(5), ANY),
    "tril": (lambda x: x.tril(1), ANY), "triu": (lambda x: x.triu(-1), ANY), "movedim": (lambda x: x.movedim((0, 2), (1, 0)), ANY),
    "sort": (lambda x: x.sort(dim=1, descending=True).values, ANY), "topk": (lambda x: x.topk(2, dim=-1, largest=False).values, ANY),
    "cumprod": (lambda x: x.cumprod(1), ANY), "logcumsumexp": (lambda x: x.logcumsumexp(2), ANY),
    "norm": (lambda x: x.norm(), ANY), "norm_1": (lambda x: torch.linalg.vector_norm(x, 1, dim=1), ANY),
    "norm_3": (lambda x: torch.linalg.vector_norm(x, 3, dim=(0, 2), keepdim=True), ANY),
    "norm_inf": (lambda x: torch.linalg.vector_norm(x, math.inf, dim=2), ANY),
    "pad_reflect": (lambda x: F.pad(x, (2, 1), mode="reflect"), ANY), "pad_replicate": (lambda x: F.pad(x, (2, 3), mode="replicate"), ANY),
    "pad_circular": (lambda x: F.pad(x, (2, 1), mode="circular"), ANY),
    "masked_fill": (lambda x: x.masked_fill(x > 1, -2.0), ANY), "sum_dim": (lambda x: x.sum(dim=(0, 2), keepdim=True), ANY),
    "softmax_dim": (lambda x: x.softmax(dim=1), ANY), "chunk": (lambda x: x.chunk(3, dim=2)[1], ANY),
}
TWO = {
    "arctan2": (torch.atan2, ANY), "logaddexp": (torch.logaddexp, ANY), "remainder": (torch.remainder, ANY), "fmod": (torch.fmod, ANY),
    "floor_divide": (lambda x, y: torch.floor_divide(x.detach(), y.detach()), ANY), "cat": (lambda x, y: torch.cat((x, y), dim=1), ANY),
}
ATTENTION = {
    "attention": {}, "attention_causal": {"is_causal": True}, "attention_scale": {"scale": 0.3},
    "attention_mask": {"attn_mask": [[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]},
}


def run(function, arrays):
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = function(*inputs)
    weights = np.random.default_rng(1).uniform(0.5, 1.5, tuple(out.shape))
    if out.requires_grad:
        (out * torch.tensor(weights)).sum().backward()
    grads = [np.zeros(a.shape) if t.grad is None else t.grad.numpy() for a, t in zip(arrays, inputs, strict=True)]
    return out.detach().numpy(), grads


def main():
    stored = {}
    for number, (name, (function, (low, high))) in enumerate({**ONE, **TWO}.items()):
        rng = np.random.default_rng(number)
        arrays = [rng.uniform(low, high, (2, 3, 4)) for _ in range(2 if name in TWO else 1)]
        keep(stored, name, arrays, *run(function, arrays))
    for name, options in ATTENTION.items():
        rng = np.random.default_rng(99)
        arrays = [rng.normal(size=(2, n, 3)) for n in (4, 5, 5)]
        options = {k: torch.tensor(v, dtype=torch.bool) if k == "attn_mask" else v for k, v in options.items()}
        keep(stored, name, arrays, *run(lambda *x, options=options: F.scaled_dot_product_attention(*x, **options), arrays))
    np.savez_compressed(Path(__file__).parent / "names.npz", **stored)


def keep(stored, name, arrays, out, grads):
    stored[f"{name}/out"] = out
    for i, (array, grad) in enumerate(zip(arrays, grads, strict=True)):
        stored[f"{name}/in{i}"], stored[f"{name}/grad{i}"] = array, grad


if __name__ == "__main__":
    main()
