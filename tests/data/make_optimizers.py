"""PyTorch's trajectories for every combination of options, and its schedules: `optimizers.npz`, `schedules.json`.

Run with an interpreter that has torch (2.13 made the files): python tests/data/make_optimizers.py
Three parameters, float64. The gradient of step t is A p + b + noise[t] for each; the second parameter has none in every
fifth step. Stored are the parameters after steps 1, 2, 10 and 120.
"""
import itertools
import json
from pathlib import Path

import numpy as np
import torch

FOLDER, STEPS, STORED = Path(__file__).parent, 120, (1, 2, 10, 120)


def grid(**options):
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]


def cases():
    "All combinations as (class name, keyword arguments)."
    for kw in grid(lr=[0.02], momentum=[0.0, 0.9], dampening=[0.0, 0.3], weight_decay=[0.0, 0.1], nesterov=[False, True]):
        if not kw["nesterov"] or kw["momentum"] and not kw["dampening"]:
            yield "SGD", kw
    for kw in grid(lr=[0.05], lr_decay=[0.0, 0.02], weight_decay=[0.0, 0.1], initial_accumulator_value=[0.0, 0.5],
                   eps=[1e-10, 1e-3]):
        yield "Adagrad", kw
    for kw in grid(lr=[0.01], alpha=[0.99, 0.8], eps=[1e-8, 1e-3], weight_decay=[0.0, 0.1], momentum=[0.0, 0.7],
                   centered=[False, True]):
        yield "RMSprop", kw
    for name, decay in (("Adam", [0.0, 0.1]), ("AdamW", [0.0, 0.1])):
        for kw in grid(lr=[0.02], betas=[(0.9, 0.999), (0.5, 0.8)], eps=[1e-8, 1e-3], weight_decay=decay, amsgrad=[False, True]):
            yield name, kw


def problem():
    "Start, curvatures, slopes and noise of the three parameters."
    rng = np.random.default_rng(7)
    shapes = [(3, 2), (4,), (1,)]
    start = [rng.normal(size=s) for s in shapes]
    curvature = [rng.uniform(0.2, 3.0, size=s) for s in shapes]
    slope = [rng.normal(size=s) for s in shapes]
    noise = [rng.normal(scale=0.3, size=(STEPS, *s)) for s in shapes]
    return start, curvature, slope, noise


def trajectory(name, kw):
    start, curvature, slope, noise = problem()
    params = [torch.nn.Parameter(torch.tensor(p)) for p in start]
    optimizer, kept = getattr(torch.optim, name)(params, **kw), []
    for t in range(STEPS):
        for i, p in enumerate(params):
            g = torch.tensor(curvature[i]) * p.detach() + torch.tensor(slope[i]) + torch.tensor(noise[i][t])
            p.grad = None if i == 1 and t % 5 == 4 else g
        optimizer.step()
        if t + 1 in STORED:
            kept.append(np.concatenate([p.detach().numpy().ravel() for p in params]))
    return np.array(kept)


SCHEDULES = [
    ("StepLR", dict(step_size=7, gamma=0.3)),
    ("MultiStepLR", dict(milestones=[3, 11, 11, 30], gamma=0.5)),
    ("ExponentialLR", dict(gamma=0.93)),
    ("CosineAnnealingLR", dict(T_max=25, eta_min=0.001)),
    ("LinearLR", dict(start_factor=0.1, end_factor=0.8, total_iters=12)),
    ("LinearLR", dict()),
    ("ConstantLR", dict(factor=0.25, total_iters=9)),
    ("LambdaLR", dict(lr_lambda="1 / (1 + t)")),
    ("OneCycleLR", dict(max_lr=0.5, total_steps=41)),
    ("OneCycleLR", dict(max_lr=[0.5, 0.1], epochs=5, steps_per_epoch=9, pct_start=0.2, anneal_strategy="linear", three_phase=True)),
    ("OneCycleLR", dict(max_lr=0.3, total_steps=41, div_factor=10.0, final_div_factor=100.0, base_momentum=0.7, max_momentum=0.9)),
    ("SequentialLR", dict(schedulers=[["LinearLR", dict(start_factor=0.1, total_iters=10)],
                                      ["CosineAnnealingLR", dict(T_max=30)]], milestones=[10])),
    ("SequentialLR", dict(schedulers=[["LinearLR", dict(start_factor=0.5, total_iters=4)], ["StepLR", dict(step_size=5)],
                                      ["ExponentialLR", dict(gamma=0.9)]], milestones=[6, 20])),
]
PLATEAU = [dict(patience=3), dict(mode="max", factor=0.5, patience=1, threshold=0.05, threshold_mode="abs"),
           dict(patience=0, cooldown=4, min_lr=[0.001, 0.02]), dict(mode="max", patience=2, threshold=0.01)]


def schedule(optimizer, name, kw):
    kw = dict(kw)
    if name == "SequentialLR":
        kw["schedulers"] = [schedule(optimizer, *inner) for inner in kw["schedulers"]]
    if name == "LambdaLR":
        kw["lr_lambda"] = lambda t: 1 / (1 + t)
    return getattr(torch.optim.lr_scheduler, name)(optimizer, **kw)


def groups():
    return [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.04)]


def rates(optimizer_name, name, kw, steps=40):
    optimizer = getattr(torch.optim, optimizer_name)(groups(), **({"momentum": 0.9} if optimizer_name == "SGD" else {}))
    scheduler, rows = schedule(optimizer, name, kw), []
    for _ in range(steps):
        rows.append([[g["lr"], g["momentum"] if "momentum" in g else g["betas"][0]] for g in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rows


def plateau(kw, metrics):
    optimizer = torch.optim.SGD(groups())
    scheduler, rows = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **kw), []
    for m in metrics:
        scheduler.step(m)
        rows.append([g["lr"] for g in optimizer.param_groups])
    return rows


def main():
    optimizers = list(cases())
    np.savez_compressed(FOLDER / "optimizers.npz", trajectories=np.array([trajectory(*case) for case in optimizers]),
                        cases=np.array(json.dumps(optimizers)))
    metrics = np.round(np.random.default_rng(3).normal(size=60).cumsum() * 0.1 + 2, 3).tolist()
    table = {"metrics": metrics, "plateau": [[kw, plateau(kw, metrics)] for kw in PLATEAU],
             "schedules": [[o, name, kw, rates(o, name, kw)] for name, kw in SCHEDULES for o in ("SGD", "Adam")]}
    (FOLDER / "schedules.json").write_text(json.dumps(table) + "\n")


if __name__ == "__main__":
    main()
