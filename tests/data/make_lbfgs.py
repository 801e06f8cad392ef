"""PyTorch's L-BFGS on a quadratic, on Rosenbrock's valley and on a small network, step by step: `lbfgs.npz`.

Run with an interpreter that has torch (2.13 made the file): python tests/data/make_lbfgs.py
"""
import json
from pathlib import Path

import numpy as np

STEPS = 6
SEARCH = {"line_search_fn": "strong_wolfe"}
CASES = [
    ("quadratic", {"max_iter": 3, **SEARCH}),
    ("quadratic", {"max_iter": 4, "history_size": 2, **SEARCH}),
    ("quadratic", {"lr": 0.1, "max_iter": 2}),
    ("quadratic", {"lr": 0.5, "max_iter": 5, "max_eval": 3}),
    ("quadratic", {"max_iter": 4, "tolerance_grad": 1.0, **SEARCH}),
    ("rosenbrock", {"max_iter": 4, **SEARCH}),
    ("rosenbrock", {"max_iter": 5, "history_size": 3, **SEARCH}),
    ("rosenbrock", {"lr": 5.0, "max_iter": 3, "max_eval": 60, **SEARCH}),
    ("rosenbrock", {"lr": 0.05, "max_iter": 3}),
    ("network", {"max_iter": 3, **SEARCH}),
    ("network", {"max_iter": 4, "history_size": 4, "max_eval": 6, **SEARCH}),
    ("network", {"lr": 0.2, "max_iter": 4}),
]


def start(name):
    "First values of the parameters, and numbers that the loss needs."
    rng = np.random.default_rng(3)
    if name == "quadratic":
        basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        params = [rng.normal(size=(2, 2)), rng.normal(size=2)]
        return params, (basis * np.array([0.1, 0.5, 1.0, 2.0, 5.0, 20.0])) @ basis.T, rng.normal(size=6)
    if name == "rosenbrock":
        return [np.array([-1.2, 1.0])], None, None
    return ([rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=(4, 1)), rng.normal(size=1)],
            rng.normal(size=(20, 3)), rng.normal(size=(20, 1)))


def loss_of(name, lib, params, a, b):
    "The loss, in the words that PyTorch and deepnotes share."
    if name == "quadratic":
        x = lib.cat([p.reshape(-1) for p in params])
        return 0.5 * (x @ (a @ x)) - (b * x).sum()
    if name == "rosenbrock":
        (w,) = params
        return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2
    u, c, v, d = params
    error = lib.tanh(a @ u + c) @ v + d - b
    return (error * error).mean()


def main():
    import torch
    paths, calls = [], []
    for name, kw in CASES:
        values, a, b = start(name)
        params = [torch.tensor(p, requires_grad=True) for p in values]
        a, b = (x if x is None else torch.tensor(x) for x in (a, b))
        optimizer = torch.optim.LBFGS(params, **kw)

        def closure(name=name, params=params, a=a, b=b, optimizer=optimizer):
            optimizer.zero_grad()
            loss = loss_of(name, torch, params, a, b)
            loss.backward()
            return loss

        path = []
        for _ in range(STEPS):
            optimizer.step(closure)
            path.append(np.concatenate([p.detach().numpy().ravel() for p in params]))
        paths.append(np.array(path).ravel())
        calls.append(optimizer.state[params[0]]["func_evals"])
    np.savez_compressed(Path(__file__).with_name("lbfgs.npz"), cases=np.array(json.dumps(CASES)), calls=np.array(calls),
                        **{f"path{i}": path for i, path in enumerate(paths)})


if __name__ == "__main__":
    main()
