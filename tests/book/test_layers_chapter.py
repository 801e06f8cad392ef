"""What the chapter Layers claims, measured again; and its exercises' checks, which must refuse wrong answers."""

import itertools
import warnings

import numpy as np
import pytest
from book_helpers import checked, code_cells, try_exercise

from deepnotes import activations, autograd, initialization, layers
from deepnotes.autograd import Tensor, no_grad
from deepnotes.datasets import load_digits, standardize
from deepnotes.layers import (
    MLP,
    AlphaDropout,
    BatchNorm1d,
    Dropout,
    LayerNorm,
    Linear,
    Module,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
)
from deepnotes.optimizers import SGD
from deepnotes.outputs import cross_entropy, mse_loss


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return standardize(data.X).astype("float32"), data.y, data.X.astype("float32")


def fit(model, images, labels, epochs=10, lr=0.01, seed=0):
    optimizer, rng, curve = SGD(model.parameters(), lr=lr, momentum=0.9), np.random.default_rng(seed), []
    for _ in range(epochs):
        losses = []
        for batch in np.split(rng.permutation(1400), 14):
            loss = cross_entropy(model(Tensor(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curve.append(np.mean(losses))
    return curve


def accuracy(model, images, labels):
    with no_grad():
        return (model.eval()(Tensor(images)).numpy().argmax(1) == labels).mean()


def around(seed, make):
    rng = np.random.default_rng(seed)
    start = {"weight_init": initialization.xavier_normal, "rng": rng}
    blocks = [make(lambda: Linear(32, 32, **start)) for _ in range(15)]
    return Sequential(Linear(64, 32, **start), *blocks, Linear(32, 10, **start))


def ridge(X, y, p):
    return np.linalg.solve(X.T @ X + p / (1 - p) * np.diag((X**2).sum(0)), X.T @ y)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_on_a_linear_model_is_ridge_exactly(p):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4)) * [1, 5, 0.1, 2], rng.normal(size=30)
    A, c = np.zeros((4, 4)), np.zeros(4)
    for mask in itertools.product([0, 1], repeat=4):                 # all masks of a row, with their probabilities
        chance, Z = p ** (4 - sum(mask)) * (1 - p) ** sum(mask), X * mask / (1 - p)
        A, c = A + chance * Z.T @ Z, c + chance * Z.T @ y
    np.testing.assert_allclose(np.linalg.solve(A, c), ridge(X, y, p), rtol=1e-9)


def test_training_with_the_dropout_layer_finds_the_ridge_solution():
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(40, 5)), rng.normal(size=5)
    y = X @ w + rng.normal(size=40)
    model = Sequential(Dropout(0.4, rng=1), Linear(5, 1, bias=False, rng=0, dtype="float64"))
    optimizer, total = SGD(model.parameters(), lr=0.02), 0
    for step in range(4000):
        optimizer.zero_grad()
        mse_loss(model(Tensor(X)), y[:, None]).backward()
        optimizer.step()
        total += model[1].weight.numpy()[:, 0] * (step >= 1000)
    found, least_squares = total / 3000, np.linalg.lstsq(X, y, rcond=None)[0]
    # The mean of 3,000 steps, each a noisy estimate with a memory of about 1/(2 lr) = 25 of them: 120 independent ones of
    # standard deviation near 0.1, so an error near 0.01.
    assert abs(found - ridge(X, y, 0.4)).max() < 0.04
    assert abs(least_squares - ridge(X, y, 0.4)).max() > 0.2


def test_batch_norm_makes_the_loss_blind_to_the_scale_of_the_weights():
    rng = np.random.default_rng(0)
    x, labels, head = Tensor(rng.normal(size=(50, 8))), rng.integers(0, 3, 50), Tensor(rng.normal(size=(6, 3)))
    norm = BatchNorm1d(6, eps=0, affine=False, dtype="float64")

    def loss(W):
        return cross_entropy(norm(x @ W) @ head, labels)

    W = rng.normal(size=(8, 6))
    one, seven = Tensor(W, requires_grad=True), Tensor(7 * W, requires_grad=True)
    first, second = loss(one), loss(seven)
    first.backward()
    second.backward()
    assert abs(first.item() - second.item()) < 1e-13
    np.testing.assert_allclose(one.grad.numpy(), 7 * seven.grad.numpy(), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose((W * one.grad.numpy()).sum(0), 0, atol=1e-13)
    paths = []
    for scale in (1, 10):                                            # rate × scale²: the same path
        V = Tensor(scale * W, requires_grad=True)
        for _ in range(30):
            before, V.grad = np.linalg.norm(V.numpy(), axis=0), None
            loss(V).backward()
            V.data = V.data - 0.5 * scale**2 * V.grad.numpy()
            after = np.linalg.norm(V.numpy(), axis=0)
            step = 0.5 * scale**2 * np.linalg.norm(V.grad.numpy(), axis=0)
            np.testing.assert_allclose(after**2, before**2 + step**2, rtol=1e-9)        # Pythagoras
        paths.append(V.numpy() / scale)
    np.testing.assert_allclose(paths[0], paths[1], rtol=1e-7)


def test_what_each_normalization_is_blind_to():
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(8, 4)), rng.normal(size=(4, 6))
    three_units, three_examples = np.where(np.arange(6) == 2, 3, 1), np.where(np.arange(8) == 5, 3, 1)[:, None]
    products = {"weights": 3 * X @ W, "unit": X @ (W * three_units), "example": (X * three_examples) @ W, "shift": X @ W + 1}
    expected = {BatchNorm1d: {"weights", "unit", "shift"}, LayerNorm: {"weights", "example", "shift"},
                RMSNorm: {"weights", "example"}}
    for kind, blind in expected.items():
        norm = kind(6, eps=0, dtype="float64")
        y = norm(Tensor(X @ W)).numpy()
        assert {name for name, z in products.items() if np.allclose(norm(Tensor(z)).numpy(), y)} == blind


def test_selu_with_alpha_dropout_keeps_mean_and_variance_over_thirty_layers():
    model = MLP(400, [400] * 30, 1, activation="selu", dropout=0.1, rng=0)
    h = Tensor(np.random.default_rng(0).normal(size=(300, 400)).astype("float32"))
    with no_grad():
        for module in model[:-1]:
            h = module(h)
            if isinstance(module, AlphaDropout):
                assert abs(h.numpy().mean()) < 0.1 and 0.8 < h.numpy().var() < 1.25
        broken = Tensor(np.random.default_rng(0).normal(size=(300, 400)).astype("float32"))
        for module in MLP(400, [400] * 30, 1, activation="selu", rng=0)[:-1]:
            broken = module(broken)
            if isinstance(module, layers.SELU):
                broken = Dropout(0.1, rng=0)(broken)
    assert abs(h.numpy().var() - 1) < abs(broken.numpy().var() - 1)


def test_thirty_layers_stall_stacked_and_train_with_a_way_around(digits):
    images, labels, _ = digits
    for seed in range(2):
        stacked = MLP(64, [32] * 30, 10, weight_init=initialization.xavier_normal, rng=seed)
        scaled = around(seed, lambda linear: Residual(linear(), ReLU(), linear(), scale=0.0))
        assert fit(stacked, images, labels, seed=seed)[-1] > 2.29
        assert fit(scaled, images, labels, seed=seed)[-1] < 0.2
        assert accuracy(scaled, images[:1400], labels[:1400]) > 0.95 > 0.2 > accuracy(stacked, images[:1400], labels[:1400])


def test_normalization_alone_multiplies_squared_gradients_by_pi_over_pi_minus_one(digits):
    images, labels, _ = digits
    growths = []
    for seed in range(3):
        seen, h = [], Tensor(images[:200])
        for module in MLP(64, [100] * 30, 10, norm="batch", rng=seed):
            h = module(h)
            if isinstance(module, Linear):
                h.retain_grad()
                seen.append(h)
        cross_entropy(h, labels[:200]).backward()
        sizes = [np.mean(t.grad.numpy() ** 2) for t in seen[5:-1]]     # the digits themselves are not normal
        growths.append((sizes[0] / sizes[-1]) ** (1 / (len(sizes) - 1)))
    assert abs(np.mean(growths) - np.pi / (np.pi - 1)) < 0.06


def test_which_residual_start_is_better_depends_on_the_rate(digits):
    "At 0.003 the plain sum is ahead of a factor from zero; at 0.01 it overflows and the factor does not."
    images, labels, _ = digits

    def end(seed, lr, epochs, **scale):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fit(around(seed, lambda linear: Residual(linear(), ReLU(), linear(), **scale)), images, labels, epochs, lr, seed)[-1]

    for seed in range(2):
        assert end(seed, 0.003, 3) < 0.7 * end(seed, 0.003, 3, scale=0.0)
        assert np.isfinite(end(seed, 0.01, 5, scale=0.0))
    assert sum(not end(seed, 0.01, 5) < 1 for seed in range(4)) >= 2


@pytest.mark.parametrize("bias, law", [(0, 1.467), (1, 1.120), (2, 1.018), (3, 1.001)])
def test_a_bias_of_batch_norm_lets_the_gradient_grow_less(digits, bias, law):
    images, labels, _ = digits
    z = np.linspace(-12, 12, 100_001)
    density, passed = np.exp(-(z**2) / 2), np.maximum(z + bias, 0)
    variance = np.average(passed**2, weights=density) - np.average(passed, weights=density) ** 2
    assert abs(np.average(z > -bias, weights=density) / variance - law) < 1e-3
    model, seen, h = MLP(64, [128] * 31, 10, norm="batch", rng=0), [], Tensor(images[:200])
    for module in model:
        if isinstance(module, BatchNorm1d):
            module.bias.data[...] = bias
        h = module(h)
        if isinstance(module, Linear):
            h.retain_grad()
            seen.append(h)
    cross_entropy(h, labels[:200]).backward()
    sizes = [np.mean(t.grad.numpy() ** 2) for t in seen[5:-1]]
    assert -0.03 < (sizes[0] / sizes[-1]) ** (1 / (len(sizes) - 1)) - law < 0.08


def test_a_sum_keeps_the_angles_that_hes_stack_loses(digits):
    images, _, _ = digits

    def mean_cosine(model):
        with no_grad():
            h = model[:-1](Tensor(images[:300])).numpy()
        unit = h / np.linalg.norm(h, axis=1, keepdims=True)
        return (np.sum(unit.sum(0) ** 2) - 300) / 300 / 299

    stacks = [mean_cosine(MLP(64, [32] * 31, 10, weight_init=initialization.he_normal, rng=seed)) for seed in range(3)]
    sums = {scale: [mean_cosine(around(seed, lambda linear, s=scale: Residual(linear(), ReLU(), linear(), scale=s))) for seed in range(3)]
            for scale in (0.0, 1.0)}
    assert np.median(stacks) > 0.9 and max(sums[0.0]) < 0.2 and np.median(sums[1.0]) < 0.8


def test_windows_know_what_a_neighborhood_is(digits):
    """On two splits: ahead of the dense network of its size, and of itself on shuffled pixels; level with ten times as many weights."""
    from deepnotes.convolution import Conv2d, MaxPool2d
    from deepnotes.optimizers import Adam

    space = {"np": np, "load_digits": load_digits, "Tensor": Tensor, "Conv2d": Conv2d, "MaxPool2d": MaxPool2d, "Adam": Adam,
             "labels": digits[1], "finished": layers, "accuracy": accuracy, "cross_entropy": cross_entropy}
    space |= {name: getattr(layers, name) for name in layers.__all__}
    for start in ("def windowed", "def test_accuracy("):
        (cell,) = [c for c in code_cells("06_layers") if start in c]
        exec(cell.split("\n\n\nscores =")[0], space)
    scores = {name: np.mean([space["test_accuracy"](*rival, split, 0.01) for split in range(2)]) for name, rival in space["rivals"].items()}
    large, small, windows, shuffled = scores.values()
    assert windows > small and windows > shuffled + 1 and windows > large - 2


def test_learned_parameters_alone_do_not_make_the_network(digits):
    _, labels, raw = digits
    trained, fresh = (MLP(64, [64], 10, norm="batch", rng=seed) for seed in (0, 1))
    fit(trained, raw, labels, lr=0.05)
    complete = accuracy(trained, raw[1400:], labels[1400:])
    fresh.load_state_dict({name: p.numpy() for name, p in trained.named_parameters()}, strict=False)
    assert accuracy(fresh, raw[1400:], labels[1400:]) < complete - 0.05
    fresh.load_state_dict(trained.state_dict())
    np.testing.assert_array_equal(fresh(Tensor(raw)).numpy(), trained(Tensor(raw)).numpy())


@pytest.fixture(scope="module")
def space(digits):
    images, labels, _ = digits

    def fit_here(model, epochs=10, lr=0.01, seed=0):
        return fit(model, images, labels, epochs, lr, seed)

    space = {"np": np, "itertools": itertools, "Tensor": Tensor, "autograd": autograd, "activations": activations,
             "fit": fit_here, **{name: getattr(layers, name) for name in layers.__all__}}
    for cell in code_cells("06_layers"):
        if "\ndef check_" in cell:
            exec(cell, space)
    return space


@checked("06_layers")
def test_the_skeleton_is_refused_and_the_solution_accepted(space, exercise):
    try_exercise(exercise, dict(space))


class NoLength(Module):
    "The direction only."

    def __init__(self, n, m):
        self.v, self.g = layers.Parameter(np.ones((n, m), "float32")), layers.Parameter(np.ones(m, "float32"))

    def forward(self, x):
        return x @ self.v * self.g


def folds_in_place(linear, norm):
    factor = norm.weight.numpy() / np.sqrt(norm.running_var + norm.eps)
    linear.weight.data = linear.weight.numpy() * factor
    linear.bias.data = (linear.bias.numpy() - norm.running_mean) * factor + norm.bias.numpy()
    return linear


def leaves_hooks(model, x):
    bad = []
    for path, module in model.named_modules():
        if path:
            module.register_forward_hook(lambda m, a, y, path=path: bad.append(path) if not np.isfinite(y.numpy()).all() else None)
    model(x)
    return bad[0] if bad else None


class TwoTables(Module):
    def __init__(self, n, d):
        self.table = layers.Embedding(n, d, rng=0)
        self.copy = self.table.weight.numpy().T

    def forward(self, x):
        return self.table(x) @ self.copy


class NoLink(Module):
    "A table that the second use does not teach."

    def __init__(self, n, d):
        self.table = layers.Embedding(n, d, rng=0)

    def forward(self, x):
        return self.table(x) @ self.table.weight.detach().T


class Untrained(Module):
    "Weight normalization with a length that no gradient reaches."

    def __init__(self, n, m):
        self.v, self.g = layers.Parameter(np.ones((n, m), "float32")), layers.Parameter(np.ones(m, "float32"))

    def forward(self, x):
        return x @ (self.v / autograd.sqrt((self.v * self.v).sum(0)) * self.g.detach())


class ByUnit(Module):
    "Normalized over the batch in place of the group."

    def __init__(self, groups, n):
        self.norm = layers.BatchNorm1d(n)

    def forward(self, x):
        return self.norm(x)


WRONG = [
    ("check_count", 235_000), ("check_count", 784 + 256 + 128 + 10), ("check_dropout", (3, 9 * 0.2)), ("check_dropout", (2.4, 2.25)),
    ("check_gradients", ([[1, 3], [10, 30]], [[21], [-1]], [1])), ("check_gradients", ([[1, 3], [10, 30]], [21, -1], [11])),
    ("check_memory", 43), ("check_memory", 45), ("check_direction", NoLength), ("check_direction", Untrained),
    ("check_fold", folds_in_place), ("check_fold", lambda linear, norm: layers.Sequential(linear, norm)),
    ("check_expected", lambda X, y, w, p: np.sum((y - X @ w) ** 2) + p / (1 - p) * np.sum(w**2)),
    ("check_expected", lambda X, y, w, p: np.mean((y - X @ w) ** 2) + p / (1 - p) * np.sum(w**2 * (X**2).sum(0))),
    ("check_first_bad", leaves_hooks), ("check_first_bad", lambda model, x: None), ("check_tied", TwoTables), ("check_tied", NoLink),
    ("check_groups", lambda groups, n: layers.BatchNorm1d(n)), ("check_groups", ByUnit),
    ("check_order", lambda where, depth, seed: 0.5), ("check_order", lambda where, depth, seed: {"before": 0.5, "after": 0.4}[where]),
]


@pytest.mark.parametrize("check, wrong", WRONG)
def test_checks_refuse_wrong_answers(space, check, wrong):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AssertionError, match=" "):
            space[check](wrong)
