"""The rarer optimizers take PyTorch's steps, on both backends, captured and copied in the middle; `maximize` turns all of them uphill."""

import copy
import importlib.util
import io
import json

import numpy as np
import pytest
from conftest import ROOT

import deepnotes as dn
from deepnotes import kernels, optim, optimizers
from deepnotes.autograd import Tensor
from deepnotes.capture import capture

DATA = ROOT / "tests" / "data"
STORED = np.load(DATA / "optim.npz")
CASES = [(name, {k: tuple(v) if isinstance(v, list) else v for k, v in kw.items()}) for name, kw in json.loads(str(STORED["cases"]))]
STEPS, KEPT = 120, (1, 2, 10, 120)
NEW = ["Adadelta", "Adamax", "NAdam", "RAdam", "Rprop"]


def problem():
    "As in make_optimizers.py."
    rng = np.random.default_rng(7)
    shapes = [(3, 2), (4,), (1,)]
    start = [rng.normal(size=s) for s in shapes]
    curvature = [rng.uniform(0.2, 3.0, size=s) for s in shapes]
    slope = [rng.normal(size=s) for s in shapes]
    noise = [rng.normal(scale=0.3, size=(STEPS, *s)) for s in shapes]
    return start, curvature, slope, noise


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda i: f"{i}-{CASES[i][0]}")
def test_the_steps_are_those_of_pytorch(number, backend):
    name, kw = CASES[number]
    start, curvature, slope, noise = problem()
    params = [Tensor(p.copy(), requires_grad=True) for p in start]
    optimizer, kept = getattr(optim, name)(params, **kw), []
    with kernels.backend(backend):
        for t in range(STEPS):
            for i, p in enumerate(params):
                p.grad = None if i == 1 and t % 5 == 4 else Tensor(curvature[i] * p.data + slope[i] + noise[i][t])
            optimizer.step()
            if t + 1 in KEPT:
                kept.append(np.concatenate([p.data.ravel() for p in params]))
    np.testing.assert_allclose(kept, STORED["trajectories"][number], rtol=1e-8, atol=1e-9)


def fit(name, **kw):
    weight = Tensor(np.linspace(-1, 1, 6, dtype="float32").reshape(3, 2), requires_grad=True)
    optimizer = getattr(optim, name)([weight], lr=0.05, **kw)

    def step(x, y):
        error = x @ weight - y
        loss = (error * error).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss
    return weight, optimizer, step


@pytest.mark.parametrize("name, kw", [*((name, {}) for name in NEW), ("Adam", {"maximize": True}), ("NAdam", {"maximize": True})])
def test_a_captured_step_is_the_plain_step(name, kw):
    rng = np.random.default_rng(0)
    data = [(Tensor(rng.normal(size=(5, 3)).astype("f")), Tensor(rng.normal(size=(5, 2)).astype("f"))) for _ in range(5)]
    weight, _, plain = fit(name, **kw)
    twin, _, fast = fit(name, **kw)
    fast = capture(fast, fuse=False)
    for batch in data:
        assert plain(*batch).item() == fast(*batch).item()
        np.testing.assert_array_equal(weight.data, twin.data)
    assert fast.captured, fast.reason


@pytest.mark.parametrize("name", NEW)
def test_a_state_goes_on_where_it_was_saved(name):
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(8, 3)).astype("f")

    def run(optimizer, weight, rows):
        for g in rows:
            weight.grad = Tensor(g)
            optimizer.step()
        return weight.data.copy()

    def fresh(start):
        weight = Tensor(np.array(start, "f"), requires_grad=True)
        return getattr(optim, name)([weight], lr=0.05), weight

    optimizer, weight = fresh([1, 2, 3])
    run(optimizer, weight, gradients[:4])
    state = json.loads(json.dumps(optimizer.state_dict(), default=np.ndarray.tolist))
    twin_optimizer, twin = fresh(weight.data)
    twin_optimizer.load_state_dict(state)
    copied = copy.deepcopy(optimizer)
    (copied_weight,) = copied.param_groups[0]["params"]
    expected = run(optimizer, weight, gradients[4:])
    np.testing.assert_array_equal(run(twin_optimizer, twin, gradients[4:]), expected)
    np.testing.assert_array_equal(run(copied, copied_weight, gradients[4:]), expected)


def test_uphill_belongs_to_the_optimizer_and_to_its_file():
    weight = Tensor([1.0], requires_grad=True)
    down, up = optimizers.SGD([weight], lr=0.1), optimizers.SGD([Tensor([1.0], requires_grad=True)], lr=0.1, maximize=True)
    assert "maximize" not in down.state_dict()["param_groups"][0] and up.state_dict()["param_groups"][0]["maximize"] is True
    with pytest.raises(ValueError, match="maximize"):
        up.load_state_dict(down.state_dict())
    with pytest.raises(ValueError, match="maximize stays True"):
        up.param_groups[0]["maximize"] = False
    with pytest.raises(TypeError, match="no hyperparameter maximize"):
        down.add_param_group({"params": [Tensor([1.0], requires_grad=True)], "maximize": True})
    with pytest.raises(TypeError, match="maximize must be True or False"):
        optimizers.Adam([weight], maximize=1)


def test_numbers_out_of_range_are_refused():
    weight = [Tensor([1.0], requires_grad=True)]
    for kind, kw, words in (
            (optim.Adadelta, {"rho": 1.0}, r"rho must be in \[0, 1\)"),
            (optim.NAdam, {"momentum_decay": -1}, "momentum_decay"),
                            (optim.Rprop, {"etas": (0.5, 0)}, "etas must be two numbers"), (optim.Rprop, {"step_sizes": 1}, "step_sizes")):
        with pytest.raises(ValueError, match=words):
            kind(weight, **kw)


def test_the_module_hands_on_the_chapters_optimizers():
    assert importlib.util.find_spec("deepnotes.optim")
    assert all(getattr(optim, name) is getattr(optimizers, name) for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW"))


ALL = {name: kind for module in (optim, optimizers) for name in module.__all__
       if isinstance(kind := getattr(module, name), type) and issubclass(kind, optimizers.Optimizer) and kind is not optimizers.Optimizer}


@pytest.mark.parametrize("name", [name for name, kind in ALL.items() if not kind.needs_closure])
def test_a_saved_run_goes_on_with_the_optimizer_it_had(name):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)).astype("f4"), rng.integers(0, 2, 40)
    model = dn.MLP(3, [4], 2, rng=0)
    trainer = dn.Trainer(model, optimizer=ALL[name](model.parameters(), lr=0.01), seed=0)
    trainer.fit(X, y, epochs=1, batch_size=20, progress=False)
    file = io.BytesIO()
    trainer.save(file)
    file.seek(0)
    again = dn.Trainer.load(file)
    assert type(again.optimizer) is ALL[name]
    for run in (trainer, again):
        run.fit(X, y, epochs=1, batch_size=20, progress=False)
    for a, b in zip(trainer.model.parameters(), again.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("name", ALL)
def test_every_optimizer_goes_uphill_when_asked(name):
    weight = Tensor([1.0, -2.0], requires_grad=True)
    optimizer = ALL[name]([weight], lr=0.01, maximize=True)

    def height():
        optimizer.zero_grad()
        top = -((weight - 3.0) ** 2).sum()
        top.backward()
        return top
    before = height().item()
    for _ in range(3):
        optimizer.step(height)
    assert height().item() > before
