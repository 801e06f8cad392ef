"""Chapter 4: what it shows stays true, and its exercise checks accept right answers and turn wrong ones away."""

import json
import math

import numpy as np
import pytest
from book_helpers import ROOT, checked, try_exercise

from deepnotes import outputs
from deepnotes.autograd import Tensor, grad, sigmoid, softmax
from deepnotes.datasets import make_multilabel
from deepnotes.layers import MLP
from deepnotes.optimizers import Adam

CHAPTER = ROOT / "nbs" / "04_outputs.ipynb"
CELLS = ["".join(c["source"]) for c in json.loads(CHAPTER.read_text())["cells"] if c["cell_type"] == "code"]


@pytest.fixture(scope="module")
def checks():
    "The chapter's check functions, and what they use"
    names = {name: getattr(outputs, name) for name in outputs.__all__}
    names |= {
        "np": np,
        "Tensor": Tensor,
        "grad": grad,
        "sigmoid": sigmoid,
        "softmax": softmax,
    }
    for cell in CELLS:
        if "def check_" in cell or "def temperature(" in cell or "def calibration_error(" in cell:
            exec(cell, names)
    return names


def shifted(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def uniform(z):
    top = z.max(-1, keepdims=True)
    e = np.exp(np.where(np.isinf(top), 0, z - top))
    return e / e.sum(-1, keepdims=True)


def focal(z, y, gamma):
    return sigmoid(z * (1 - 2 * y)) ** gamma * outputs.binary_cross_entropy_with_logits(z, y, reduction="none")


def naive_focal(z, y, gamma):
    p = sigmoid(z)
    truth = y * p + (1 - y) * (1 - p)
    return -((1 - truth) ** gamma) * truth.log()


RIGHT = [
    ("check_by_hand", (math.log(4), [-0.75, 0.75])),
    ("check_two_logits", (lambda z: np.column_stack([np.zeros_like(z), z]),)),
    ("check_two_logits", (lambda z: np.column_stack([-z / 2, z / 2]),)),
    ("check_laplace", (lambda y, mu, b: math.log(2 * b) + abs(y - mu) / b,)),
    ("check_masked", (uniform, "uniform")),
    ("check_masked", (shifted, "nan")),
    ("check_log_sigmoid", (lambda z: np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z))),)),
    ("check_best_gap", (lambda eps, n: math.log((1 - eps + eps / n) / (eps / n)),)),
    ("check_focal", (focal,)),
]
WRONG = [
    ("check_by_hand", (0.0, [0.0, 0.0])),
    ("check_by_hand", (math.log(4), [0.25, 0.75])),
    ("check_two_logits", (lambda z: np.column_stack([z, z]),)),
    ("check_two_logits", (lambda z: np.column_stack([-z, z]),)),
    ("check_laplace", (lambda y, mu, b: abs(y - mu),)),
    ("check_laplace", (lambda y, mu, b: math.log(b) + abs(y - mu) / b,)),
    ("check_masked", (shifted, "uniform")),
    ("check_masked", (uniform, "nan")),
    ("check_masked", (uniform, "")),
    ("check_log_sigmoid", (lambda z: np.log(1 / (1 + np.exp(-z))),)),
    ("check_log_sigmoid", (lambda z: np.maximum(z, 0) - np.log1p(np.exp(-np.abs(z))),)),
    ("check_log_sigmoid", (lambda z: np.minimum(z, 0),)),
    ("check_best_gap", (lambda eps, n: math.log(1 / eps),)),
    ("check_best_gap", (lambda eps, n: math.log((1 - eps) / (eps / n)),)),
    ("check_best_beta", (lambda z, y: 1.0,)),
    ("check_best_beta", (lambda z, y: 1 / z.std(),)),
    ("check_focal", (lambda z, y, gamma: outputs.binary_cross_entropy_with_logits(z, y, reduction="none"),)),
    ("check_focal", (naive_focal,)),
]


@pytest.mark.parametrize("name, answer", RIGHT)
def test_checks_accept_right_answers(checks, name, answer):
    checks[name](*answer)


@pytest.mark.parametrize("name, answer", WRONG)
def test_checks_turn_wrong_answers_away(checks, name, answer):
    with pytest.raises(AssertionError, match=" "), np.errstate(all="ignore"):
        checks[name](*answer)


@checked("04_outputs")
def test_the_skeleton_is_refused_and_the_solution_accepted(checks, exercise):
    with np.errstate(all="ignore"):
        try_exercise(exercise, dict(checks))


def test_every_check_is_tried():
    defined = {word.split("(")[0] for cell in CELLS for word in cell.split("def ")[1:] if word.startswith("check_")}
    assert defined == {name for name, _ in WRONG} and len(defined) >= 8


@pytest.mark.parametrize("loss, target", [("mse", 0.5), ("bernoulli", 1.0), ("poisson", 4.0)])
def test_the_gradient_is_prediction_minus_target(loss, target):
    z = np.float64(0.7) * np.ones(1)
    half = {
        "mse": lambda z, y: 0.5 * outputs.mse_loss(z, y),
        "bernoulli": outputs.binary_cross_entropy_with_logits,
        "poisson": outputs.poisson_nll_loss,
    }[loss]
    mean = {"mse": 0.7, "bernoulli": 1 / (1 + math.exp(-0.7)), "poisson": math.exp(0.7)}[loss]
    assert grad(half)(z, np.array([target])).item() == pytest.approx(mean - target, rel=1e-12)


def test_only_the_log_loss_pushes_when_confidently_wrong():
    z = np.array([-20.0])
    log_loss = grad(outputs.binary_cross_entropy_with_logits)(z, [1.0]).item()
    squared = grad(lambda z: outputs.mse_loss(sigmoid(z), [1.0]))(z).item()
    clipped = grad(lambda z: outputs.mse_loss(z.clamp(0, 1), [1.0]))(z).item()
    assert log_loss == pytest.approx(-1, abs=1e-8) and abs(squared) < 1e-8 and clipped == 0


def test_positive_weight_moves_the_logit_by_its_logarithm():
    y, w = np.repeat([1.0, 0.0], [5, 95]), 7.0
    z = np.full(100, math.log(w * 5 / 95))
    slope = grad(lambda z: outputs.binary_cross_entropy_with_logits(z, y, pos_weight=w, reduction="sum"))(z).numpy()
    assert slope.sum() == pytest.approx(0, abs=1e-12)


def test_softmax_cannot_say_none_of_them_and_sigmoids_can():
    train, test = make_multilabel(400, rng=0), make_multilabel(1000, rng=100)
    none = test.y.sum(1) == 0
    model = MLP(2, [32, 32], 3, rng=0)
    optimizer = Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        outputs.binary_cross_entropy_with_logits(model(train.X), train.y).backward()
        optimizer.step()
    right = ((model(test.X).numpy() > 0) == test.y).all(1)
    assert right.mean() > 0.9 and right[none].mean() > 0.9
    some = softmax(np.random.default_rng(0).normal(size=(1000, 3)), -1).numpy()
    assert (some.max(1) >= 1 / 3).all()  # no threshold below 1/3 ever says "none"


def test_hubers_loss_is_a_density_of_known_mass():
    for delta in (0.5, 1.35, 3.0):
        at = np.linspace(-100, 100, 400_001)                # the tail beyond is below exp(-48)
        height = np.exp(-outputs.huber_loss(at, 0 * at, delta=delta, reduction="none").numpy())
        mass = math.sqrt(2 * math.pi) * math.erf(delta / math.sqrt(2)) + 2 / delta * math.exp(-(delta**2) / 2)
        assert height.sum() * (at[1] - at[0]) == pytest.approx(mass, rel=1e-6)


def test_a_softmax_with_a_class_none_comes_close_but_its_shares_are_no_frequencies():
    train, test = make_multilabel(500, rng=3), make_multilabel(1000, rng=103)
    share = np.column_stack([train.y, train.y.sum(1) == 0])
    share = (share / share.sum(1, keepdims=True)).astype("float32")
    model = MLP(2, [32, 32], 4, rng=3)
    optimizer = Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        outputs.cross_entropy(model(train.X), share).backward()
        optimizer.step()
    p = softmax(model(test.X).detach(), -1).numpy()
    assert ((p[:, :3] > 0.2) == test.y).all(1).mean() > 0.85
    certain = p[test.y.sum(1) == 3][:, :3]
    assert len(certain) > 10 and abs(np.median(certain) - 1 / 3) < 0.05


def test_learned_variance_is_that_of_the_data():
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.normal(1, 0.1, 4000), rng.normal(-1, 2, 4000)])
    group = np.repeat([0, 1], 4000)
    mean, log_var = Tensor(np.zeros(2), requires_grad=True), Tensor(np.zeros(2), requires_grad=True)
    optimizer = Adam([mean, log_var], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        outputs.gaussian_nll_loss(mean[group], y, log_var.exp()[group]).backward()
        optimizer.step()
    found = np.exp(log_var.numpy())
    exact = np.array([y[group == k].var() for k in (0, 1)])  # maximum likelihood has a closed form
    np.testing.assert_allclose(found, exact, rtol=0.02)


def test_a_mixture_keeps_two_answers_apart_where_squared_error_averages_them():
    rng = np.random.default_rng(0)
    y = rng.choice([-1.0, 1.0], 1000) + 0.1 * rng.normal(size=1000)
    start = [np.zeros(2), np.array([-0.1, 0.1]), np.zeros(2)]
    parts = [Tensor(p, requires_grad=True) for p in start]
    optimizer = Adam(parts, lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss = outputs.mixture_density_nll_loss(*[p.reshape(1, 2) + np.zeros((1000, 2)) for p in parts], y)
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(np.sort(parts[1].numpy()), [-1, 1], atol=0.03)
    assert loss.item() < 0.5 * (1 + math.log(2 * math.pi * y.var())) - 0.5  # well below the best single Gaussian


def test_a_linear_bottleneck_finds_the_best_approximation_of_its_rank():
    target = np.random.default_rng(4).normal(size=(6, 5))
    first, second = (
        Tensor(0.3 * np.random.default_rng(5).normal(size=s), requires_grad=True) for s in ((6, 2), (2, 5))
    )
    optimizer = Adam([first, second], lr=0.02)
    for _ in range(1500):
        optimizer.zero_grad()
        loss = outputs.mse_loss(first @ second, target, reduction="sum")
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx((np.linalg.svd(target)[1][2:] ** 2).sum(), rel=1e-3)


def test_temperature_restores_calibration(checks):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 3))
    y = (softmax(z, -1).numpy().cumsum(1) > rng.uniform(size=(4000, 1))).argmax(
        1
    )  # labels drawn with these probabilities
    T = checks["temperature"](5 * z, y)
    assert T == pytest.approx(5, rel=0.1)
    before, after = checks["calibration_error"](5 * z, y)[0], checks["calibration_error"](5 * z / T, y)[0]
    assert after < 0.03 < 0.2 < before
