"""Optimizers: PyTorch's trajectories, published rules, launches only, groups, saving, clipping, errors."""
import itertools
import json
import math

import numpy as np
import pytest
from conftest import ROOT

from deepnotes import kernels, optimizers
from deepnotes.autograd import Tensor
from deepnotes.kernels import backend, get_num_threads, recording, replay, set_num_threads
from deepnotes.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop, clip_grad_norm_, clip_grad_value_

DATA = ROOT / "tests" / "data"           # optimizers.npz was written by data/make_optimizers.py
REFERENCE = np.load(DATA / "optimizers.npz")
CASES = json.loads(str(REFERENCE["cases"]))
BOTH = pytest.mark.parametrize("backend_name", ["numpy", "numba"])
ALL = {
    "SGD": lambda p: SGD(p, lr=0.05),
    "SGD, momentum": lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "SGD, dampening": lambda p: SGD(p, lr=0.05, momentum=0.9, dampening=0.5),
    "Adagrad": lambda p: Adagrad(p, lr_decay=0.1, initial_accumulator_value=0.2),
    "RMSprop": lambda p: RMSprop(p, momentum=0.5),
    "RMSprop, centered": lambda p: RMSprop(p, centered=True),
    "Adam": Adam,
    "Adam, amsgrad": lambda p: Adam(p, amsgrad=True),
    "AdamW": AdamW,
}
EACH = pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())


def problem(steps=120):
    "What make_optimizers.py draws: start, curvatures, slopes and noise of three parameters."
    rng = np.random.default_rng(7)
    shapes = [(3, 2), (4,), (1,)]
    start = [rng.normal(size=s) for s in shapes]
    curvature = [rng.uniform(0.2, 3.0, size=s) for s in shapes]
    slope = [rng.normal(size=s) for s in shapes]
    return start, curvature, slope, [rng.normal(scale=0.3, size=(steps, *s)) for s in shapes]


def trajectory(name, options, dtype, steps=120):
    start, curvature, slope, noise = problem()
    params = [Tensor(p.astype(dtype), requires_grad=True) for p in start]
    optimizer, kept = getattr(optimizers, name)(params, **options), []
    for t in range(steps):
        for i, p in enumerate(params):
            g = curvature[i] * p.data + slope[i] + noise[i][t]
            p.grad = None if i == 1 and t % 5 == 4 else Tensor(g.astype(dtype))
        optimizer.step()
        if t + 1 in (1, 2, 10, 120):
            kept.append(np.concatenate([p.data.ravel() for p in params]))
    return np.array(kept)


@BOTH
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW"])
def test_trajectories_equal_pytorchs_for_every_combination_of_options(name, backend_name):
    checked = 0
    for case, (kind, options) in enumerate(CASES):
        if kind == name:
            with backend(backend_name):
                found = trajectory(kind, options, "float64")
            np.testing.assert_allclose(found, REFERENCE["trajectories"][case], rtol=0, atol=1e-9, err_msg=str(options))
            checked += 1
    assert checked >= 10


def test_float32_follows_within_its_precision():
    for case in range(0, len(CASES), 7):
        found = trajectory(*CASES[case], "float32", 10)
        # ten steps of lr ≤ 0.05 with rounding errors of 6e-8; where eps is 1e-8, 1/sqrt of tiny squares amplifies them
        np.testing.assert_allclose(found[2], REFERENCE["trajectories"][case][2], atol=2e-5, rtol=0, err_msg=str(CASES[case]))


def distances(make, start, curvature, steps):
    w = Tensor(np.array(start), requires_grad=True)
    optimizer, path = make([w]), []
    for _ in range(steps):
        w.grad = Tensor(np.array(curvature) * w.data)
        optimizer.step()
        path.append(np.linalg.norm(w.data))
    return np.array(path)


def test_gradient_descent_on_a_parabola_is_a_power():
    path = distances(lambda p: SGD(p, lr=0.3), [1.0], [2.0], 20)
    np.testing.assert_allclose(path, (1 - 0.3 * 2.0) ** np.arange(1, 21), rtol=1e-12)
    assert distances(lambda p: SGD(p, lr=1.01), [1.0], [2.0], 100)[-1] > 1       # beyond 2/curvature it diverges


@EACH
def test_a_step_is_one_launch_per_parameter_and_replays(make):
    rng = np.random.default_rng(0)
    start, gradients = [rng.normal(size=s) for s in ((3, 2), (5,))], rng.normal(size=(6, 11))

    def params():
        return [Tensor(p.copy(), requires_grad=True) for p in start]

    def give(ps, g):
        for p, part in zip(ps, (g[:6].reshape(3, 2), g[6:]), strict=True):
            p.grad.data[...] = part

    eager, recorded = params(), params()
    a, b = make(eager), make(recorded)
    for p in (*eager, *recorded):
        p.grad = Tensor(np.zeros(p.shape))
    arrays = [p.data for p in recorded]
    give(recorded, gradients[0])
    with recording() as launches:
        b.step()
    assert len(launches) == 2
    for g in gradients[1:]:
        give(recorded, g)
        replay(launches)
    for g in gradients:
        give(eager, g)
        a.step()
    for p, q, array in zip(eager, recorded, arrays, strict=True):
        assert q.data is array
        np.testing.assert_array_equal(p.data, q.data)
    for p, q in zip(eager, recorded, strict=True):
        for name, state in a.state[p].items():
            np.testing.assert_array_equal(state, b.state[q][name])


@EACH
def test_the_learning_rate_is_an_array_that_a_replay_reads(make):
    w = Tensor(np.ones(3), requires_grad=True)
    optimizer = make(w)
    group = optimizer.param_groups[0]
    w.grad = Tensor(np.ones(3))
    with recording() as launches:
        optimizer.step()
    before = w.data.copy()
    group["lr"] = 0.0
    if "decoupled_weight_decay" in group:
        group["weight_decay"] = 0.0
    replay(launches)
    np.testing.assert_array_equal(w.data, before)
    group.array("lr")[0] = 0.5
    assert group["lr"] == 0.5
    replay(launches)
    assert (w.data != before).all()


def test_small_steps_are_left_to_one_core(monkeypatch):
    """Adam's four float32 arrays reach 8 MiB at 524,288 parameters; a float64 parameter counts twice."""
    if not kernels.can_compile():
        return
    shared, threads = [], get_num_threads()
    monkeypatch.setattr(kernels.threads, "split", lambda loop, n, size, args, whole: shared.append(args[0].dtype.char + str(n)))
    try:
        set_num_threads(2)
        with backend("numba"):
            for dtype, sizes in ((np.float32, (200_704, 524_287, 524_288)), (np.float64, (262_143, 262_144))):
                for n in sizes:
                    p, g, m, v = np.zeros((4, n), dtype)
                    kernels.launch(kernels.adam, p, g, m, v, np.zeros(1), 0.1)      # compiles, or asks in Python
                    kernels.launch(kernels.adam, p, g, m, v, np.zeros(1), np.array([0.1, 0.9, 0.999, 1e-8, 0, 0]))
    finally:
        set_num_threads(threads)
    assert shared == ["f524288"] * 2 + ["d262144"] * 2


@EACH
def test_cores_share_a_step_and_count_it_once(make):
    start, g = np.random.default_rng(0).normal(size=(2, 1_100_037)).astype("float32")
    found, threads = [], get_num_threads()
    try:
        for n in (1, 3):
            set_num_threads(n)
            w = Tensor(start.copy(), requires_grad=True)
            optimizer = make([w])
            for sign in (1, -1, 0.5, -2, 0.1, 3):
                w.grad = Tensor(np.float32(sign) * g)
                optimizer.step()
            found.append((w.data, optimizer.state[w]))
    finally:
        set_num_threads(threads)
    np.testing.assert_array_equal(found[0][0], found[1][0])
    for name, array in found[0][1].items():
        np.testing.assert_array_equal(array, found[1][1][name])
    assert found[0][1].get("step", 6) == 6


def test_betas_and_other_numbers_change_in_place():
    w = Tensor(np.ones(3), requires_grad=True)
    group = Adam(w).param_groups[0]
    numbers = group.numbers
    group["betas"], group["eps"] = (0.5, 0.25), 1.0
    assert group["betas"] == (0.5, 0.25) and group.numbers is numbers
    group.array("betas")[0] = 0.75
    assert group["betas"] == (0.75, 0.25)
    assert dict(group)["eps"] == 1.0 and set(group) >= {"params", "lr", "betas", "eps", "weight_decay", "amsgrad"}
    group["name"] = "head"
    assert group["name"] == "head" and len(group) == 8


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_adams_first_step_is_lr_times_sign(scale):
    w = Tensor(np.zeros(4), requires_grad=True)
    w.grad = Tensor(scale * np.array([1.0, -2.0, 0.5, -3.0]))
    Adam([w], lr=0.1, eps=1e-12).step()
    np.testing.assert_allclose(w.numpy(), [-0.1, 0.1, -0.1, 0.1], rtol=1e-5)


def test_groups_have_their_own_hyperparameters():
    a, b, c = (Tensor(np.ones(2), requires_grad=True) for _ in range(3))
    optimizer = SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1, weight_decay=0.0)
    optimizer.add_param_group({"params": [c], "weight_decay": 1.0})
    for p in (a, b, c):
        p.grad = Tensor(np.ones(2))
    optimizer.step()
    np.testing.assert_allclose([a.data[0], b.data[0], c.data[0]], [0.9, 0.5, 0.8], rtol=1e-12)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5, 0.1]
    with pytest.raises(ValueError, match="listed twice"):
        optimizer.add_param_group({"params": [b]})
    assert len(optimizer.param_groups) == 3


def test_parameters_without_gradient_rest():
    used, unused = (Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    optimizer = Adam([used, unused], lr=0.5)
    used.grad = Tensor(np.ones(2))
    optimizer.step()
    np.testing.assert_array_equal(unused.numpy(), [1, 1])
    assert optimizer.state[used]["step"] == 1 and optimizer.state[unused]["step"] == 0
    optimizer.zero_grad()
    assert used.grad is None
    used.grad = Tensor(np.ones(2))
    optimizer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(used.grad.data, [0, 0])


def test_a_closure_is_called_with_gradients_on():
    w = Tensor(np.ones(2), requires_grad=True)
    optimizer = SGD(w, lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    np.testing.assert_allclose(w.data, [0.8, 0.8], rtol=1e-12)


def test_a_step_invalidates_graphs_that_used_the_old_weights():
    w, x = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    y = (w * x).sum()
    optimizer = SGD([w])
    (w * w).sum().backward()
    optimizer.step()
    with pytest.raises(RuntimeError):
        y.backward()


@EACH
def test_a_saved_optimizer_goes_on_bit_for_bit(make):
    gradients = np.random.default_rng(1).normal(size=(10, 5)).astype("float32")

    def run(optimizer, w, part):
        for g in part:
            w.grad = Tensor(g)
            optimizer.step()

    w = Tensor(np.ones(5, "float32"), requires_grad=True)
    optimizer = make([w])
    run(optimizer, w, gradients[:4])
    saved, weights = optimizer.state_dict(), w.numpy().copy()
    text = json.dumps(saved["param_groups"])
    saved = {"state": {str(i): arrays for i, arrays in saved["state"].items()}, "param_groups": json.loads(text)}
    run(optimizer, w, gradients[4:])
    v = Tensor(weights, requires_grad=True)
    resumed = make([v])
    resumed.param_groups[0]["lr"] = 123.0
    resumed.load_state_dict(saved)
    run(resumed, v, gradients[4:])
    np.testing.assert_array_equal(v.numpy(), w.numpy())


def everything(optimizer):
    state = optimizer.state_dict()
    return json.dumps(state["param_groups"]), [(n, a.tobytes()) for s in state["state"].values() for n, a in s.items()]


def test_load_state_dict_refuses_what_does_not_fit_and_changes_nothing():
    w, other = Tensor([1.0, 2.0], requires_grad=True), Tensor([1.0], requires_grad=True)
    adam = Adam([w])
    before = everything(adam)
    good = Adam([w], lr=0.7)
    bad = [SGD([w]).state_dict(), Adam([other]).state_dict(), Adam([w, other]).state_dict(),
           Adam([w], amsgrad=True).state_dict(), AdamW([w]).state_dict(), {}, None, {"state": 3, "param_groups": []}]
    late = good.state_dict()
    late["state"][0]["step"] = np.zeros(2)
    wrong = good.state_dict()
    wrong["param_groups"][0]["eps"] = -1.0
    for state in [*bad, late, wrong]:
        with pytest.raises(ValueError, match="nothing was changed"):
            adam.load_state_dict(state)
        assert everything(adam) == before
    adam.load_state_dict(good.state_dict())
    assert adam.param_groups[0]["lr"] == 0.7


@pytest.mark.parametrize("dtype, backend_name", list(itertools.product(["float32", "float64"], ["numpy", "numba"])))
def test_clipping_by_norm(dtype, backend_name):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=s).astype(dtype) for s in ((30, 40), (7,))]
    params = [Tensor(np.zeros_like(v), requires_grad=True) for v in (*values, values[0])]
    whole = np.concatenate([v.ravel() for v in values]).astype("float64")
    with backend(backend_name):
        for norm_type, limit in itertools.product((2.0, 1.0, 3.0, math.inf), (0.5, 1e6)):
            for p, v in zip(params, values, strict=False):                      # the third has no gradient
                p.grad = Tensor(v.copy())
            norm = clip_grad_norm_(iter(params), limit, norm_type)
            expected = np.linalg.norm(whole, norm_type)
            assert norm.shape == () and abs(norm.item() / expected - 1) < (1e-5 if dtype == "float32" else 1e-12)
            factor = min(1.0, limit / (expected + 1e-6))
            for p, v in zip(params, values, strict=False):
                np.testing.assert_allclose(p.grad.data, factor * v, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_clipping_is_launches_only_and_reads_its_limit_at_replay():
    p, limit = Tensor(np.zeros(4), requires_grad=True), np.array([1.0])
    p.grad = Tensor(np.array([3.0, 0.0, 4.0, 0.0]))
    with recording() as launches:
        norm = clip_grad_norm_([p], limit)
    assert norm.item() == 5.0
    p.grad.data[...] = [0.0, 6.0, 8.0, 0.0]
    limit[0] = 5.0
    replay(launches)
    assert norm.item() == 10.0
    np.testing.assert_allclose(p.grad.data, [0, 3, 4, 0], rtol=1e-6)


def test_clipping_by_value_and_of_what_is_not_finite():
    p = Tensor(np.zeros(3), requires_grad=True)
    p.grad = Tensor(np.array([-2.0, 0.1, 3.0]))
    clip_grad_value_(p, 0.5)
    np.testing.assert_array_equal(p.grad.data, [-0.5, 0.1, 0.5])
    p.grad = Tensor(np.array([1.0, np.nan, 1.0]))
    with pytest.raises(FloatingPointError, match="chapter Optimizers"):
        clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad.data[0] == 1.0
    assert math.isnan(clip_grad_norm_(p, 1.0).item())


@EACH
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), ()])
def test_a_gradient_of_another_shape_is_refused_before_anything_is_read(make, shape):
    w = Tensor(np.ones(2), requires_grad=True)
    optimizer = make([w])
    w.grad = Tensor(np.ones(shape))
    with pytest.raises(ValueError, match=r"a parameter of shape \(2,\) needs a gradient"):
        optimizer.step()
    np.testing.assert_array_equal(w.data, [1, 1])
    w.grad = np.ones(2)
    with pytest.raises(ValueError, match="got a ndarray"):
        optimizer.step()


def test_a_group_keeps_notes_but_no_hyperparameter_that_nobody_reads():
    group = Adam([{"params": [Tensor([1.0])], "name": "head", "depth": 3}]).param_groups[0]
    assert group["name"] == "head" and group["depth"] == 3
    for make, key in ((Adam, "momentum"), (Adam, "learning_rate"), (SGD, "betas"), (Adagrad, "centered")):
        with pytest.raises(TypeError, match=f"no hyperparameter {key}; there are lr"):
            make([{"params": [Tensor([1.0])], key: 0.5}])


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_clipping_passes_over_empty_gradients(norm_type):
    empty, p = (Tensor(np.zeros(s), requires_grad=True) for s in ((0, 3), (2,)))
    empty.grad, p.grad = Tensor(np.zeros((0, 3))), Tensor(np.array([4.0, 0.0]))
    assert clip_grad_norm_([empty, p], 1.0, norm_type).item() == pytest.approx(4.0)
    np.testing.assert_allclose(p.grad.data, [1, 0], atol=1e-6)


def test_clipping_of_an_infinite_norm_does_what_the_docstring_says():
    p, q = (Tensor(np.zeros(1), requires_grad=True) for _ in range(2))
    p.grad, q.grad = Tensor(np.array([1.0])), Tensor(np.array([np.inf]))
    assert clip_grad_norm_([p, q], 1.0).item() == math.inf
    assert p.grad.data[0] == 0.0 and math.isnan(q.grad.data[0])


W = Tensor([1.0], requires_grad=True)


def changed(optimizer, name, value):
    optimizer.param_groups[0][name] = value


@pytest.mark.parametrize("call, error, words", [
    (lambda: SGD([W], lr=-0.1), ValueError, "SGD: lr must be at least 0 and finite, got -0.1"),
    (lambda: SGD([W], lr=np.nan), ValueError, "lr must be"),
    (lambda: SGD([W], lr="0.1"), ValueError, "lr must be"),
    (lambda: SGD([W], lr=True), ValueError, "lr must be"),
    (lambda: SGD([W], momentum=1.0), ValueError, r"momentum must be in \[0, 1\)"),
    (lambda: SGD([W], nesterov=True), ValueError, "nesterov needs momentum"),
    (lambda: SGD([W], momentum=0.9, dampening=0.1, nesterov=True), ValueError, "nesterov needs momentum"),
    (lambda: SGD([W], weight_decay=-1), ValueError, "weight_decay must be"),
    (lambda: SGD([W], momentum=0.9, nesterov=1.5), TypeError, "nesterov must be True or False"),
    (lambda: Adam([W], lr=np.inf), ValueError, "lr must be"),
    (lambda: Adam([W], betas=(0.9, 1.0)), ValueError, "betas must be two numbers"),
    (lambda: Adam([W], betas=(0.9,)), ValueError, "betas must be"),
    (lambda: Adam([W], betas=0.9), ValueError, "betas must be"),
    (lambda: Adam([W], eps=-1e-8), ValueError, "eps must be"),
    (lambda: RMSprop([W], alpha=-0.1), ValueError, "alpha must be"),
    (lambda: Adagrad([W], lr_decay=-0.1), ValueError, "lr_decay must be"),
    (lambda: Adagrad([W], initial_accumulator_value=-1), ValueError, "initial_accumulator_value must be"),
    (lambda: Adam([]), ValueError, "no parameters"),
    (lambda: Adam([{"params": []}]), ValueError, "no parameters"),
    (lambda: Adam([W, W]), ValueError, "listed twice"),
    (lambda: Adam([np.ones(2)]), TypeError, "parameter 0 is a ndarray"),
    (lambda: Adam(None), TypeError, "expected Tensors or groups, as model.parameters"),
    (lambda: SGD([{"params": 3}]), TypeError, "expected Tensors or groups"),
    (lambda: SGD([Tensor(np.arange(3))]), TypeError, "of dtype int64, expected float32 or float64"),
    (lambda: SGD([W, W * 2]), ValueError, "parameter 1 was computed from other tensors"),
    (lambda: Adam([{"weights": [W]}]), TypeError, "a group must be a dictionary"),
    (lambda: changed(Adam([W]), "lr", -1.0), ValueError, "lr must be"),
    (lambda: changed(Adam([W]), "amsgrad", True), ValueError, "amsgrad stays False"),
    (lambda: changed(SGD([W]), "momentum", 0.9), ValueError, "momentum stays 0.0"),
    (lambda: changed(SGD([W]), "params", []), ValueError, "params stays these"),
    (lambda: optimizers.Optimizer([W], {}), TypeError, "an optimizer needs a rule"),
    (lambda: clip_grad_norm_([W], -1.0), ValueError, "max_norm must be"),
    (lambda: clip_grad_norm_([W], np.array([-1.0])), ValueError, "max_norm must be"),
    (lambda: clip_grad_norm_([W], np.array(["1"])), ValueError, "max_norm must be"),
    (lambda: clip_grad_norm_(None, 1.0), TypeError, "expected Tensors"),
    (lambda: clip_grad_norm_([W], 1.0, 0.5), ValueError, "norm_type must be"),
    (lambda: clip_grad_norm_([3.0], 1.0), TypeError, "expected Tensors"),
    (lambda: clip_grad_value_([W], -1.0), ValueError, "clip_value must be"),
])
def test_errors_teach(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter Optimizers" in str(caught.value)
