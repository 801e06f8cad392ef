"""What the chapters Optimizers and Schedules claim, measured again; and their exercises' checks, which must refuse wrong answers."""

import numpy as np
import pytest
from book_helpers import checked, code_cells, try_exercise
from fastcore.test import test_close as close

from deepnotes import kernels, optimizers, schedules
from deepnotes.autograd import Tensor
from deepnotes.optimizers import SGD, Adagrad, Adam, AdamW, clip_grad_norm_


def descend(make, gradient, start, steps):
    w = Tensor(np.array(start, dtype="float64"), requires_grad=True)
    optimizer, path = make([w]), [w.data.copy()]
    for t in range(steps):
        w.grad = Tensor(np.asarray(gradient(w.data, t), dtype="float64"))
        optimizer.step()
        path.append(w.data.copy())
    return np.array(path)


@pytest.mark.parametrize("kappa", [4, 100, 900])
def test_rates_on_a_quadratic(kappa):
    root = kappa**0.5
    rho, steps = (root - 1) / (root + 1), int(8 * root)

    def distances(make, steps):
        return np.linalg.norm(descend(make, lambda w, t: [1, kappa] * w, [1, 1], steps), axis=1)

    plain = distances(lambda p: SGD(p, lr=2 / (1 + kappa)), steps)
    np.testing.assert_allclose(plain[1:] / plain[:-1], (kappa - 1) / (kappa + 1), rtol=1e-9)
    heavy = distances(lambda p: SGD(p, lr=4 / (1 + root) ** 2, momentum=rho**2), steps)
    t = np.arange(steps - 5, steps)
    ratio = (heavy[t + 1] / (t + 1)) / (heavy[t] / t)                   # t ρᵗ (1 + O(1/t)): the ratio is ρ (1 + O(1/t²))
    np.testing.assert_allclose(ratio, rho, rtol=30 / steps**2 + 1e-3)
    if kappa == 100:
        assert abs(plain[-1] / plain[-2] - 0.980) < 5e-4 and abs(rho - 0.818) < 5e-4


def test_momentum_is_as_fast_for_every_curvature_between_the_ends():
    for curvature in (1.5, 10.0, 60.0):
        path = abs(descend(lambda p: SGD(p, lr=(2 / 11) ** 2, momentum=(9 / 11) ** 2), lambda w, t, c=curvature: c * w, [1.0], 400)[:, 0])
        # complex roots: the distance turns around in the plane, so compare the largest of the ten last with those 200 before
        assert abs((path[-30:].max() / path[-230:-200].max()) ** (1 / 200) - 9 / 11) < 0.005


def reddi(make, steps=1500):
    w = Tensor(np.zeros(1), requires_grad=True)
    optimizer, path = make([w]), []
    for t in range(steps):
        optimizer.param_groups[0]["lr"] = 0.5 / (t + 1) ** 0.5
        w.grad = Tensor(np.array([3.0 if t % 3 == 0 else -1.0]))
        optimizer.step()
        w.data = np.clip(w.data, -1, 1)
        path.append(w.data.item())
    return np.array(path)


def test_adam_walks_to_the_worst_point_and_amsgrad_to_the_best():
    assert reddi(lambda p: Adam(p, betas=(0.0, 0.1)))[-300:].min() > 0.9
    assert reddi(lambda p: Adam(p, betas=(0.0, 0.1), amsgrad=True))[-300:].max() < -0.9
    assert reddi(lambda p: SGD(p))[-300:].max() < -0.9
    assert reddi(lambda p: Adam(p, betas=(0.0, 0.999)))[-300:].max() < -0.9


# (momentum, one large gradient in n steps, margin at which the drift over one period of the periodic state is zero)
BORDERS = [(0.0, 10, 0.02005), (0.0, 30, 0.2112), (0.9, 10, 0.003796), (0.9, 30, 0.0992)]


@pytest.mark.parametrize(("beta1", "n", "margin"), BORDERS)
@pytest.mark.parametrize("side", [0.8, 1.25])
def test_adam_walks_to_the_worst_point_below_the_border_and_to_the_best_above(beta1, n, margin, side):
    large, settled = n - 1 + side * margin, -(-9000 // n) * n
    path = descend(lambda p: Adam(p, lr=1e-3, betas=(beta1, 0.999), eps=1e-16), lambda w, t: [large if t % n == 0 else -1.0],
                   [0.0], settled + 100 * n)[:, 0]
    assert (path[-1] < path[settled]) == (side > 1)         # the mean gradient is positive: the best point is on the left


def test_adams_step_comes_close_to_its_bound_and_never_passes_it():
    bound = 0.1 / (0.001 * (1 - 0.81 / 0.999)) ** 0.5
    assert abs(bound - 7.27) < 0.005
    growing = descend(lambda p: Adam(p, lr=1.0), lambda w, t: [1e-3 * (0.999 / 0.9) ** t], [0.0], 3000)[:, 0]
    assert 0.95 * bound < abs(np.diff(growing)).max() < bound
    rng = np.random.default_rng(0)
    for spread in (1, 5, 20):                               # gradients of very unlike sizes, at random
        wild = np.exp(spread * rng.normal(size=(1000, 40))) * rng.choice([-1, 1], (1000, 40))
        assert abs(np.diff(descend(lambda p: Adam(p, lr=1.0), lambda w, t, g=wild: g[t], np.zeros(40), 1000), axis=0)).max() < bound


def test_amsgrads_steps_grow_with_the_correction():
    steps = -np.diff(descend(lambda p: Adam(p, lr=1.0, betas=(0, 0.999), eps=0.0, amsgrad=True),
                             lambda w, t: [1.0 if t == 0 else 0.01], [0.0], 20_000)[:, 0])
    np.testing.assert_allclose(steps[[1, 99, 19_999]], [0.0141, 0.0976, 0.3162], atol=5e-5)


def test_a_constant_rate_converges_where_the_noise_vanishes():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 300))
    fitted = descend(lambda p: SGD(p, lr=0.1), lambda w, t: x[t] ** 2 * w, np.ones(300), 400)
    noisy = descend(lambda p: SGD(p, lr=0.1), lambda w, t: x[t] ** 2 * w + rng.normal(size=300), np.ones(300), 400)
    assert abs(fitted[-1]).max() < 1e-6 and noisy[-1].std() > 0.1


def test_adams_and_adagrads_first_step_and_adagrads_fall():
    g = np.array([1e-4, -1.0, 1e4])
    for make in (lambda p: Adam(p, lr=0.1, eps=0.0), lambda p: Adagrad(p, lr=0.1, eps=0.0)):
        np.testing.assert_allclose(descend(make, lambda w, t: g, np.zeros(3), 1)[1], -0.1 * np.sign(g), rtol=1e-12)
    path = descend(lambda p: Adagrad(p, lr=1.0), lambda w, t: np.ones(1), [0.0], 50)[:, 0]
    np.testing.assert_allclose(-np.diff(path), np.arange(1, 51) ** -0.5, rtol=1e-9)


def test_decoupled_decay_does_not_depend_on_the_gradients_and_l2_does():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1000, 300))
    left = {}
    for kind in (Adam, AdamW):
        for size in (0.1, 10.0):
            path = descend(lambda p, kind=kind: kind(p, lr=1e-3, weight_decay=0.2), lambda w, t, s=size: s * noise[t], np.ones(300), 1000)
            left[kind, size] = path[-1].mean()
    exact = (1 - 2e-4) ** 1000
    # random steps of length up to lr: over 1000 steps a spread of about 0.03 per weight, 0.002 for the mean of 300
    assert abs(left[AdamW, 0.1] - exact) < 0.01 and abs(left[AdamW, 10.0] - exact) < 0.01
    assert left[Adam, 0.1] < 0.5 and left[Adam, 10.0] > 0.95


@pytest.mark.parametrize("lr, batch", [(0.1, 1), (0.5, 4), (1.5, 16)])
def test_the_noise_floor_of_sgd(lr, batch):
    rng = np.random.default_rng(0)
    path = descend(lambda p: SGD(p, lr=lr), lambda w, t: w + rng.normal(size=2000) / batch**0.5, np.zeros(2000), 150)
    # 2000 independent chains: the variance is known to sqrt(2/2000) = 3 %, three of which are allowed
    assert abs(path[-1].var() / (lr / batch / (2 - lr)) - 1) < 0.1


def test_clipping_tames_heavy_tails():
    def run(seed, limit):
        rng = np.random.default_rng(seed)
        X, noise = rng.normal(size=(1000, 10)), rng.standard_t(1.5, size=1000)
        w = Tensor(np.zeros(10), requires_grad=True)
        sgd = SGD([w], lr=0.03)
        for x, e in zip(X, noise, strict=True):
            w.grad = Tensor((x @ (w.data - 1) - e) * x)
            clip_grad_norm_([w], limit)
            sgd.step()
        return np.linalg.norm(w.data - 1)

    assert np.median([run(s, 1.0) for s in range(7)]) < 0.5 * np.median([run(s, 1e9) for s in range(7)])


def space_of(chapter):
    space = {"np": np, "Tensor": Tensor, "test_close": close}
    for module in (optimizers, schedules):
        space |= {name: getattr(module, name) for name in module.__all__}
    for cell in code_cells(chapter):
        if "def check_" in cell or cell.startswith("from deepnotes.autograd import Tensor\nfrom deepnotes.optimizers"):
            exec(cell, space)
    return space


@checked("07_optimizers")
def test_the_skeleton_is_refused_and_the_solution_accepted(exercise):
    try_exercise(exercise, space_of("07_optimizers"))


@checked("library/schedules")
def test_the_skeleton_of_a_schedule_is_refused_and_the_solution_accepted(exercise):
    try_exercise(exercise, space_of("library/schedules"))


def test_rare_features_reach_their_weights_with_adagrad_and_not_with_a_small_rate():
    often, rng, steps = 0.5 ** np.arange(8), np.random.default_rng(1), 1000
    X, noise = (rng.random((steps, 20, 8)) < often) * 1.0, rng.normal(scale=0.1, size=(steps, 20, 1))

    def error(make):
        path = descend(make, lambda w, t: ((X[t] * (w - 1)).sum(1, keepdims=True) - noise[t]) * X[t], np.zeros((20, 8)), steps)
        return np.sqrt(((path[-1] - 1) ** 2).mean(0))

    slow, fast, ada = (error(make) for make in (lambda p: SGD(p, lr=0.05), lambda p: SGD(p, lr=0.4), lambda p: Adagrad(p, lr=0.5)))
    assert ada[-1] < 0.5 * slow[-1] and ada[:4].mean() < 0.8 * fast[:4].mean()


class TwoLaunches(optimizers.Optimizer):
    "Right numbers, but not by one launch."

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def _rule(self, values):
        return kernels.descent, ("lr",), (), ()

    def step(self):
        for p in self.state:
            p.data -= self.param_groups[0]["lr"] * np.sign(p.grad.data)


WRONG = [
    ("check_best_rate", 1 / 26 + 0.01), ("check_best_rate", 1 / 50), ("check_terminal", 0.02), ("check_terminal", 0.4 / (1 - 0.9)),
    ("check_nesterov", lambda p, g, v, lr, beta: (p - lr * (g + beta * v), beta * v + g)),      # the old velocity
    ("check_nesterov", lambda p, g, v, lr, beta: (p + lr * (g + beta * (beta * v + g)), beta * v + g)),              # uphill
    ("check_adam", lambda p, g, m, u, t, lr, b, eps: (p - lr * np.sign(g), m, u)),
    ("check_adam", lambda p, g, m, u, t, lr, b, eps: (
        p - lr * (m := b[0] * m + (1 - b[0]) * g) / (1 - b[0]) / (((u := b[1] * u + (1 - b[1]) * g**2) / (1 - b[1])) ** 0.5 + eps), m, u)),
    ("check_patience", lambda beta: int(5 / (1 - beta))), ("check_patience", lambda beta: int(4.6 / (1 - beta)) - 1),
    ("check_tuning", lambda low, high: (1 / high, 0.0)),
    ("check_tuning", lambda low, high: (4 / (low**0.5 + high**0.5) ** 2, 0.9)),
    ("check_clip", lambda arrays, limit: [a * limit / np.linalg.norm(a) for a in arrays]),
    ("check_clip", lambda arrays, limit: [a.clip(-limit, limit) for a in arrays]),
    ("check_batch", lambda lr, spread, curvature, target: 10**6),
    ("check_batch", lambda lr, spread, curvature, target: 1),
    ("check_sign", lambda params, lr: Adam(params, lr)),
    ("check_sign", TwoLaunches),
    ("check_sweep", lambda loss_of, low, high: (0.33, low, high)),
    ("check_sweep", lambda loss_of, low, high: (0.33, 0.32, 0.34)),
    ("check_inverse", lambda t, horizon: max(0.0, 1 - t / (2 * horizon))), ("check_inverse", lambda t, horizon: 1 / (1 + t)),
    ("check_trapezoid", lambda o, total: schedules.CosineAnnealingLR(o, total)),
    ("check_trapezoid", lambda o, total: schedules.LambdaLR(o, lambda t: 1.0)),
]


@pytest.fixture(scope="module")
def checks():
    return space_of("07_optimizers") | space_of("library/schedules")


@pytest.mark.parametrize("check, wrong", WRONG)
def test_checks_refuse_wrong_answers(checks, check, wrong):
    with pytest.raises(AssertionError, match=" "):
        checks[check](wrong)


def first_good_batch(lr, spread, curvature, target):
    B = 1
    while lr * spread**2 / (2 * curvature * B) / (1 - lr * curvature / 2) > target**2 * (1 + 1e-12):
        B += 1
    return B


def golden(loss_of, low, high):
    "Rates in steps of two percent, all of them."
    rates = np.geomspace(low, high, int(np.log(high / low) / 0.02))
    losses = np.array([loss_of(lr) for lr in rates])
    good = np.flatnonzero(losses <= 2 * losses.min())
    return rates[losses.argmin()], rates[good[0]], rates[good[-1]]


OTHER_RIGHT = [
    ("check_nesterov", lambda p, g, v, lr, beta: (p - lr * ((1 + beta) * g + beta**2 * v), g + beta * v)),
    ("check_patience", lambda beta: next(t for t in range(1, 9999) if 1 - beta**t > 0.99)),
    ("check_clip", lambda arrays, limit: [a / max(1, np.linalg.norm(np.concatenate([b.ravel() for b in arrays])) / limit) for a in arrays]),
    ("check_batch", first_good_batch), ("check_sweep", golden),
]


@pytest.mark.parametrize("check, answer", OTHER_RIGHT, ids=[check for check, _ in OTHER_RIGHT])
def test_a_right_answer_that_is_not_the_books_is_accepted(checks, check, answer):
    checks[check](answer)


def test_warm_up_lets_adam_bear_a_larger_rate():
    from deepnotes import MLP
    from deepnotes.datasets import load_digits
    from deepnotes.outputs import cross_entropy

    digits = load_digits()
    X, y = digits.X[:1200] / 16, digits.y[:1200]

    def train(warm, seed, steps=148):
        model, rng = MLP(64, [64], 10, rng=seed), np.random.default_rng(seed)
        adam = Adam(model.parameters(), lr=0.3)
        cosine = schedules.CosineAnnealingLR(adam, steps - 15 * warm)
        rates = schedules.SequentialLR(adam, [schedules.LinearLR(adam, 1e-3, total_iters=15), cosine], [15]) if warm else cosine
        for rows in np.concatenate([rng.permutation(1200)[:1184].reshape(-1, 32) for _ in range(4)]):
            adam.zero_grad()
            cross_entropy(model(Tensor(X[rows])), y[rows]).backward()
            adam.step()
            rates.step()
        return cross_entropy(model(Tensor(X)), y).item()

    cold, warm = (np.median([train(w, seed) for seed in range(5)]) for w in (False, True))
    assert warm < 0.3 < 1.0 < cold
