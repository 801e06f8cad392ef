"""LBFGS goes PyTorch's way, evaluation for evaluation; it is copied and saved in the middle, and refuses closures that give it nothing."""

import copy
import json
import pickle
import sys
from functools import partial

import numpy as np
import pytest
from conftest import ROOT

import deepnotes as dn
from deepnotes import autograd, kernels, outputs
from deepnotes.autograd import Tensor
from deepnotes.capture import capture
from deepnotes.optim import LBFGS

DATA = ROOT / "tests" / "data"
sys.path.insert(0, str(DATA))
try:
    from make_lbfgs import CASES, STEPS, loss_of, start
finally:
    sys.path.remove(str(DATA))
STORED = np.load(DATA / "lbfgs.npz")
WOLFE = {"line_search_fn": "strong_wolfe"}


def problem(name, dtype="float64"):
    values, a, b = start(name)
    params = [Tensor(p, dtype=dtype, requires_grad=True) for p in values]
    a, b = (x if x is None else Tensor(x, dtype=dtype) for x in (a, b))

    def closure():
        loss = loss_of(name, autograd, params, a, b)
        loss.backward()
        return loss
    return params, closure


def flat(params):
    return np.concatenate([p.data.ravel() for p in params])


def test_the_stored_cases_are_those_of_the_maker():
    assert json.loads(str(STORED["cases"])) == [list(case) for case in CASES]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda i: f"{i}-{CASES[i][0]}")
def test_the_way_is_that_of_pytorch(number, backend):
    name, kw = CASES[number]
    params, closure = problem(name)
    optimizer, path = LBFGS(params, **kw), []
    with kernels.backend(backend):
        for _ in range(STEPS):
            optimizer.step(closure)
            path.append(flat(params))
    np.testing.assert_allclose(np.ravel(path), STORED[f"path{number}"], rtol=1e-6, atol=1e-6)
    assert optimizer.state[params[0]]["func_evals"] == STORED["calls"][number]


def test_a_run_goes_on_from_its_file_and_from_its_copies():
    params, closure = problem("network")
    optimizer = LBFGS(params, max_iter=3, history_size=5, **WOLFE)
    for _ in range(3):
        optimizer.step(closure)
    twin_params, twin_closure = problem("network")
    for mine, theirs in zip(twin_params, params, strict=True):
        mine.data[...] = theirs.data
    twin = LBFGS(twin_params, max_iter=3, history_size=5, **WOLFE)
    twin.load_state_dict(json.loads(json.dumps(optimizer.state_dict(), default=np.ndarray.tolist)))
    copies = copy.deepcopy((params, optimizer)), pickle.loads(pickle.dumps((params, optimizer)))
    _, a, b = start("network")
    for _ in range(2):
        optimizer.step(closure)
        twin.step(twin_closure)
    np.testing.assert_array_equal(flat(twin_params), flat(params))
    for copied, moved in copies:
        def again(copied=copied):
            loss = loss_of("network", autograd, copied, Tensor(a, dtype="float64"), Tensor(b, dtype="float64"))
            loss.backward()
            return loss
        for _ in range(2):
            moved.step(again)
        np.testing.assert_array_equal(flat(copied), flat(params))


def test_a_state_of_another_kind_changes_nothing():
    params, closure = problem("quadratic")
    optimizer = LBFGS(params, max_iter=3, **WOLFE)
    optimizer.step(closure)
    before = optimizer.state_dict()
    rosenbrock, valley = problem("rosenbrock")
    other = LBFGS(rosenbrock)
    other.step(valley)
    short = copy.deepcopy(before)
    del short["state"][1]["prev_step"]
    for wrong in (other.state_dict(), dn.optim.SGD(params).state_dict(), short, {}, None, {"state": {}, "param_groups": []}):
        with pytest.raises(ValueError, match=r"LBFGS.load_state_dict: expected .* nothing was changed"):
            optimizer.load_state_dict(wrong)
    assert json.dumps(optimizer.state_dict(), default=np.ndarray.tolist) == json.dumps(before, default=np.ndarray.tolist)
    fresh = LBFGS(params)
    optimizer.load_state_dict(fresh.state_dict())
    assert not optimizer.state[params[0]] and optimizer.param_groups[0]["history_size"] == 100


def test_float32_and_the_way_uphill():
    params, closure = problem("quadratic", "float32")
    LBFGS(params, max_iter=60, **WOLFE).step(closure)
    _, a, b = start("quadratic")
    np.testing.assert_allclose(flat(params), np.linalg.solve(a, b), rtol=2e-3, atol=2e-3)
    w = Tensor([5.0, -2.0], requires_grad=True)

    def hill():
        loss = 1.0 - ((w - 1.0) ** 2).sum()
        loss.backward()
        return loss
    LBFGS([w], maximize=True, **WOLFE).step(hill)
    np.testing.assert_allclose(w.data, 1.0, atol=1e-5)


def test_a_captured_closure_is_the_plain_one_and_the_step_itself_stays_plain():
    X = np.random.default_rng(0).normal(size=(30, 3)).astype("f")
    y = np.tanh(X @ np.ones((3, 1), "f"))

    def training(wrap):
        model = dn.MLP(3, [5], 1, activation="tanh", rng=0)

        def loss_and_gradients(x, y):
            model.zero_grad()
            loss = outputs.mse_loss(model(x), y)
            loss.backward()
            return (loss, *(p.grad for p in model.parameters()))
        computed = wrap(loss_and_gradients)

        def closure(x, y):
            loss, *gradients = computed(x, y)
            for p, p.grad in zip(model.parameters(), gradients, strict=True):
                assert p.grad is not None
            return loss
        return model, LBFGS(model.parameters(), **WOLFE), closure, computed

    (model, plain, closure, _), (twin, fast, again, captured) = training(lambda f: f), training(partial(capture, fuse=False))
    for _ in range(3):
        first = plain.step(partial(closure, Tensor(X), Tensor(y)))
        assert first.item() == fast.step(partial(again, Tensor(X), Tensor(y))).item()
    assert captured.captured, captured.reason
    np.testing.assert_array_equal(flat(twin.parameters()), flat(model.parameters()))
    assert outputs.mse_loss(model(Tensor(X)), Tensor(y)).item() < 1e-3
    whole = capture(lambda x, y: plain.step(partial(closure, x, y)))
    for _ in range(3):
        whole(Tensor(X), Tensor(y))
    assert not whole.captured and "LBFGS.step: capture what its closure computes instead" in whole.reason


def test_a_forgotten_zero_grad_does_no_harm_and_a_parameter_without_part_stays():
    params, closure = problem("quadratic")
    idle = Tensor([7.0], requires_grad=True)
    optimizer = LBFGS([*params, idle], max_iter=60, **WOLFE)
    optimizer.step(closure)
    _, a, b = start("quadratic")
    np.testing.assert_allclose(flat(params), np.linalg.solve(a, b), rtol=1e-4, atol=1e-4)
    assert idle.item() == 7.0


def test_closures_that_give_nothing_are_refused():
    w = Tensor([1.0, 2.0], requires_grad=True)
    optimizer = LBFGS([w])

    def learns(result):
        def closure():
            (w * w).sum().backward()
            return result
        return closure

    for closure in (None, 3.0, Tensor(1.0)):
        with pytest.raises(TypeError, match=r"LBFGS.step: expected a function .* See the chapter Rarer optimizers"):
            optimizer.step(closure)
    w.grad = Tensor([1.0, 1.0])                         # left over; it is no gradient of this loss
    with pytest.raises(ValueError, match=r"no parameter has a gradient; it must call loss.backward\(\)"):
        optimizer.step(lambda: (w * w).sum())
    for result in (None, "1.0", Tensor([1.0, 2.0]), np.ones(3)):
        with pytest.raises(TypeError, match="the closure must return the loss, one number"):
            optimizer.step(learns(result))
    for result in (np.nan, np.inf):
        with pytest.raises(FloatingPointError, match="there is nowhere to go from here"):
            optimizer.step(learns(result))
    np.testing.assert_array_equal(w.data, [1.0, 2.0])
    assert not optimizer.state[w]


def test_a_loss_that_becomes_infinite():
    def overflows(w):
        loss = (1000.0 * w * w).exp().sum() if abs(w.item()) > 0.5 else (w * w).sum() + w.sum()
        loss.backward()
        return loss

    w = Tensor([0.4], requires_grad=True)
    LBFGS([w], lr=8.0, **WOLFE).step(partial(overflows, w))             # the search turns back
    np.testing.assert_allclose(w.data, -0.5, atol=1e-4)
    w = Tensor([0.4], requires_grad=True)
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError, match="use line_search_fn='strong_wolfe'"):
        LBFGS([w], lr=8.0).step(partial(overflows, w))
    np.testing.assert_array_equal(w.data, np.float32([0.4]))


def test_parameters_come_back_where_a_closure_fails():
    w, calls = Tensor([0.4], requires_grad=True), []

    def breaks():
        calls.append(w.item())
        if len(calls) > 1:
            raise KeyboardInterrupt
        loss = (w * w).sum()
        loss.backward()
        return loss
    with pytest.raises(KeyboardInterrupt):
        LBFGS([w], **WOLFE).step(breaks)
    assert calls[1] != calls[0] == w.item()


@pytest.mark.parametrize("kw, words", [
    ({"max_iter": 0}, "max_iter must be a whole number of at least 1, got 0"), ({"max_iter": 2.5}, "max_iter must be a whole number"),
    ({"max_eval": 0}, "max_eval must be"), ({"history_size": True}, "history_size must be"),
    ({"tolerance_grad": -1}, "tolerance_grad must be at least 0"), ({"tolerance_change": "1"}, "tolerance_change must be at least 0"),
    ({"line_search_fn": "armijo"}, "line_search_fn must be None or 'strong_wolfe', got 'armijo'"), ({"lr": -1}, "lr must be at least 0"),
])
def test_settings_that_mean_nothing_are_named(kw, words):
    with pytest.raises(ValueError, match=f"LBFGS: {words}"):
        LBFGS([Tensor([1.0], requires_grad=True)], **kw)


def test_there_is_one_group():
    u, v = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
    assert LBFGS([{"params": [u, v], "lr": 0.5}]).param_groups[0]["lr"] == 0.5
    with pytest.raises(ValueError, match="one group only"):
        LBFGS([{"params": [u]}, {"params": [v]}])
    with pytest.raises(TypeError, match="no hyperparameter weight_decay"):
        LBFGS([{"params": [u], "weight_decay": 0.1}])
    with pytest.raises(TypeError, match="'learning_rate' here; use lr"):
        LBFGS([u], learning_rate=0.1)


def test_the_trainer_says_where_else_it_can_be_had():
    model = dn.MLP(2, [3], 1, rng=0)
    with pytest.raises(TypeError, match=r"Trainer: LBFGS asks for the loss of all rows several times .* solver='lbfgs'"):
        dn.Trainer(model, "mse_loss", LBFGS(model.parameters()))
    with pytest.raises(TypeError, match="For 'lbfgs' use MLPClassifier or MLPRegressor"):
        dn.Trainer(model, "mse_loss", "lbfgs")
