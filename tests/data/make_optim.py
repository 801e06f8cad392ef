"""PyTorch's trajectories of the optimizers of `deepnotes.optim`, and uphill ones of the chapter's: `optim.npz`.

Run with an interpreter that has torch (2.13 made the file): python tests/data/make_optim.py
The problem is that of make_optimizers.py.
"""
import json

import numpy as np
from make_optimizers import FOLDER, grid, trajectory


def cases():
    for kw in grid(lr=[1.0, 0.3], rho=[0.9, 0.5], eps=[1e-6, 1e-2], weight_decay=[0.0, 0.1]):
        yield "Adadelta", kw
    for kw in grid(lr=[0.02], betas=[(0.9, 0.999), (0.5, 0.8)], eps=[1e-8, 1e-2], weight_decay=[0.0, 0.1]):
        yield "Adamax", kw
        yield "RAdam", {**kw, "decoupled_weight_decay": False}
        yield "RAdam", {**kw, "decoupled_weight_decay": True}
        for decay in (4e-3, 0.1):
            yield "NAdam", {**kw, "momentum_decay": decay, "decoupled_weight_decay": decay == 0.1}
    for kw in grid(lr=[0.01, 0.2], etas=[(0.5, 1.2), (0.3, 1.5)], step_sizes=[(1e-6, 50.0), (1e-3, 0.05)]):
        yield "Rprop", kw
    for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop"):
        yield name, {"lr": 0.001, "maximize": True}


if __name__ == "__main__":
    optimizers = list(cases())
    np.savez_compressed(FOLDER / "optim.npz", trajectories=np.array([trajectory(*case) for case in optimizers]),
                        cases=np.array(json.dumps(optimizers)))
